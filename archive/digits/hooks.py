"""What a digit request must satisfy beyond its signature, in TorchScript: both workers run it."""

import math

import torch
from torch import nn


def check_image(image: torch.Tensor) -> None:
    """Raises `ValueError` for an image of no pixels or with values outside 0 to 255."""
    if image.numel() == 0:
        raise ValueError("'image' has no pixels")
    low, high = torch.aminmax(image)
    if not (float(low) >= 0 and float(high) <= 255):  # also false for NaN
        raise ValueError("'image' must hold numbers from 0 to 255")


def check_corners(corners: torch.Tensor, height: int, width: int) -> None:
    """Raises `ValueError` unless the corners form a convex quadrilateral, in order, that touches the image."""
    points: list[list[float]] = corners.tolist()
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError("'corners' must be finite numbers")
    longest = 0.0
    edges: list[tuple[float, float]] = []
    for index, (x, y) in enumerate(points):
        following = points[(index + 1) % 4]
        edge = following[0] - x, following[1] - y
        longest = max(longest, edge[0] * edge[0] + edge[1] * edge[1])
        edges.append(edge)
    # Twice the area of a triangle of corners under which it counts as flat: the homography is then so ill-conditioned
    # that its pixels mean nothing.
    flat = 1e-3 * longest
    convex = True
    for index, edge in enumerate(edges):
        after = edges[(index + 1) % 4]
        turn = edge[0] * after[1] - edge[1] * after[0]
        # Four turns of a quadrilateral leave out no triangle of its corners.
        if abs(turn) <= flat:
            raise ValueError("'corners': three of the four points lie on a line")
        convex = convex and turn > 0
    if not convex:
        raise ValueError(
            "'corners' must be the digit's top-left, top-right, bottom-right and bottom-left, in this order"
        )
    xs, ys = [x for x, _ in points], [y for _, y in points]
    if max(xs) < 0 or max(ys) < 0 or min(xs) > width - 1 or min(ys) > height - 1:
        raise ValueError(f"'corners' lie outside the image of {width} x {height} pixels")


class DigitHooks(nn.Module):
    """The hooks of `digits` and `digits_onnx`; `build.py` writes them to `hooks.pt`."""

    @torch.jit.export
    def preprocess(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Refuses an image or corners that the model cannot read.

        Args:
            inputs: `image` float32 [H, W] and `corners` float32 [4, 2].

        Raises:
            ValueError: its message begins with the name of the input that is at fault.
        """
        image = inputs["image"]
        check_image(image)
        check_corners(inputs["corners"], image.size(0), image.size(1))
        return inputs
