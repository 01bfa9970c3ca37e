"""warp_perspective against OpenCV, grid_sample and kornia."""

from collections.abc import Iterator
from functools import partial

import cv2
import numpy
import torch
from kornia.geometry.transform import warp_perspective as kornia_warp
from torch import Tensor

import opserve_ops
from benchmarks.common.comparison import Comparison

SIZES = ((256, 256), (512, 512), (720, 1280), (1080, 1920))
CHANNELS = (1, 3)
# The divisor at the far corner (how much smaller things are there), and the rotation in degrees.
VIEWS = {"mild": (1.05, 3.0), "strong": (1.5, 20.0)}


def homography(view: str, h: int, w: int) -> Tensor:
    """Makes a matrix from source to destination about the centre: float64 [3, 3]."""
    divisor, degrees = VIEWS[view]
    turn = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    c, s, x, y = turn.cos().item(), turn.sin().item(), (w - 1) / 2, (h - 1) / 2
    bend = (divisor - 1.0) / 2
    rows = [[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [bend / w, bend / h, 1.0]]
    return torch.tensor(rows, dtype=torch.float64)


def smooth_picture(channels: int, h: int, w: int) -> Tensor:
    """Makes a picture that looks the same to baselines with coarser coordinates: float32 [1, C, H, W]."""
    x, y = torch.arange(w) / 40, torch.arange(h)[:, None] / 30
    return torch.stack([1.0 + 0.5 * torch.sin(x + i) * torch.cos(y - i) for i in range(channels)])[None].contiguous()


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparisons."""
    for h, w in ((256, 256),) if quick else SIZES:
        for channels in CHANNELS:
            for view in VIEWS:
                yield from _compare(view, channels, h, w)


def _compare(view: str, channels: int, h: int, w: int) -> Iterator[Comparison]:
    image, matrix = smooth_picture(channels, h, w), homography(view, h, w)
    photo = numpy.ascontiguousarray(image[0].permute(1, 2, 0).squeeze(2).numpy())
    cv_matrix, single = matrix.numpy(), matrix.float()[None]
    x, y = torch.arange(w).expand(h, w), torch.arange(h)[:, None].expand(h, w)
    pixels = torch.stack((x, y, torch.ones_like(x)), 2).float().view(-1, 3)
    normalise = torch.tensor([[2 / (w - 1), 0, -1], [0, 2 / (h - 1), -1], [0, 0, 1]], dtype=torch.float64)

    def opencv() -> numpy.ndarray:
        warped = cv2.warpPerspective(photo, cv_matrix, (w, h))
        return warped if channels == 1 else warped.transpose(2, 0, 1)

    def grid_sample() -> Tensor:
        back = (normalise @ torch.linalg.inv(matrix)).float()
        source = pixels @ back.T
        grid = (source[:, :2] / source[:, 2:]).view(1, h, w, 2)
        return torch.nn.functional.grid_sample(image, grid, align_corners=True)

    compare = partial(
        Comparison,
        subject="warp_perspective",
        case=f"{channels}x{h}x{w} {view}",
        ours=lambda: opserve_ops.warp_perspective(image, matrix, (h, w)),
        set_threads=cv2.setNumThreads,
        # Each pixel is read and written once.
        work=2.0 * image.nbytes,
        work_unit="byte",
        # Baselines compute positions in float32, up to 1e-4 pixels off, and OpenCV rounds at the border.
        tolerance=1e-2,
    )
    yield compare(baseline="cv2.warpPerspective", forms={"HxWxC": opencv}, goal=1.3, floor=1.0)
    yield compare(baseline="grid_sample", forms={"grid built": grid_sample}, goal=5.0)
    forms = {"warp_perspective": lambda: kornia_warp(image, single, (h, w), align_corners=True)}
    yield compare(baseline="kornia", forms=forms, goal=5.0)
