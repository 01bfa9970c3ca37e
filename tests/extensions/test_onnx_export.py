"""`torch.onnx.export` of models with the operators, run by ONNX Runtime at other sizes than they were exported at."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

import opserve_ops.onnx
from tests.extensions.onnx_nodes import assert_same, session
from tests.extensions.samples import HOMOGRAPHY, csr, random
from tests.extensions.test_library import run_python

# The exporter's own: about trees it pickles, and names that two sizes cannot both keep.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:torch.onnx")

F32, F64, I32, I64 = torch.float32, torch.float64, torch.int32, torch.int64


def export(module: nn.Module, inputs: tuple, dynamic_shapes: tuple, path: Path) -> onnx.ModelProto:
    program = torch.onnx.export(
        module.eval(),
        inputs,
        dynamo=True,
        verbose=False,
        dynamic_shapes=dynamic_shapes,
        custom_translation_table=opserve_ops.onnx.translation_table(),
    )
    program.save(path)
    exported = onnx.load(path)
    onnx.checker.check_model(exported)
    assert {opset.domain: opset.version for opset in exported.opset_import}["opserve"] == 1
    return exported


def operators(exported: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in exported.graph.node if node.domain == "opserve"]


def compare(path: Path, module: nn.Module, inputs: tuple, rtol: float = 0.0) -> None:
    loaded = session(path.read_bytes(), threads=2)
    tensors = [tensor for tensor in inputs if tensor is not None]
    names = [argument.name for argument in loaded.get_inputs()]
    got = loaded.run(None, {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)})
    want = module(*inputs)
    for result, expected in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        if rtol:
            torch.testing.assert_close(torch.from_numpy(result), expected, rtol=rtol, atol=rtol)
        else:
            assert_same(torch.from_numpy(result), expected, str([tuple(tensor.shape) for tensor in tensors]))


class ScaledAdd(nn.Module):
    def __init__(self, *alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.ops.opserve.scaled_add(x, y, *self.alpha)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("alpha", [(), (0.1,), (float("-inf"),)], ids=str)
def test_scaled_add(alpha: tuple, dtype: torch.dtype, tmp_path: Path) -> None:
    module = ScaledAdd(*alpha)

    def inputs(n: int) -> tuple:
        return random(n, 3, dtype=dtype), random(n, 3, dtype=dtype, seed=1)

    exported = export(module, inputs(5), ({0: "n"}, {0: "n"}), tmp_path / "model.onnx")
    (node,) = operators(exported)
    names = {attribute.name for attribute in node.attribute}
    assert names == ({"alpha", "alpha_f64"} if alpha == (0.1,) else {"alpha"})
    (output,) = session((tmp_path / "model.onnx").read_bytes()).get_outputs()
    assert output.shape == ["n", 3]
    for n in (0, 1, 5, 70_000):
        compare(tmp_path / "model.onnx", module, inputs(n))


class GraphConv(nn.Module):
    def forward(self, a: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.ops.opserve.graph_conv(a, x, weight, bias)


@pytest.mark.parametrize(("with_bias", "dtype"), [(True, F32), (False, F64)])
def test_graph_conv(with_bias: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    def inputs(n: int, f: int) -> tuple:
        bias = random(4, dtype=dtype) if with_bias else None
        return random(n, n, dtype=dtype), random(n, f, dtype=dtype), random(f, 4, dtype=dtype), bias

    n, f = Dim("n"), Dim("f")
    shapes = ({0: n, 1: n}, {0: n, 1: f}, {0: f}, {} if with_bias else None)
    (node,) = operators(export(GraphConv(), inputs(9, 5), shapes, tmp_path / "model.onnx"))
    assert len(node.input) == 3 + with_bias
    for sizes in ((9, 5), (0, 3), (3, 0), (1, 1), (60, 33)):
        compare(tmp_path / "model.onnx", GraphConv(), inputs(*sizes))


class GraphConvCsr(nn.Module):
    def forward(
        self, rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        return torch.ops.opserve.graph_conv_csr(rowptr, col, value, x, weight, bias)


@pytest.mark.parametrize(
    ("index", "dtype", "with_value", "with_bias"),
    [(I64, F32, False, False), (I32, F32, True, True), (I64, F64, False, True), (I32, F64, True, False)],
    ids=str,
)
def test_graph_conv_csr(
    index: torch.dtype, dtype: torch.dtype, with_value: bool, with_bias: bool, tmp_path: Path
) -> None:
    def inputs(n: int, entries: bool = True) -> tuple:
        rowptr, col = csr(n, 3, index)
        if not entries:
            rowptr, col = torch.zeros_like(rowptr), col[:0]
        value = random(len(col), dtype=dtype) if with_value else None
        bias = random(4, dtype=dtype) if with_bias else None
        return rowptr, col, value, random(n, 6, dtype=dtype), random(6, 4, dtype=dtype), bias

    n, nnz = Dim("n"), Dim("nnz")
    value_shape, bias_shape = {0: nnz} if with_value else None, {} if with_bias else None
    shapes = ({0: n + 1}, {0: nnz}, value_shape, {0: n}, {}, bias_shape)
    exported = export(GraphConvCsr(), inputs(9), shapes, tmp_path / "model.onnx")
    (node,) = operators(exported)
    assert bool(node.input[2]) == with_value
    (output,) = session((tmp_path / "model.onnx").read_bytes()).get_outputs()
    assert isinstance(output.shape[0], str)
    assert output.shape[1] == 4
    for case in (inputs(9), inputs(0), inputs(1), inputs(5, entries=False), inputs(300)):
        compare(tmp_path / "model.onnx", GraphConvCsr(), case)


class WarpPerspective(nn.Module):
    def __init__(self, *size: list[int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: Tensor, matrix: Tensor) -> Tensor:
        return torch.ops.opserve.warp_perspective(image, matrix, *self.size)


@pytest.mark.parametrize(("dtype", "matrix_dtype", "size"), [(F32, F64, ([6, 7],)), (F64, F32, ())], ids=str)
def test_warp_perspective(dtype: torch.dtype, matrix_dtype: torch.dtype, size: tuple, tmp_path: Path) -> None:
    module = WarpPerspective(*size)

    def inputs(batch: int, h: int, w: int) -> tuple:
        return random(batch, 2, h, w, dtype=dtype), HOMOGRAPHY.to(matrix_dtype).repeat(batch, 1, 1)

    shapes = ({0: "batch", 2: "h", 3: "w"}, {0: "batch"})
    export(module, inputs(3, 9, 10), shapes, tmp_path / "model.onnx")
    (output,) = session((tmp_path / "model.onnx").read_bytes()).get_outputs()
    assert output.shape == ["batch", 2, *(size[0] if size else [8, 8])]
    for sizes in ((3, 9, 10), (0, 4, 4), (1, 1, 1), (2, 0, 5), (7, 40, 30)):
        compare(tmp_path / "model.onnx", module, inputs(*sizes))


class Network(nn.Module):
    """All of them among ONNX's own operators, as a model of somebody would have them."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.first = nn.Parameter(random(48, 16, dtype=F32))
        self.second = nn.Parameter(random(16, 4, dtype=F32))
        self.bias = nn.Parameter(random(4, dtype=F32))

    def forward(self, images: Tensor, matrices: Tensor, rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
        warped = torch.ops.opserve.warp_perspective(images, matrices, [4, 4])
        x = self.convolution(warped).relu().flatten(1)
        hidden = torch.ops.opserve.graph_conv_csr(rowptr, col, None, x, self.first).relu()
        sparse = torch.ops.opserve.graph_conv_csr(rowptr, col, None, hidden, self.second, self.bias)
        dense = torch.ops.opserve.graph_conv(hidden @ hidden.mT, hidden, self.second)
        return torch.ops.opserve.scaled_add(sparse, dense, -0.5).softmax(1), warped


def test_among_other_operators(tmp_path: Path) -> None:
    module = Network().requires_grad_(False)

    def inputs(n: int) -> tuple:
        return random(n, 1, 12, 12, dtype=F32), HOMOGRAPHY.float().repeat(n, 1, 1), *csr(n, 3, I64)

    n, nnz = Dim("n"), Dim("nnz")
    exported = export(module, inputs(9), ({0: n}, {0: n}, {0: n + 1}, {0: nnz}), tmp_path / "model.onnx")
    expected = ["WarpPerspective", "GraphConvCSR", "GraphConvCSR", "GraphConv", "ScaledAdd"]
    assert sorted(node.op_type for node in operators(exported)) == sorted(expected)
    for size in (9, 1, 40):
        compare(tmp_path / "model.onnx", module, inputs(size), rtol=1e-4)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_an_error_with_the_fix(package: str) -> None:
    code = f"""
import sys
sys.modules["{package}"] = None
import opserve_ops.onnx
opserve_ops.onnx.library_path()
opserve_ops.onnx.translation_table()
"""
    result = run_python(code)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: opserve_ops.onnx: {package} is needed to export a model")
    assert last.endswith(f"Install it with: pip install {package}")


def test_a_missing_runtime_is_an_error_with_the_fix() -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; import opserve_ops.onnx as o; o.session_options()"
    last = run_python(code).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: opserve_ops.onnx: onnxruntime is needed to run a model")
    assert last.endswith("Install it with: pip install onnxruntime")
