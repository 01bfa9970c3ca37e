"""Gives the same requests to both codecs, and finds where they differ."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy

from handlers.codecs.decode import DecodedRequest
from handlers.codecs.negotiation import PLAIN_JSON, ResponseFormat
from handlers.codecs.request import Request
from handlers.codecs.shared_memory import FOLDER
from handlers.errors import RequestError
from tests.native import numbers
from tests.native.cases import make_case
from tests.native.chances import Chances
from tests.native.codecs import NativeCodecs, Outputs, PythonCodecs, describe_request, restore_request
from tests.native.decode_tool import Refusal
from tests.native.models import PREFIX, configure
from tests.native.outcomes import Outcome, comparable, outcome_of

DTYPES = (
    "bool",
    *(f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)),
    "float16",
    "float32",
    "float64",
)
REGION_BYTES = 4096


class Difference(NamedTuple):
    """Where the codecs differ, and what each of them made of it."""

    step: str
    expected: object
    got: object

    def __str__(self) -> str:
        return f"{self.step}\n  Python: {shown(self.expected)}\n  native: {shown(self.got)}"


def shown(value: object) -> str:
    """A text for people, of bounded length."""
    text = str(value)
    return text if len(text) < 2000 else f"{text[:1200]} … {text[-700:]}"


class Regions:
    """The regions of shared memory that requests name: sound ones, and some that must be refused.

    Args:
        prefix: how their names begin.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix or f"{PREFIX}{uuid.uuid4().hex[:12]}-"
        self._content = numpy.random.default_rng(5).bytes(REGION_BYTES - 800) + bytes(800)

    def _path(self, name: str) -> Path:
        return Path(FOLDER, self.prefix + name)

    def __enter__(self) -> Self:
        for name, content in (("in", self._content), ("short", bytes(10)), ("elsewhere", bytes(REGION_BYTES))):
            self._path(name).write_bytes(content)
        self._path("link").symlink_to(self._path("in"))
        self._path("hard").hardlink_to(self._path("elsewhere"))
        self._path("folder").mkdir()
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._path("folder").rmdir()
        for path in Path(FOLDER).glob(f"{self.prefix}*"):
            path.unlink()

    def reset(self) -> None:
        """Makes the region that answers are written to as it was."""
        self._path("out").write_bytes(self._content[::-1])
        self._path("in").write_bytes(self._content)

    def content(self) -> bytes:
        """What is in all of them."""
        return b"".join(self._path(name).read_bytes() for name in ("in", "out", "short", "elsewhere"))


@dataclass
class Counts:
    """How many requests of each kind both accepted or refused alike, and how many they made different things of."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Adds those of another process."""
        self.accepted += other.accepted
        self.refused += other.refused
        self.different += other.different

    def table(self) -> Iterator[str]:
        """A line for each kind of request, and one for all."""
        for kind in sorted(self.accepted.keys() | self.refused.keys() | self.different.keys()):
            yield self._line(kind, self.accepted[kind], self.refused[kind], self.different[kind])
        yield self._line("all", self.accepted.total(), self.refused.total(), self.different.total())

    @staticmethod
    def _line(name: str, accepted: int, refused: int, different: int) -> str:
        total = accepted + refused + different
        return f"{name:24} {total:8} requests: {accepted:8} accepted, {refused:8} refused, {different:4} differences"


