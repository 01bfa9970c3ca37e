"""`opserve_run --repeat` on the digit reader against the same ScriptModule in Python."""

import re
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator

import numpy
import torch
from PIL import Image

import opserve_ops
from archive.digits.build import SAMPLE_CORNERS
from archive.repository import BUILD
from benchmarks.common.comparison import Comparison, SelfTimed

PROGRAM = BUILD / "bin" / "opserve_run"
MODEL = BUILD / "models" / "digits" / "digits.pt"
# Those of opserve_run, which reports the median of the measured calls.
WARM_UP_CALLS, CALLS = 10, 300


def _run(folder: str, *options: object) -> str:
    command = [PROGRAM, MODEL, "--ops", opserve_ops.library_path()]
    command += ["--input", f"{folder}/image.npy", f"{folder}/corners.npy", *options]
    result = subprocess.run([str(word) for word in command], check=False, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{PROGRAM} failed: {result.stderr.strip()}")
    return result.stdout


def _parse_median(text: str, threads: int) -> float:
    """Reads the median in milliseconds from the output; raises ValueError if it is of another measurement."""
    found = re.search(r"^latency_ms .*\bmedian=(\S+) .*\bcalls=(\d+) threads=(\d+) ", text, re.MULTILINE)
    if found is None or (int(found[2]), int(found[3])) != (CALLS, threads):
        raise ValueError(f"{PROGRAM} did not print the latency of {CALLS} calls with {threads} threads: {text!r}")
    return float(found[1])


def comparisons(*, quick: bool) -> Iterator[Comparison]:
    """Generates the comparison."""
    for path in (PROGRAM, MODEL):
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: `make ext train MODEL=digits` makes it")
    photo = MODEL.parent / "sample" / "request" / "image.png"
    image = numpy.asarray(Image.open(photo), dtype=numpy.float32)[None]
    corners = numpy.asarray([SAMPLE_CORNERS], dtype=numpy.float32)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.load(MODEL)
        numpy.save(f"{folder}/image.npy", image)
        numpy.save(f"{folder}/corners.npy", corners)
        inputs = (torch.from_numpy(image), torch.from_numpy(corners))

        def run_program() -> tuple[numpy.ndarray, ...]:
            _run(folder, "--output", f"{folder}/label.npy", f"{folder}/probabilities.npy")
            return numpy.load(f"{folder}/label.npy"), numpy.load(f"{folder}/probabilities.npy")

        def time_program(threads: int) -> float:
            text = _run(folder, "--repeat", CALLS, "--threads", threads)
            return _parse_median(text, threads) * 1e-3

        def time_python(threads: int) -> float:
            for _ in range(WARM_UP_CALLS):
                model(*inputs)
            seconds = []
            for _ in range(CALLS):
                begin = time.perf_counter()
                model(*inputs)
                seconds.append(time.perf_counter() - begin)
            return statistics.median(seconds)

        yield Comparison(
            subject="opserve_run, digits",
            baseline="the same ScriptModule in Python",
            case=f"{image.shape[1]}x{image.shape[2]} photograph",
            ours=SelfTimed(run_program, time_program),
            forms={"model(image, corners)": SelfTimed(lambda: model(*inputs), time_python)},
            goal=1.0,
            floor=1.0,
        )
