"""Trains the digit reader on photographs of which no two are the same, and measures it on held-out digits."""

import sys
import time

import torch
from torch import nn

from archive.digits.model import DigitReader
from archive.digits.photos import Digits, photograph, random_corners

SEED = 7
EPOCHS = 40
BATCH = 64
# The error of corners that a person or a detector marks, relative to the photograph's side.
CORNER_NOISE = 0.008
TRAINING_SIDE = 64
# (height, width) of the photographs it is measured on; it is trained on none of these sizes.
TEST_SIZES = ((96, 128), (240, 320), (72, 56))


def train(digits: Digits) -> DigitReader:
    """A trained reader in eval mode, the same on any number of cores. Progress goes to stderr."""
    # Sums over several threads round differently with their number; the batches are too small for them anyway.
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = DigitReader().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    steps = EPOCHS * (len(digits) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    started = time.monotonic()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(digits), generator=generator)
        total = 0.0
        batches = order[: len(order) // BATCH * BATCH].split(BATCH)
        for batch in batches:
            image, corners = _training_photos(digits.ink[batch], generator)
            loss = nn.functional.cross_entropy(model.logits(image, corners), digits.label[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        _progress(epoch + 1, total / len(batches), time.monotonic() - started)
    return model.eval()


def _training_photos(ink: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    corners = random_corners(len(ink), TRAINING_SIDE, TRAINING_SIDE, generator)
    image = photograph(ink, corners, TRAINING_SIDE, TRAINING_SIDE, generator)
    marked = corners + CORNER_NOISE * TRAINING_SIDE * torch.randn(corners.shape, generator=generator)
    return image, marked


def _progress(epoch: int, loss: float, seconds: float) -> None:
    end = "\n" if epoch == EPOCHS or not sys.stderr.isatty() else ""
    if end == "\n" and epoch % 5 and epoch != EPOCHS:
        return
    print(f"\r  epoch {epoch:3d}/{EPOCHS}  loss {loss:.3f}  {seconds:5.1f} s", end=end, file=sys.stderr, flush=True)


@torch.inference_mode()
def accuracy(model: nn.Module, digits: Digits, seed: int) -> float:
    """The share of `digits` that is read correctly, each once per size of `TEST_SIZES` under a random homography.

    Args:
        model: takes (image, corners), returns (label, probabilities).
        digits: the digits to photograph.
        seed: of the homographies; a seed that training does not use gives others.
    """
    generator = torch.Generator().manual_seed(seed)
    right = 0
    for height, width in TEST_SIZES:
        for ink, label in zip(digits.ink.split(64), digits.label.split(64), strict=True):
            corners = random_corners(len(ink), height, width, generator)
            predicted, _ = model(photograph(ink, corners, height, width, generator), corners)
            right += int((predicted == label).sum())
    return right / (len(digits) * len(TEST_SIZES))