class Comparison:
    """Both codecs, and what was compared so far.

    Args:
        program: `opserve_decode`.
        regions: the shared memory.
    """

    def __init__(self, program: Path, regions: Regions) -> None:
        models = configure(regions.prefix)
        self.regions = regions
        self.native, self.python = NativeCodecs(program, models), PythonCodecs(models)
        self.counts = Counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.native.__exit__()

    def compare_case(self, seed: int, number: int) -> tuple[Request, str, Difference | None]:
        """Compares the request of a number, and its answer."""
        case = make_case(seed, number, self.regions.prefix)
        difference = self.compare(case.kind, case.model, case.request, f"{seed}:{number}:answer")
        return case.request, case.model, difference

    def compare(self, kind: str, model: str, request: Request, answer_seed: str) -> Difference | None:
        """Compares what both make of a request; and, with random outputs, of its answer."""
        try:
            decoded = self.python.decode(model, request)
            difference = found("decode", outcome_of(decoded), outcome_of(self.native.decode(model, request)))
            difference = difference or self._encode(decoded, Chances(answer_seed))
        except ChildProcessError as error:
            difference = Difference("crash", "", error)
        if difference:
            self.counts.different[kind] += 1
        elif isinstance(decoded, Refusal):
            self.counts.refused[kind] += 1
        else:
            self.counts.accepted[kind] += 1
        return difference

    def _encode(self, decoded: DecodedRequest | Refusal, generator: Chances) -> Difference | None:
        changes = {"grpc_infer": generator.random() < 0.1}
        if isinstance(decoded, Refusal):
            wanted = PLAIN_JSON._replace(text_errors=generator.random() < 0.3, **changes)
            error = RequestError(decoded.message, field=decoded.field, status=decoded.status)
            error.open_inference = decoded.open_inference
            return found("encode the error", *self._both(error, wanted, 0))
        wanted = decoded.response_format._replace(**changes)
        outputs = {name: make_output(generator) for name in decoded.inputs or ["z"]}
        limit = generator.choice((1 << 17, 1 << 17, 1 << 17, 400, 100))
        if not (wanted.infer_request and wanted.infer_request.regions):
            return found("encode", *self._both(outputs, wanted, limit))
        made = []
        for codecs in (self.python, self.native):
            self.regions.reset()
            made.append((codecs.encode(outputs, wanted, limit), self.regions.content()))
        self.regions.reset()
        (expected, expected_memory), (got, got_memory) = made
        if expected_memory != got_memory:
            return Difference("encode into shared memory", expected, got)
        return found("encode", expected, got)

    def _both(self, outputs: Outputs, wanted: ResponseFormat, limit: int) -> tuple[Outcome, Outcome]:
        return self.python.encode(outputs, wanted, limit), self.native.encode(outputs, wanted, limit)


def found(step: str, expected: Outcome, got: Outcome) -> Difference | None:
    """The difference between two outcomes, if there is one."""
    if comparable(expected) == comparable(got):
        return None
    return Difference(step, expected, got)


def make_output(generator: Chances) -> numpy.ndarray:
    """An output of any dtype and shape, of any numbers."""
    dtype = numpy.dtype(generator.choice(DTYPES))
    shape = [generator.choice((0, 1, 1, 2, 3, 5, 40)) for _ in range(generator.randrange(4))]
    count = int(numpy.prod(shape, dtype=object))
    if generator.random() < 0.4:
        flat = numbers.bits(generator, dtype, count)
        return (flat.view(numpy.uint8) & 1).view(bool).reshape(shape) if dtype.kind == "b" else flat.reshape(shape)
    odd = generator.choice((0.0, 0.2, 0.9)) if dtype.kind == "f" else 0
    values = [numbers.number(generator, dtype, odd=odd) for _ in range(count)]
    if dtype.kind == "f":
        values = [float(value) if abs(value) < 2**1023 else 0.0 for value in values]
    with numpy.errstate(all="ignore"):
        return numpy.array(values, dtype).reshape(shape)


def save(folder: Path, seed: int, number: int, prefix: str, model: str, request: Request) -> Path:
    """Writes a request to a file that `python -m tests.native --repeat FILE` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"case-{seed}-{number}.json"
    document = {"seed": seed, "number": number, "prefix": prefix} | describe_request(model, request)
    path.write_text(json.dumps(document))
    return path


def repeat(program: Path, path: Path) -> Difference | None:
    """Compares the request in a file again."""
    document = json.loads(path.read_text())
    with Regions(document["prefix"]) as regions, Comparison(program, regions) as comparison:
        seed = f"{document['seed']}:{document['number']}:answer"
        return comparison.compare("repeated", document["model"], restore_request(document), seed)


def compare_all(
    program: Path, seed: int, cases: Iterable[int], folder: Path, *, keep: int = 20
) -> tuple[Counts, list[tuple[Path, Difference]]]:
    """Compares all these cases; returns the counts, and the first differences with the files that repeat them."""
    differences: list[tuple[Path, Difference]] = []
    with Regions() as regions, Comparison(program, regions) as comparison:
        for number in cases:
            request, model, difference = comparison.compare_case(seed, number)
            if difference and len(differences) < keep:
                differences.append((save(folder, seed, number, regions.prefix, model, request), difference))
    return comparison.counts, differences


def processors() -> int:
    """How many processes share the work."""
    return max(1, len(os.sched_getaffinity(0)))
