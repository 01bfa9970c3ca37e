"""No request exceeds the bounds of a worker: each hostile one is decoded in a separate process, which is measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Four times the largest legal request, and the longest that one may be decoded.
MAX_MIB, MAX_SECONDS = 4 * 256, 5.0

CHILD = """
import gc, json, sys, time
import numpy
from PIL import Image
from handlers.codecs.decode import decode_request
from handlers.errors import RequestError
from handlers.codecs.request import Part, Request
from handlers.signature import TensorSpec
from tests.support import hostile_archives as archives
from tests.support import hostile_images as images


def spec(dtype, shape=(-1,), name="x"):
    return TensorSpec(name, numpy.dtype(dtype), shape)


def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) // 1024


def body(content, **headers):
    return Request({"body": Part(bytearray(content))}, headers)


def cost(request, *specs):
    gc.disable()  # what lives on in a cycle would live on
    decode_request(Request({"x": Part(images.png(8, 8))}), (spec("uint8", (-1, -1)),), 100)  # imports
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins here
    before, begun = status("VmRSS"), time.process_time()
    try:
        shape = [array.shape for array in decode_request(request, specs, 50_000_000).inputs.values()]
        outcome = "200 " + str(shape)
    except RequestError as error:
        outcome = f"{error.status} {error.message}"
    seconds = time.process_time() - begun
    print(json.dumps({"outcome": outcome[:300], "mib": status("VmHWM") - before, "seconds": seconds}))


"""

CHW, GREY = 'spec("uint8", (3, -1, -1))', 'spec("float32", (-1, -1))'
MEGAPIXELS = "49_000_000"

REQUESTS = {
    "the largest PNG": (f"body(images.png_of_all_samples({MEGAPIXELS})), {CHW}", "200"),
    "a PNG that is all rows": (f"body(images.png(49, 1_000_000, colour=6)), {CHW}", "200"),
    "a PNG that is all columns": (f"body(images.png(1_000_000, 49, colour=6)), {CHW}", "200"),
    "a PNG of impossible depth": (f"body(images.png_of_impossible_depth()), {CHW}", "400"),
    "a PNG of slow blocks": (f"body(images.png_of_slow_blocks(3_000_000)), {GREY}", "413|400"),
    "a PNG of many chunks": (f"body(images.png_of_many_chunks(5_000_000)), {GREY}", "413"),
    "a PNG of text bombs": (f"body(images.png_of_text_bombs()), {GREY}", "200"),
    "a JPEG of many scans": (f"body(images.jpeg_of_many_scans(490, 7000, 7000)), {CHW}", "413"),
    "a small JPEG of many scans": (f"body(images.jpeg_of_many_scans(120, 2000, 2000)), {CHW}", "200"),
    "a JPEG of the most scans that are accepted": (f"body(images.jpeg_of_many_scans(20, 7000, 7000)), {CHW}", "200"),
    "a JPEG of 2,000 scans": (f"body(images.jpeg_of_many_scans(2000, 2000, 2000)), {CHW}", "413"),
    "a JPEG of many segments": (f"body(images.jpeg_of_many_segments(16_000_000)), {CHW}", "413"),
    "a JPEG of much EXIF": (f"body(images.jpeg_of_large_exif()), {CHW}", "200"),
    "gzip of zeros": ('body(archives.gzip_bomb(300 << 20), **{"Content-Encoding": "gzip"}), spec("uint8")', "413"),
    "gzip of slow blocks": (
        'body(archives.gzip_of_slow_blocks(3_000_000), **{"Content-Encoding": "gzip"}), spec("uint8")',
        "413|400",
    ),
    "the largest .npz": ('body(archives.npz_bomb("<f8", x=(32 << 20,))), spec("int64")', "413"),
    "an .npz just under the bound": ('body(archives.npz_bomb("<f8", x=((32 << 20) - 99,))), spec("int64")', "200"),
    "two inputs of bytes that widen": (
        'body(archives.npz_bomb("u1", x=(127 << 20,), y=(127 << 20,))), spec("float64"), spec("float64", name="y")',
        "413",
    ),
    "an .npy that widens": (
        'body(archives.npy_header("<f4", (60 << 18,)) + bytes(60 << 20)), spec("float64")',
        "200",
    ),
    "bytes that widen": (
        'body(archives.npy_header("u1", (60 << 20,)) + bytes(60 << 20)), spec("float64")',
        "413",
    ),
    "members one over the other": (
        'body(archives.npz_of_overlapping_members(["x", "y"], "u1", (200 << 20,))), spec("u1"), spec("u1", name="y")',
        "413",
    ),
    "an .npz of many members": ('body(archives.npz_of_many_members(65_000)), spec("uint8")', "400"),
}


def cost(setup: str) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", f"{CHILD}cost({setup})"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_stays_within_the_bounds(name):
    setup, expected = REQUESTS[name]
    found = cost(setup)
    assert found["outcome"][:3] in expected.split("|"), found
    assert found["mib"] < MAX_MIB, found
    assert found["seconds"] < MAX_SECONDS, found


def test_refused_archives_leave_nothing_behind():
    """Ten of 114 MiB each when unpacked, in a shape that the model refuses, without garbage collection in between."""
    script = f"""{CHILD}
content = archives.npz_bomb("<f4", x=(15_000_000,))
gc.disable()
peaks = []
for turn in range(10):
    try:
        decode_request(body(content), (spec("float32", (3, -1)),), 1)
    except RequestError as error:
        assert error.status == 400, error
    peaks.append(status("VmRSS"))
print(json.dumps([peaks[2], max(peaks[3:])]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    child = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    early, late = json.loads(child.stdout)
    assert late < early + 64
