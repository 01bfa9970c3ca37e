"""Photographs of handwritten digits: scikit-learn's 8 x 8 digits under random homographies."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from archive.digits.model import quad_to_square

DIGIT_SIDE = 8
TEST_FRACTION = 0.25
# Which digits are held out does not depend on the training's seed.
SPLIT_SEED = 20


@dataclass(frozen=True)
class Digits:
    """Ink (float32 [n, 8, 8], 0 to 1) and label (int64 [n]) of handwritten digits."""

    ink: torch.Tensor
    label: torch.Tensor

    def __len__(self) -> int:
        return len(self.label)


def load_split() -> tuple[Digits, Digits]:
    """Training and held-out digits, three to one, the same share of every digit in both."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels, labels, test_size=TEST_FRACTION, random_state=SPLIT_SEED, stratify=labels)
    train_pixels, test_pixels, train_labels, test_labels = map(torch.as_tensor, parts)
    return _digits(train_pixels, train_labels), _digits(test_pixels, test_labels)


def _digits(pixels: torch.Tensor, labels: torch.Tensor) -> Digits:
    return Digits((pixels.float() / 16.0).reshape(-1, DIGIT_SIDE, DIGIT_SIDE), labels.long())


def random_corners(count: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Corners of random convex quadrilaterals inside an image.

    A square of 40 to 75 % of the image's shorter side, rotated by any angle, each corner then moved by up to 18 % of
    the side, and shifted so that all of it is in the image.

    Returns:
        float32 [count, 4, 2], (x, y) of the digit's top-left, top-right, bottom-right and bottom-left.
    """

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    side = (0.4 + 0.35 * uniform(count, 1, 1)) * min(height, width)
    angle = 2 * torch.pi * uniform(count)
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).reshape(count, 2, 2)
    square = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = side * ((square + 0.36 * (uniform(count, 4, 2) - 0.5)) @ turn)
    low, high = corners.amin(dim=1, keepdim=True), corners.amax(dim=1, keepdim=True)
    limit = torch.tensor([width - 1.0, height - 1.0])
    # A rotated quadrilateral that is larger than the image is scaled down.
    fit = ((limit - 2) / (high - low)).amin(dim=2, keepdim=True).clamp(max=1.0)
    corners, low, high = corners * fit, low * fit, high * fit
    return corners - low + 1 + uniform(count, 1, 2) * (limit - 2 - (high - low))


def photograph(
    ink: torch.Tensor, corners: torch.Tensor, height: int, width: int, generator: torch.Generator
) -> torch.Tensor:
    """Grey images of digits at the given corners.

    Paper and ink get random brightness, and either may be darker; light falls off across the image; the sensor adds
    noise; values are rounded to 8 bits.

    Args:
        ink: float32 [N, 8, 8], 0 to 1.
        corners: float32 [N, 4, 2], as `random_corners` gives them.
        height: pixels of the images.
        width: pixels of the images.
        generator: source of the randomness.

    Returns:
        float32 [N, height, width], whole numbers 0 to 255.
    """
    count = len(ink)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    to_photo = torch.linalg.inv(quad_to_square(corners, DIGIT_SIDE))
    shape = torch.ops.opserve.warp_perspective(ink.unsqueeze(1), to_photo, [height, width]).squeeze(1)
    dark, contrast = uniform(5, 100), uniform(60, 150)
    inverted = torch.rand(count, 1, 1, generator=generator) < 0.5
    level = torch.where(inverted, shape, 1 - shape)
    across = torch.linspace(-1, 1, width).reshape(1, 1, -1) * uniform(-0.15, 0.15)
    down = torch.linspace(-1, 1, height).reshape(1, -1, 1) * uniform(-0.15, 0.15)
    noise = torch.randn(count, height, width, generator=generator) * uniform(0, 8)
    return ((dark + contrast * level) * (1 + across + down) + noise).round().clamp(0, 255)
