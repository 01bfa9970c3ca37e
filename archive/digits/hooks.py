"""What a digit request must satisfy beyond its signature."""

import numpy

from handlers.errors import RequestError

# Twice the area of a triangle of corners, relative to the square of the longest side, under which it counts as flat:
# the homography is then so ill-conditioned that its pixels mean nothing.
FLAT = 1e-3


def preprocess(inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """Refuses an image or corners the model cannot read.

    Args:
        inputs: `image` float32 [H, W] and `corners` float32 [4, 2].

    Raises:
        RequestError: naming `image` or `corners`.
    """
    check_image(inputs["image"])
    check_corners(inputs["corners"], *inputs["image"].shape)
    return inputs


def check_image(image: numpy.ndarray) -> None:
    """Raises `RequestError` for an image of no pixels or with values outside 0 to 255."""
    if image.size == 0:
        raise RequestError("'image' has no pixels", field="image")
    if not (image.min() >= 0 and image.max() <= 255):  # also false for NaN
        raise RequestError("'image' must hold numbers from 0 to 255", field="image")


def check_corners(corners: numpy.ndarray, height: int, width: int) -> None:
    """Raises `RequestError` unless the corners form a convex quadrilateral, in order, that touches the image."""
    if not numpy.isfinite(corners).all():
        raise RequestError("'corners' must be finite numbers", field="corners")
    points = corners.astype(numpy.float64)
    edges = numpy.roll(points, -1, axis=0) - points
    following = numpy.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    longest = (edges**2).sum(axis=1).max()
    # Four turns of a quadrilateral leave out no triangle of its corners.
    if (numpy.abs(turns) <= FLAT * longest).any():
        raise RequestError("'corners': three of the four points lie on a line", field="corners")
    if not (turns > 0).all():
        raise RequestError(
            "'corners' must be the digit's top-left, top-right, bottom-right and bottom-left, in this order",
            field="corners",
        )
    low, high = points.min(axis=0), points.max(axis=0)
    if (high < 0).any() or (low > (width - 1, height - 1)).any():
        raise RequestError(f"'corners' lie outside the image of {width} x {height} pixels", field="corners")
