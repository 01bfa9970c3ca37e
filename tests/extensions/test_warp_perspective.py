"""How exact warp_perspective is in float32: where a pixel is sampled, on every way the kernel has."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import opserve_ops
from archive.repository import ROOT

F64 = torch.float64


def zigzag(h: int, w: int) -> Tensor:
    """Neighbours differ by 1 at most, also from the zeros outside: a sample t pixels off is off by t at most."""

    def wave(length: int) -> Tensor:
        position = torch.arange(length, dtype=F64)
        from_border = torch.minimum(position + 1, length - position)
        return torch.minimum(1 + (16 - (position % 32 - 16).abs()), from_border)

    return torch.minimum(wave(h)[:, None], wave(w))


def rotation(degrees: float, scale: float, h: int, w: int) -> Tensor:
    """About the centre."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    x, y = w / 2, h / 2
    return torch.tensor([[c, -s, x - c * x + s * y], [s, c, y - s * x - c * y], [0, 0, 1]], dtype=F64)


def projective(bend: float, h: int, w: int) -> Tensor:
    turn = rotation(3, 1.05, h, w)
    turn[2] = torch.tensor([bend / w, -bend / h, 1.0])
    return turn


H, W = 1080, 1920
# With t the distance from column 32, the way back is 9 + 0.04·t / (1 - 0.98/32·t), for columns and rows alike: the
# horizon is just beyond the result, and most of the source in the last few pixels before it.
TO_THE_HORIZON = torch.linalg.inv(
    torch.tensor(
        [
            [0.04 - 9 * 0.98 / 32, 0, 9 * 1.98 - 1.28],
            [0.04 - 9 * 0.98 / 32, 0.3, 9 * 1.98 - 1.28],
            [-0.98 / 32, 0, 1.98],
        ],
        dtype=F64,
    )
)
# Name, matrix, size of the result, pixels that a sample may be off.
MAPS = [
    ("identity", torch.eye(3, dtype=F64), (H, W), 0.0),
    ("whole pixels", torch.tensor([[1, 0, 3], [0, 1, -2], [0, 0, 1]], dtype=F64), (H, W), 0.0),
    ("half pixels", torch.tensor([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], dtype=F64), (H, W), 1e-5),
    ("mild", projective(0.05, H, W), (H, W), 1e-5),
    ("2 degrees", rotation(2, 1.0, H, W), (H, W), 1e-5),
    ("30 degrees", rotation(30, 1.0, H, W), (H, W), 1e-5),
    ("90 degrees", rotation(90, 1.0, H, W), (H, W), 1e-5),
    ("upside down", rotation(178, 1.0, H, W), (H, W), 1e-5),
    ("4 times larger", rotation(5, 4.0, H, W), (H, W), 1e-5),
    ("half as large", rotation(1, 0.5, H, W), (H, W), 2e-5),
    ("a third, turned", rotation(40, 0.34, H, W), (H, W), 5e-5),
    ("a fifth", rotation(1, 0.2, H, W), (H, W), 5e-5),
    ("strong", projective(0.5, H, W), (H, W), 5e-5),
    ("horizon", projective(1.5, H, W), (H, W), 5e-5),
    ("corner of a large result", torch.diag(torch.tensor([8.0, 8.0, 1.0], dtype=F64)), (8 * 40, 8 * W), 1e-5),
    # In float64 throughout: further from the middle of their run than float32 holds, or up to the horizon.
    ("a twentieth", rotation(1, 0.05, H, W), (H, W), 1e-6),
    ("to the horizon", TO_THE_HORIZON, (64, 64), 1e-6),
    ("narrow result", rotation(10, 1.0, H, W), (H, 7), 1e-5),
]


