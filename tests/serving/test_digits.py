"""`digits` over HTTP: correct answers, and for every bad request a 4xx in JSON that names the field."""

import io
import json

import numpy
import pytest
import torch
from PIL import Image

import opserve_ops  # noqa: F401
from archive.digits.model import DigitReader
from archive.digits.photos import load_split, photograph, random_corners
from archive.repository import BUILD
from handlers.sample import difference

pytestmark = pytest.mark.server


def is_right(response, expected) -> bool:
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json"
    return difference(response.json(), expected) is None


def test_a_form_with_a_png(digits, sample):
    assert is_right(digits.predict("digits", files=sample.form()), sample.answer)


def test_plain_json(digits, sample):
    assert is_right(digits.predict("digits", json=sample.document()), sample.answer)


def test_a_jpeg(digits, sample):
    buffer = io.BytesIO()
    Image.fromarray(sample.pixels).save(buffer, format="JPEG", quality=95)
    response = digits.predict("digits", files=sample.form(image=buffer.getvalue()))
    assert response.json()["label"] == sample.answer["label"]


def test_the_served_answers_equal_the_eager_models(digits):
    """Within 1e-5, for digits, sizes and homographies that are not in the training data."""
    eager = DigitReader()
    eager.load_state_dict(torch.load(BUILD / "models" / "digits" / "weights.pt", weights_only=True))
    eager.eval()
    generator = torch.Generator().manual_seed(99)
    ink = load_split()[1].ink
    for index, (height, width) in enumerate([(64, 64), (90, 160), (480, 640)] * 4):
        corners = random_corners(1, height, width, generator)
        image = photograph(ink[index : index + 1], corners, height, width, generator)
        with torch.inference_mode():
            label, probabilities = eager(image, corners)
        png = io.BytesIO()
        Image.fromarray(image[0].numpy().astype(numpy.uint8)).save(png, format="PNG")
        form = {"image": ("i.png", png.getvalue()), "corners": ("c", json.dumps(corners[0].tolist()))}
        got = digits.predict("digits", files=form).json()
        assert got["label"] == label.item()
        numpy.testing.assert_allclose(got["probabilities"], probabilities[0], rtol=0, atol=1e-5)


def worker_pids(server) -> list[int]:
    return [worker["pid"] for worker in server.describe("digits")["workers"]]


LINE = [[10, 10], [20, 20], [30, 30], [40, 40]]
NAN = [[float("nan"), 10], [40, 10], [40, 40], [10, 40]]
INFINITE = [[float("inf"), 10], [40, 10], [40, 40], [10, 40]]


@pytest.mark.parametrize(
    ("form", "field", "message"),
    [
        ({"corners": None}, "corners", "missing"),
        ({"image": None}, "image", "missing"),
        ({"corners": json.dumps(LINE).encode()}, "corners", "on a line"),
        ({"corners": json.dumps(NAN).encode()}, "corners", "finite"),
        ({"corners": json.dumps(INFINITE).encode()}, "corners", "finite"),
        ({"corners": b"[[1, 2], [3, 4]]"}, "corners", "[2, 2]"),
        ({"corners": b"[[1, 2], [3"}, "corners", "not valid JSON"),
        ({"corners": b"three"}, "corners", "neither JSON|not valid JSON"),
        ({"image": b"GIF89a no image"}, "image", "neither an image"),
        ({"image": b"\x89PNG\r\n\x1a\n and no more"}, "image", "damaged image: it is cut off before its pixels"),
        ({"image": b""}, "image", "empty"),
        ({"colour": b"1"}, "colour", "not an input"),
    ],
)
def test_a_bad_form_names_the_field(digits, sample, form, field, message):
    check_refused(digits, digits.predict("digits", files=sample.form(**form)), field, message)


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ({"image": [[1, 2], [3]]}, "image", "different lengths"),
        ({"image": [1, 2, 3]}, "image", "[3]"),
        ({"image": [[0, 300]]}, "image", "0 to 255"),
        ({"image": [["a"]]}, "image", "text"),
        ({"image": [[]]}, "image", "no pixels"),
        ({"corners": LINE}, "corners", "on a line"),
        ({"corners": NAN}, "corners", "finite"),
        ({"corners": None}, "corners", "null"),
        ({"corners": {"x": 1}}, "corners", "object"),
        ({"size": 3}, "size", "not an input"),
    ],
)
def test_bad_json_names_the_field(digits, sample, document, field, message):
    body = json.dumps(sample.document(**document))  # Python writes NaN and Infinity
    response = digits.predict("digits", data=body, headers={"Content-Type": "application/json"})
    check_refused(digits, response, field, message)


def check_refused(digits, response, field, message):
    assert 400 <= response.status_code < 500, response.text
    assert response.headers["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert (error["code"], error["field"]) == (response.status_code, field)
    assert any(part in error["message"] for part in message.split("|")), error["message"]


def test_the_worker_survives_bad_requests(digits, sample):
    before = worker_pids(digits)
    for _ in range(5):
        digits.predict("digits", files=sample.form(image=b"junk"))
        digits.predict("digits", data=b"\x00" * 1000)
        digits.predict("digits", data="[" * 50_000, headers={"Content-Type": "application/json"})
    assert is_right(digits.predict("digits", files=sample.form()), sample.answer)
    assert worker_pids(digits) == before


def test_an_image_with_too_many_pixels_is_refused_before_it_is_decoded(digits, sample):
    buffer = io.BytesIO()
    Image.new("L", (9000, 9000)).save(buffer, format="PNG")
    response = digits.predict("digits", files=sample.form(image=buffer.getvalue()))
    assert response.status_code == 413
    assert response.json()["error"]["field"] == "image"


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Basic Zm9v"])
def test_a_wrong_token_is_refused_in_json(digits, sample, token):
    import requests

    headers = {"Authorization": token} if token else {}
    url = f"{digits.server.address('inference')}/predictions/digits"
    response = requests.post(url, files=sample.form(), headers=headers, timeout=60)
    assert 400 <= response.status_code < 500
    assert "token" in response.json()["message"].lower()


def test_an_unknown_model_is_a_404_in_json(digits, sample):
    response = digits.predict("digit", files=sample.form())
    assert response.status_code == 404
    assert "digit" in response.json()["message"]
