"""The native worker's models answer batches as those of the Python worker: formats, batching, hooks and faults."""

import importlib.util
import json
import random
import re
import resource
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
import yaml
from torch import nn

import opserve_ops
from archive.building.export import export_onnx, quiet_torchscript
from archive.packer.worker_config import WORKER_CONFIG_FILE, encode_worker_config
from handlers.codecs.npy import NPZ_TYPE, write_npz
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import Part, Request
from handlers.config import CONFIG_FILE, ModelConfig
from handlers.errors import ModelError
from handlers.model import ServableModel
from tests.native.model_tool import PROGRAM, ModelTool

pytestmark = [
    pytest.mark.skipif(not PROGRAM.is_file(), reason="the native worker was not built; make ext says why"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

VECTOR = [{"name": "x", "dtype": "float32", "shape": [-1]}]
VECTOR_OUT = [{"name": "y", "dtype": "float32", "shape": [-1]}]
SCALAR_OUT = [{"name": "y", "dtype": "float32", "shape": []}]
PAIR = [{"name": name, "dtype": "float32", "shape": [-1]} for name in ("x", "y")]
TORCH, ONNX = "libopserve_torch.so", "libopserve_onnxruntime.so"
GRAPH = [
    {"name": "rowptr", "dtype": "int32", "shape": [-1]},
    {"name": "col", "dtype": "int64", "shape": [-1]},
    {"name": "value", "dtype": "float32", "shape": [-1], "optional": True, "minimum": 0},
    {"name": "x", "dtype": "float32", "shape": [-1, 3]},
]


class InPlace(nn.Module):
    """Writes to its input before it refuses it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.mul_(2)
        if bool((x < 0).any()):
            raise ValueError("a negative number")
        return x


class Same(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Running(nn.Module):
    """Returns the memory that contains its sum, and keeps its last input."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.last = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x.sum()).add_(self.last.sum())
        self.last = x
        return self.total


class Outer(nn.Module):
    """The products of any two numbers of a request: a response of the square of its size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, None] * x[None, :]).flatten()


class Sum(nn.Module):
    """One of our operators, and two outputs, one of them not contiguous."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.ops.opserve.scaled_add(x, y, 2.0)
        return z, z.flip(-1).t().t()[..., ::2]


class Both(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"big": x * 2, "small": x / 2}


class Propagate(nn.Module):
    """A·x for a graph in CSR form."""

    def forward(
        self, rowptr: torch.Tensor, col: torch.Tensor, value: torch.Tensor, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.repeat_interleave(torch.arange(x.size(0)), (rowptr[1:] - rowptr[:-1]).to(torch.int64))
        y = torch.zeros_like(x).index_add(0, rows, value[:, None] * x[col])
        return y, y.argmax(dim=1)


class Hooks(nn.Module):
    """Refuses, fails, returns something else, or doubles; by the first number of a request."""

    @torch.jit.export
    def preprocess(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x = inputs["x"]
        kind = 0 if x.numel() == 0 else int(x[0])
        if kind == 10:
            raise ValueError("'x' must not begin with 10")
        if kind == 11:
            raise ValueError("not about an input")
        if kind == 12:
            raise RuntimeError("a failure")
        if kind == 13:
            return {"z": x}
        if kind == 14:
            return {"x": x.to(torch.bfloat16)}
        if kind == 15:
            return {"x": x.to(torch.float64), "more": x}
        if kind == 16:
            return {"x": x[:, None]}
        if kind == 17:
            return {"x": torch.ones(2)[torch.tensor([5])]}
        if kind == 18:
            x.mul_(3)
        if kind == 19:
            raise ValueError("'z' is not an input")
        return {"x": x * 2}

    @torch.jit.export
    def postprocess(self, outputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        y = outputs["y"]
        kind = 0 if y.numel() == 0 else int(y[0])
        if kind == 40:
            raise ValueError("'x' has no answer")
        if kind == 42:
            raise AssertionError("another failure")
        return {"sum": y.sum(), "y": y.flip(0), "é": (y > 0)}


def write(
    folder: Path,
    model: nn.Module | Callable[[Path], None],
    inputs: Sequence[dict],
    outputs: Sequence[dict],
    hooks: nn.Module | None = None,
    **opserve: Any,
) -> Path:
    """An unpacked archive that both workers load; libraries are those of the build."""
    folder.mkdir(parents=True, exist_ok=True)
    section = {"artifact": "model.pt", "inputs": list(inputs), "outputs": list(outputs)} | opserve
    with quiet_torchscript():
        if isinstance(model, nn.Module):
            torch.jit.script(model.eval()).save(folder / section["artifact"])
        else:
            model(folder / section["artifact"])
        if hooks is not None:
            torch.jit.script(hooks.eval()).save(folder / "hooks.pt")
            section["hooks"] = "hooks.pt"
    for name in section.get("op_libraries", ()):
        source = opserve_ops.library_path().parent / name
        if source.is_file() and not (folder / name).exists():
            (folder / name).symlink_to(source)
    document = {"opserve": section}
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(document))
    (folder / WORKER_CONFIG_FILE).write_bytes(encode_worker_config(document, ModelConfig.parse(document)))
    return folder


def copied(request: Request) -> Request:
    """A request with bytes of its own, which a model may write to."""
    copy = Request({name: Part(bytearray(part.content), part.content_type) for name, part in request.items()})
    copy.headers.update(request.headers)
    copy.explain, copy.open_inference = request.explain, request.open_inference
    copy.grpc_infer = request.grpc_infer
    return copy


def comparable(text: bytes) -> bytes:
    """A body without what a parser of JSON says, which is the parser's."""
    return re.sub(rb"(is not valid JSON: )[^\"]*", rb"\1", text)


def compare(folder: Path, batches: Sequence[Sequence[Request]], *, texts_differ: bool = False) -> list[int]:
    """Has both workers answer the same batches; returns the statuses of all answers."""
    statuses = []
    by_python = ServableModel(folder, name="a model", version="1.0")
    with ModelTool(folder) as by_native:
        described = by_python.describe()
        assert by_native.description == described
        assert list(by_native.description) == list(described)
        for number, batch in enumerate(batches):
            expected = by_python.answer([copied(request) for request in batch])
            got = by_native.answer(batch)
            for index, (left, right) in enumerate(zip(got, expected, strict=True)):
                where = f"batch {number}, request {index}: {dict(batch[index])!r:.300}"
                assert (left.status, left.content_type) == (right.status, right.content_type), (where, left, right)
                assert dict(left.headers) == dict(right.headers), where
                if not (texts_differ and right.status >= 500):
                    assert comparable(left.body) == comparable(right.body), where
                statuses.append(right.status)
            counts = by_python.counts
            assert by_native.counts == (counts.requests, counts.batches, counts.model_calls), number
            assert by_native.rejected == counts.rejected, number
            assert by_native.broken == (by_python.broken or "")
    return statuses


def body(value: Any, content_type: str = "application/json", **headers: str) -> Request:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Request(
        {"body": Part(content, content_type)}, {name.replace("_", "-"): each for name, each in headers.items()}
    )


BROKEN = [
    Request(),
    Request({"z": Part(b"1")}),
    body(b"{"),
    body({"x": "text"}),
    body({"x": [[1], [2]]}),
    body({"x": [1]}, Accept="text/html"),
]


def vectors(source: random.Random) -> Request:
    """A request for `x`, in one format or another, sometimes broken."""
    kind = source.randrange(12)
    if kind == 0:
        return source.choice(BROKEN)
    numbers = [source.choice([0, 1, -1, 2.5, 3, -7, 10, 11, 12, 1e30]) for _ in range(source.choice([1, 2, 2, 2, 3]))]
    accept = source.choice(["", "application/json", NPZ_TYPE, "application/vnd.oip+json"])
    request = body({"x": numbers}, **({"Accept": accept} if accept else {}))
    if kind == 1:
        request = body(bytes(write_npz({"x": numpy.array(numbers, numpy.float32)})), "")
    elif kind == 2:
        tensor = {"name": "x", "shape": [len(numbers)], "datatype": "FP32", "data": numbers}
        request = body({"id": "7", "inputs": [tensor]})
        request.grpc_infer = source.random() < 0.3
    elif kind == 3:
        request.open_inference = True
    elif kind == 4:
        request.explain = source.random() < 0.5
    elif kind == 5:
        request.headers[JSON_LENGTH_HEADER.lower()] = source.choice(["7", "x", str(len(request["body"].content))])
    return request


def batches(make: Callable[[random.Random], Request], seed: int, count: int = 60) -> list[list[Request]]:
    source = random.Random(seed)
    return [[make(source) for _ in range(source.choice([0, 1, 1, 2, 3, 8]))] for _ in range(count)]


@pytest.mark.parametrize("batching", ["none", "stack"])
@pytest.mark.parametrize("module", [InPlace, Same, Outer], ids=lambda each: each.__name__)
def test_vectors(module, batching, tmp_path):
    if module is Outer and batching == "stack":
        pytest.skip("it is for a single request")
    folder = write(tmp_path / "a", module(), VECTOR, VECTOR_OUT, batching=batching)
    assert {200, 400, 406, 501} <= set(compare(folder, batches(vectors, 1)))


def test_a_model_that_keeps_its_input_and_lends_its_memory(tmp_path):
    folder = write(tmp_path / "a", Running(), VECTOR, SCALAR_OUT)
    assert 200 in compare(folder, batches(vectors, 2))


@pytest.mark.parametrize("batching", ["none", "stack"])
@pytest.mark.parametrize("freeze", [False, True])
def test_an_operator_and_two_outputs(batching, freeze, tmp_path):
    outputs = [{"name": "z", "dtype": "float32", "shape": [-1]}, {"name": "half", "dtype": "float32", "shape": [-1]}]
    options = {"freeze": True, "optimize_for_inference": True} if freeze else {}
    folder = write(tmp_path / "a", Sum(), PAIR, outputs, batching=batching, op_libraries=[TORCH], **options)

    def make(source: random.Random) -> Request:
        x = [source.random() for _ in range(source.choice([1, 2, 4]))]
        y = [source.random() for _ in range(source.choice([len(x), len(x), 3]))]
        return body({"x": x, "y": y})

    assert {200, 400} == set(compare(folder, batches(make, 3)))


def test_outputs_by_name(tmp_path):
    outputs = [{"name": name, "dtype": "float32", "shape": [-1]} for name in ("small", "big")]
    folder = write(tmp_path / "a", Both(), VECTOR, outputs)
    assert 200 in compare(folder, batches(vectors, 4, 20))


@pytest.mark.parametrize(
    "outputs",
    [
        [{"name": "y", "dtype": "float64", "shape": [-1]}],
        [{"name": "y", "dtype": "float32", "shape": [2]}],
        [*VECTOR_OUT, {"name": "z", "dtype": "float32", "shape": []}],
    ],
)
@pytest.mark.parametrize("module", [Same, Both], ids=lambda each: each.__name__)
@pytest.mark.parametrize("batching", ["none", "stack"])
def test_a_response_that_violates_the_signature(module, outputs, batching, tmp_path):
    folder = write(tmp_path / "a", module(), VECTOR, outputs, batching=batching)
    assert 500 in compare(folder, batches(vectors, 5, 20))


RETURNS = {
    "int": "return int(x.sum())",
    "text": "return 'text'",
    "none": "return None",
    "list": "return [x, x]",
    "bfloat16": "return x.to(torch.bfloat16)",
    "complex": "return torch.complex(x, x)",
    "half": "return x.half()",
    "scalar": "return x.sum()",
    "many": "return x, 1, (x, x), 'a', True, 1.5, [x]",
    "odd": "return {'a': x, 'b': x}",
}


@pytest.mark.parametrize("code", RETURNS.values(), ids=RETURNS)
@pytest.mark.parametrize("batching", ["none", "stack"])
def test_a_model_that_returns_something_else(code, batching, tmp_path):
    # In a file, where TorchScript finds its source.
    path = tmp_path / "odd.py"
    path.write_text(
        f"import torch\nclass Odd(torch.nn.Module):\n    def forward(self, x: torch.Tensor):\n        {code}\n"
    )
    spec = importlib.util.spec_from_file_location(f"odd_{abs(hash(code))}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = write(tmp_path / "a", module.Odd(), VECTOR, VECTOR_OUT, batching=batching)
    assert set(compare(folder, batches(vectors, 6, 10))) & {500}


def test_large_responses(tmp_path):
    folder = write(tmp_path / "a", Outer(), VECTOR, VECTOR_OUT, max_response_bytes=100_000)

    def make(source: random.Random) -> Request:
        accept = source.choice(["application/json", NPZ_TYPE, "application/vnd.oip+json"])
        return body({"x": [1] * source.choice([1, 2, 50, 100, 130, 300])}, Accept=accept)

    assert {200, 413, 503} == set(compare(folder, batches(make, 7, 30)))


def test_a_request_that_needs_too_much_memory_costs_only_itself(tmp_path):
    """In a process whose address space ends a gigabyte above the size of the loaded model."""
    with ModelTool(write(tmp_path / "a", Outer(), VECTOR, VECTOR_OUT)) as model:

        def ask(*counts: int) -> list[int]:
            return [response.status for response in model.answer([body({"x": [1] * count}) for count in counts])]

        assert ask(2) == [200]
        taken = int(Path(f"/proc/{model.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(model.pid, resource.RLIMIT_AS, (taken + (1 << 30),) * 2)
        assert (ask(2, 40_000, 3), ask(4)) == ([200, 507, 200], [200])


@pytest.mark.parametrize("batching", ["none", "stack"])
def test_hooks(batching, tmp_path):
    folder = write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT, Hooks(), batching=batching)

    def make(source: random.Random) -> Request:
        if source.random() < 0.2:
            return vectors(source)
        return body({"x": [source.choice([*range(25), 3, 4, 5, 6]), source.random()][: source.choice([2, 2, 2, 1, 0])]})

    assert {200, 400, 500} <= set(compare(folder, batches(make, 8, 150)))


def graphs(source: random.Random) -> Request:
    nodes = source.choice([0, 1, 2, 5])
    rows = [sorted(source.randrange(nodes) for _ in range(source.randrange(4))) for _ in range(nodes)]
    col = [each for row in rows for each in row]
    rowptr = [0]
    for row in rows:
        rowptr.append(rowptr[-1] + len(row))
    x = [[source.random() for _ in range(3)] for _ in range(nodes)]
    inputs: dict[str, Any] = {"rowptr": rowptr, "col": col, "x": x}
    if source.random() < 0.5:
        inputs["value"] = [source.random() for _ in col]
    fault = source.randrange(14)
    if fault == 0:
        rowptr[0] = 1
    elif fault == 1 and nodes > 1:
        rowptr[1] = rowptr[-1] + 1
    elif fault == 2:
        rowptr[-1] += 1
    elif fault == 3 and col:
        col[0] = source.choice([-1, nodes, 2**31])
    elif fault == 4:
        inputs["value"] = [1.0] * (len(col) + 1)
    elif fault == 5:
        x.append([1.0, 2.0, 3.0])
    elif fault == 6:
        inputs["rowptr"] = []
    elif fault == 7 and col:
        inputs["value"] = [-1.0] * len(col)
    if not x:
        arrays = {"rowptr": numpy.array(inputs["rowptr"], numpy.int32), "col": numpy.array(col, numpy.int64)}
        arrays["x"] = numpy.zeros((0, 3), numpy.float32)
        return body(bytes(write_npz(arrays)), "")
    return body(inputs)


def test_graphs(tmp_path):
    outputs = [{"name": "y", "dtype": "float32", "shape": [-1, 3]}, {"name": "best", "dtype": "int64", "shape": [-1]}]
    folder = write(tmp_path / "a", Propagate(), GRAPH, outputs, batching="graph")
    assert {200, 400} == set(compare(folder, batches(graphs, 9, 150)))


def test_graphs_without_a_row_for_every_node(tmp_path):
    class Wrong(nn.Module):
        def forward(
            self, rowptr: torch.Tensor, col: torch.Tensor, value: torch.Tensor, x: torch.Tensor
        ) -> torch.Tensor:
            return x[1:]

    outputs = [{"name": "y", "dtype": "float32", "shape": [-1, 3]}]
    folder = write(tmp_path / "a", Wrong(), GRAPH, outputs, batching="graph")
    assert 500 in compare(folder, batches(graphs, 10, 20))


class Best(nn.Module):
    """One of our operators, and two outputs."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.ops.opserve.scaled_add(x, y, 2.0)
        return z, z.argmax(dim=1)


BEST = [{"name": "z", "dtype": "float32", "shape": [-1]}, {"name": "best", "dtype": "int64", "shape": []}]


def pairs(source: random.Random) -> Request:
    x = [source.random() for _ in range(source.choice([0, 1, 3, 4]))]
    y = [source.random() for _ in range(source.choice([len(x), len(x), len(x), 3]))]
    return body({"x": x, "y": y})


def to_onnx(path: Path) -> None:
    axes = {0: "batch", 1: "size"}
    inputs = {"x": torch.ones(2, 3), "y": torch.ones(2, 3)}
    export_onnx(Best(), inputs, ("z", "best"), {"x": axes, "y": axes}, path)


def test_onnx(tmp_path):
    options = {"batching": "stack", "artifact": "model.onnx", "op_libraries": [ONNX]}
    folder = write(tmp_path / "a", to_onnx, PAIR, BEST, **options)
    assert {200, 400} <= set(compare(folder, batches(pairs, 11), texts_differ=True))


def to_package(path: Path) -> None:
    batch, size = torch.export.Dim("batch"), torch.export.Dim("size")
    shapes = ({0: batch, 1: size}, {0: batch, 1: size})
    program = torch.export.export(Best(), (torch.ones(2, 3), torch.ones(2, 3)), dynamic_shapes=shapes)
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def test_a_compiled_package(tmp_path):
    options = {"batching": "stack", "artifact": "model.pt2", "op_libraries": [TORCH]}
    folder = write(tmp_path / "a", to_package, PAIR, BEST, **options)
    assert 200 in compare(folder, batches(pairs, 12), texts_differ=True)


class TestLoading:
    """Every reason not to load is the line that the Python worker gives."""

    def check(self, folder: Path, *, same_text: bool = True) -> str:
        with pytest.raises(ModelError) as expected:
            ServableModel(folder)
        with pytest.raises(ChildProcessError) as got:
            ModelTool(folder)
        message = str(got.value)
        assert "\n" not in message
        if same_text:
            assert message == str(expected.value)
        return message

    def test_no_gpu(self, tmp_path):
        self.check(write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT, device="cuda"))
        self.check(
            write(tmp_path / "b", to_onnx, PAIR, BEST, artifact="model.onnx", op_libraries=[ONNX], device="cuda")
        )

    @pytest.mark.parametrize("content", [None, b"", b"not a library", b"\x7fELF", "cut"], ids=repr)
    def test_a_library(self, content, tmp_path):
        folder = write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT, op_libraries=["libx.so"])
        if content is not None:
            cut = opserve_ops.library_path().read_bytes()[:1000]
            (folder / "libx.so").write_bytes(cut if content == "cut" else content)
        self.check(folder)

    def test_a_library_with_an_undefined_symbol(self, tmp_path):
        folder = write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT, op_libraries=["libx.so"])
        (folder / "x.cpp").write_text("void nobody_defines_this();\nvoid call() { nobody_defines_this(); }\n")
        subprocess.run(["g++", "-shared", "-fPIC", "-o", folder / "libx.so", folder / "x.cpp"], check=True)
        self.check(folder)

    def test_an_artifact(self, tmp_path):
        folder = write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT)
        (folder / "model.pt").write_bytes(b"PK\x03\x04 truncated")
        assert self.check(folder, same_text=False).startswith("model.pt: not a TorchScript model that can be read: ")
        (folder / "model.pt").unlink()
        self.check(folder)

    def test_an_operator_that_no_library_has(self, tmp_path):
        # This process has them all.
        with pytest.raises(ChildProcessError) as caught:
            ModelTool(write(tmp_path / "a", Best(), PAIR, BEST))
        assert str(caught.value) == (
            "model.pt: it needs the operator opserve::scaled_add, which no library under op_libraries registers; "
            "add the library that does"
        )
        onnx = write(tmp_path / "b", to_onnx, PAIR, BEST, artifact="model.onnx")
        assert "ONNX Runtime does not load it" in self.check(onnx)

    def test_the_names_and_types_of_onnx(self, tmp_path):
        options = {"artifact": "model.onnx", "op_libraries": [ONNX]}
        self.check(write(tmp_path / "a", to_onnx, [PAIR[0], PAIR[1] | {"name": "w"}], BEST, **options))
        self.check(write(tmp_path / "b", to_onnx, [PAIR[0], PAIR[1] | {"dtype": "float64"}], BEST, **options))

    def test_an_unknown_format(self, tmp_path):
        self.check(write(tmp_path / "a", lambda path: path.write_bytes(b""), VECTOR, VECTOR_OUT, artifact="model.h5"))

    def test_hooks(self, tmp_path):
        class Neither(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        class Other(nn.Module):
            @torch.jit.export
            def preprocess(self, inputs: torch.Tensor) -> torch.Tensor:
                return inputs

        self.check(write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT, Neither()))
        folder = write(tmp_path / "b", Same(), VECTOR, VECTOR_OUT, Other())
        self.check(folder)
        (folder / "hooks.pt").write_bytes(b"x")
        self.check(folder, same_text=False)
        (folder / "hooks.pt").unlink()
        self.check(folder)

    def test_a_sample_that_is_refused(self, tmp_path):
        folder = write(tmp_path / "a", Same(), VECTOR, VECTOR_OUT)
        (folder / "sample" / "request").mkdir(parents=True)
        self.check(folder)
        (folder / "sample" / "request" / "body.json").write_text('{"y": [1]}')
        self.check(folder)

    def test_an_exported_program_is_for_python(self, tmp_path):
        program = torch.export.export(Same(), (torch.ones(2),))
        folder = write(
            tmp_path / "a", lambda path: torch.export.save(program, path), VECTOR, VECTOR_OUT, artifact="model.pt2"
        )
        with pytest.raises(ChildProcessError, match=r"model\.pt2: an exported program needs the Python worker"):
            ModelTool(folder)