def offs() -> dict[str, float]:
    """By map the largest difference between a float32 and a float64 image, beyond the rounding of the values."""
    rounding = 2e-6
    exact = zigzag(H, W)
    found = {}
    for name, matrix, size, _ in MAPS:
        got = opserve_ops.warp_perspective(exact.float(), matrix, size)
        off = (got.double() - opserve_ops.warp_perspective(exact, matrix, size)).abs().max().item()
        found[name] = max(0.0, off - rounding)
    return found


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_samples_are_where_they_should_be(capability: str) -> None:
    code = (
        "import tests.extensions.test_warp_perspective as t; print(t.opserve_ops.cpu_capability(), t.offs(), sep='|')"
    )
    environment = {
        "PYTHONPATH": f"{ROOT}/extensions:{ROOT}",
        "OPSERVE_CPU_CAPABILITY": capability,
        "OPSERVE_LIBRARY_DIR": str(opserve_ops.library_path().parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=False, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    ran, found = result.stdout.strip().split("|")
    if ran != capability:
        pytest.skip(f"this processor has {ran} at most")
    found = eval(found)
    limits = {name: limit for name, _, _, limit in MAPS}
    assert found.keys() == limits.keys()
    assert {name: off for name, off in found.items() if off > limits[name]} == {}


@pytest.mark.parametrize("w", [1, 2, 3, 17, 31, 33, 70])
@pytest.mark.parametrize("h", [1, 2, 3, 40])
def test_small_images_and_views(h: int, w: int) -> None:
    """Where whole vectors would pass the end of the image; and rows that overlap or stand still."""
    generator = torch.Generator().manual_seed(h * 100 + w)
    large = torch.rand(3, h + 2, w + 5, generator=generator, dtype=F64)
    views = [
        large[:, 1 : 1 + h, 2 : 2 + w],
        large[:, :1, :w].expand(3, h, w),
        large.flatten().as_strided((3, h, w), (w, 1, 1)),
    ]
    for view in views:
        for matrix in (torch.eye(3), rotation(2, 1.0, h, w), rotation(30, 1.3, h, w), rotation(180, 0.9, h, w)):
            exact = opserve_ops.warp_perspective(view, matrix, (h + 3, w + 70))
            single = view.float().as_strided(view.shape, view.stride()) if view.is_contiguous() else view
            got = opserve_ops.warp_perspective(large_float(single), matrix, (h + 3, w + 70))
            torch.testing.assert_close(got.double(), exact, rtol=0, atol=1e-4)


def large_float(view: Tensor) -> Tensor:
    """The same strides, in float32."""
    storage = torch.empty(sum((size - 1) * stride for size, stride in zip(view.shape, view.stride(), strict=True)) + 1)
    out = storage.as_strided(view.shape, view.stride())
    for index in range(view.size(0)):
        for row in range(view.size(1)):
            out[index, row] = view[index, row]
    return out


def test_large_results_bypass_the_caches_and_are_the_same() -> None:
    """16 MiB and more are stored past the caches; the second result's rows are not aligned to vectors."""
    image = torch.rand(3, 100, 100, generator=torch.Generator().manual_seed(0))
    matrix = rotation(10, 17.0, 100, 100) @ torch.tensor([[1, 0, -45.3], [0, 1, -45.1], [0, 0, 1]], dtype=F64)
    large = opserve_ops.warp_perspective(image, matrix, (1200, 1280))
    for width in (1279, 640):
        part = opserve_ops.warp_perspective(image, matrix, (1200, width))
        assert torch.equal(part, large[:, :, :width])
    assert large.abs().max() > 0


@pytest.mark.parametrize("channels", [2, 4, 5, 9])
@pytest.mark.parametrize("name", ["whole pixels", "mild", "30 degrees", "strong", "to the horizon"])
def test_channels_are_sampled_alike(name: str, channels: int) -> None:
    """Together as each by itself, also where the result is so large that it is stored past the caches."""
    matrix = next(matrix for known, matrix, _, _ in MAPS if known == name)
    image = torch.rand(channels, 400, 528, generator=torch.Generator().manual_seed(channels))
    for size in ((96, 100), (700, 1040)):
        together = opserve_ops.warp_perspective(image, matrix, size)
        alone = torch.stack([opserve_ops.warp_perspective(channel, matrix, size) for channel in image])
        assert torch.equal(together, alone)
