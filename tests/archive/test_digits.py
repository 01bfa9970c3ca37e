"""The digit reader: its geometry, its data, its accuracy, and its exported file."""

import json

import cv2
import numpy
import pytest
import torch

import opserve_ops  # noqa: F401
from archive.digits.hooks import check_corners
from archive.digits.model import DigitReader, quad_to_square
from archive.digits.photos import load_split, photograph, random_corners
from archive.digits.train import accuracy
from archive.repository import BUILD
from handlers.errors import RequestError
from handlers.hooks import load_hooks

FOLDER = BUILD / "models" / "digits"
SIDE = 32


@pytest.fixture(scope="module")
def eager() -> DigitReader:
    model = DigitReader()
    model.load_state_dict(torch.load(FOLDER / "weights.pt", weights_only=True))
    return model.eval()


@pytest.fixture(scope="module")
def scripted() -> torch.jit.ScriptModule:
    return torch.jit.load(FOLDER / "digits.pt")


def photos(count: int, height: int = 60, width: int = 90, seed: int = 3):
    generator = torch.Generator().manual_seed(seed)
    corners = random_corners(count, height, width, generator)
    return photograph(load_split()[1].ink[:count], corners, height, width, generator), corners


def test_quad_to_square_is_opencvs_perspective_transform():
    corners = random_corners(20, 100, 140, torch.Generator().manual_seed(0))
    square = numpy.array([[0, 0], [SIDE - 1, 0], [SIDE - 1, SIDE - 1], [0, SIDE - 1]], dtype=numpy.float32)
    for got, quad in zip(quad_to_square(corners, SIDE), corners, strict=True):
        want = cv2.getPerspectiveTransform(quad.numpy(), square)
        numpy.testing.assert_allclose((got / got[2, 2]).numpy(), want, rtol=1e-4, atol=1e-5)


def test_random_corners_are_convex_and_inside():
    height, width = 50, 80
    for corners in random_corners(500, height, width, torch.Generator().manual_seed(1)):
        check_corners(corners, height, width)
        assert (corners >= 0).all() and (corners <= torch.tensor([width - 1, height - 1])).all()


def test_a_photograph_shows_the_digit_where_its_corners_say(eager):
    """Rectified again, a photograph correlates with the ink it was made of; polarity may be either."""
    ink = load_split()[1].ink[:20]
    image, corners = photos(20, 200, 200)
    seen = eager.rectify(image, corners)[:, 0]
    want = torch.nn.functional.interpolate(ink[:, None], seen.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    pairs = zip(seen.flatten(1), want.flatten(1), strict=True)
    likeness = [abs(numpy.corrcoef(got, expected)[0, 1]) for got, expected in pairs]
    assert min(likeness) > 0.75 and numpy.median(likeness) > 0.95  # noise and falling light cost the rest


def test_the_held_out_digits_are_not_in_the_training_set():
    training, held_out = load_split()
    assert len(training) + len(held_out) == 1797 and len(held_out) == 450
    seen = {ink.numpy().tobytes() for ink in training.ink}
    assert sum(ink.numpy().tobytes() in seen for ink in held_out.ink) == 0


def test_accuracy_on_homographies_of_another_seed(scripted):
    share = accuracy(scripted, load_split()[1], seed=424_242)
    assert share >= 0.97
    assert json.loads((FOLDER / "metrics.json").read_text())["accuracy"] == pytest.approx(share, abs=0.01)


def test_the_exported_file_answers_as_the_eager_model(eager, scripted):
    image, corners = photos(16)
    with torch.inference_mode():
        label, probabilities = eager(image, corners)
        again, served = scripted(image, corners)
    assert torch.equal(label, again)
    torch.testing.assert_close(served, probabilities, rtol=0, atol=1e-6)
    assert (label == load_split()[1].label[:16]).float().mean() > 0.9


def test_polarity_and_contrast_do_not_matter(eager):
    image, corners = photos(16)
    with torch.inference_mode():
        label, _ = eager(image, corners)
        inverted, _ = eager(255 - image, corners)
        faint, _ = eager(100 + image / 3, corners)
    assert (label == inverted).float().mean() > 0.9
    assert torch.equal(label, faint)


SQUARE = [[10, 10], [40, 10], [40, 40], [10, 40]]


@pytest.fixture(scope="module")
def preprocess():
    """The hook of the archive, as a worker calls it: with an image of some size and corners."""
    hook = load_hooks(FOLDER / "hooks.pt", ["image", "corners"]).preprocess

    def call(corners, image=None) -> None:
        inputs = {
            "image": numpy.full((48, 64), 7, numpy.float32) if image is None else image,
            "corners": numpy.array(corners, numpy.float32),
        }
        assert hook(inputs).keys() == inputs.keys()

    return call


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([[10, 10], [20, 10], [40, 10], [10, 40]], "three of the four points lie on a line"),
        ([[5, 5], [5, 5], [5, 5], [5, 5]], "three of the four points lie on a line"),
        ([[10, 10], [20, 20], [30, 30], [40, 40]], "three of the four points lie on a line"),
        ([[float("nan"), 10], [40, 10], [40, 40], [10, 40]], "finite"),
        ([[float("inf"), 10], [40, 10], [40, 40], [10, 40]], "finite"),
        (SQUARE[::-1], "in this order"),
        ([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]], "in this order"),
        ([[x + 500, y] for x, y in SQUARE], "outside the image of 64 x 48 pixels"),
        ([[x, y - 41] for x, y in SQUARE], "outside the image"),
        ([[x * 1e30, y * 1e30] for x, y in SQUARE], "outside the image"),
    ],
)
def test_corners_that_are_no_quadrilateral_are_refused(preprocess, corners, message):
    with pytest.raises(RequestError, match=message) as caught:
        preprocess(corners)
    assert (caught.value.field, caught.value.status) == ("corners", 400)


def test_corners_partly_outside_are_fine(preprocess):
    preprocess([[-5, -5], [40, 0], [90, 70], [0, 40]])


@pytest.mark.parametrize("value", [-1, 256, float("nan"), float("inf")])
def test_pixels_outside_their_range_are_refused(preprocess, value):
    image = numpy.full((48, 64), 7, dtype=numpy.float32)
    image[1, 2] = value
    with pytest.raises(RequestError, match="0 to 255") as caught:
        preprocess(SQUARE, image)
    assert (caught.value.field, caught.value.status) == ("image", 400)
    with pytest.raises(RequestError, match="no pixels"):
        preprocess(SQUARE, image[:0])


def test_both_variants_have_the_same_hooks():
    assert (FOLDER / "hooks.pt").read_bytes() == (BUILD / "models" / "digits_onnx" / "hooks.pt").read_bytes()
