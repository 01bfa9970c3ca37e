"""Trains and exports `digits`: `python -m archive.digits.build --output build/models/digits`."""

import io
import json
from pathlib import Path

import numpy
import torch
from PIL import Image

import opserve_ops  # noqa: F401  registers the operators of the model
from archive.building.export import save_torchscript
from archive.building.output import BuildError, run_build, write_sample_parts
from archive.digits.hooks import DigitHooks
from archive.digits.model import DigitReader
from archive.digits.photos import Digits, load_split, photograph
from archive.digits.train import TEST_SIZES, accuracy, train

TEST_SEED = 1_000_003
SAMPLE_SEED = 11
# (height, width) of the sample photograph, and where the digit is in it: seen a little from the side.
SAMPLE_SIZE = (240, 320)
SAMPLE_CORNERS = [[92.0, 50.5], [214.0, 38.0], [238.5, 182.0], [70.0, 205.0]]
MINIMUM_ACCURACY = 0.97


def build(folder: Path) -> None:
    """Writes `digits.pt`, `hooks.pt`, `weights.pt`, `metrics.json` and `sample/` into `folder`.

    Raises:
        BuildError: the trained model reads too few of the held-out digits.
    """
    training, held_out = load_split()
    print(f"digits: training on {len(training)} digits under random homographies", flush=True)
    model = train(training)
    share = accuracy(model, held_out, TEST_SEED)
    trials = len(held_out) * len(TEST_SIZES)
    print(f"digits: accuracy {share:.2%} on {len(held_out)} held-out digits, {trials} unseen homographies", flush=True)
    if share < MINIMUM_ACCURACY:
        raise BuildError(f"digits: accuracy {share:.2%}, less than the required {MINIMUM_ACCURACY:.0%}")
    metrics = {"accuracy": share, "held_out_digits": len(held_out), "homographies": trials}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    torch.save(model.state_dict(), folder / "weights.pt")
    save_torchscript(model, folder / "digits.pt")
    save_torchscript(DigitHooks(), folder / "hooks.pt")
    write_photo_sample(model, held_out, folder / "sample")


def write_photo_sample(model: DigitReader, digits: Digits, folder: Path) -> None:
    """Writes a held-out digit photographed at an angle, its corners, and the eager model's answer."""
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    corners = torch.tensor([SAMPLE_CORNERS])
    image = photograph(digits.ink[:1], corners, *SAMPLE_SIZE, generator)
    with torch.inference_mode():
        label, probabilities = model(image, corners)
    if label.item() != digits.label[0].item():
        raise BuildError(f"digits: the sample, a {digits.label[0].item()}, is read as {label.item()}")
    parts = {
        "image.png": encode_png(image[0].numpy().astype(numpy.uint8)),
        "corners.json": json.dumps(SAMPLE_CORNERS).encode() + b"\n",
    }
    write_sample_parts(folder, parts, {"label": label.item(), "probabilities": probabilities[0].numpy()})


def encode_png(pixels: numpy.ndarray) -> bytes:
    """A grey PNG of uint8 [H, W]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    run_build(build)
