"""The operators in ONNX: how `torch.onnx.export` writes them, and the library with which ONNX Runtime runs them.

    program = torch.onnx.export(model, inputs, dynamo=True, dynamic_shapes=...,
                                custom_translation_table=opserve_ops.onnx.translation_table())
    program.save("model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", opserve_ops.onnx.session_options(threads=2))

Exporting needs the packages onnx and onnxscript; running needs onnxruntime and nothing else: where it runs, the
library may as well be registered by its path, without this package or PyTorch.
"""

import importlib
import struct
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from . import _library

if TYPE_CHECKING:
    import onnxruntime

DOMAIN = "opserve"
VERSION = 1

_LIBRARY = "libopserve_onnxruntime.so"
_CUDA_LIBRARY = "libopserve_onnxruntime_cuda.so"


def library_path(cuda: bool = False) -> Path:
    """The library of ONNX Runtime operators, to be registered with a session or packed beside a saved model.

    Args:
        cuda: the one for the CUDA execution provider, which has the operators of the CPU too.

    Raises:
        ImportError: it has not been built; `make ext` leaves out the one for CUDA where it finds no CUDA compiler.
    """
    if not cuda:
        return _library.find(_LIBRARY)
    try:
        return _library.find(_CUDA_LIBRARY)
    except ImportError as error:
        raise ImportError(f"{error}; if it leaves the library out, it says what is missing") from None


def session_options(threads: int | None = None, cuda: bool = False) -> "onnxruntime.SessionOptions":
    """Options for an `onnxruntime.InferenceSession` that knows the operators.

    Args:
        threads: how many threads one run of the session may use; ONNX Runtime decides where it is none.
        cuda: the operators for the CUDA execution provider as well; the session is created with that provider.

    Raises:
        ImportError: onnxruntime is not installed, or the library has not been built.
        RuntimeError: this version of ONNX Runtime is older than the library serves.
    """
    runtime = _import("onnxruntime", "to run a model")
    options = runtime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        options.register_custom_ops_library(str(library_path(cuda)))
    except Exception as error:
        if isinstance(error, ImportError):
            raise
        # The runtime's own error classes derive from Exception alone, and differ between its versions.
        raise RuntimeError(str(error)) from error
    return options


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What `torch.onnx.export(..., dynamo=True, custom_translation_table=...)` needs to write the operators.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    # Only looked at when a model is translated, but here is where what is missing is best told.
    _onnx_operators()
    ops = torch.ops.opserve
    return {
        ops.scaled_add.default: _scaled_add,
        ops.graph_conv.default: _graph_conv,
        ops.graph_conv_csr.default: _graph_conv_csr,
        ops.warp_perspective.default: _warp_perspective,
    }


def _import(name: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"opserve_ops.onnx: {name} is needed {purpose} ({error}). Install it with: pip install {name}"
        ) from error


@cache
def _onnx_operators() -> SimpleNamespace:
    """The operators as the exporter takes them: with their schemas, of which ONNX itself knows nothing."""
    defs = _import("onnx", "to export a model").defs
    values = _import("onnxscript", "to export a model").values
    schema, option, kind = defs.OpSchema, defs.OpSchema.FormalParameterOption, defs.OpSchema.AttrType
    floating = ["tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)"]
    index = ["tensor(int32)", "tensor(int64)"]
    types = {"T": floating, "I": index, "M": ["tensor(float)", "tensor(double)"]}
    opset = values.Opset(DOMAIN, VERSION)

    def operator(name: str, inputs: str, output: str, *attributes: Any) -> Any:
        """`inputs` are words «name:type», with a question mark behind those that may be left out."""
        parameters, used = [], ["T"]
        for word in inputs.split():
            argument, of_type = word.removesuffix("?").split(":")
            presence = option.Optional if word.endswith("?") else option.Single
            parameters.append(schema.FormalParameter(argument, of_type, param_option=presence))
            used += [of_type] if of_type not in used else []
        definition = schema(
            name,
            DOMAIN,
            VERSION,
            inputs=parameters,
            outputs=[schema.FormalParameter(output, "T")],
            type_constraints=[(letter, types[letter], "") for letter in used],
            attributes=list(attributes),
        )
        return values.Op(opset, name, definition)

    def attribute(name: str, of_kind: Any) -> Any:
        return schema.Attribute(name, of_kind, required=False)

    return SimpleNamespace(
        scaled_add=operator(
            "ScaledAdd", "x:T y:T", "z", attribute("alpha", kind.FLOAT), attribute("alpha_f64", kind.TENSOR)
        ),
        graph_conv=operator("GraphConv", "a:T x:T weight:T bias:T?", "out"),
        graph_conv_csr=operator("GraphConvCSR", "rowptr:I col:I value:T? x:T weight:T bias:T?", "out"),
        warp_perspective=operator("WarpPerspective", "image:T matrix:M", "out", attribute("size", kind.INTS)),
    )


def _float32(number: float) -> float:
    """The nearest float32, as an ONNX attribute holds it."""
    try:
        return struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _scaled_add(x: Any, y: Any, alpha: float = 2.0) -> Any:
    attributes: dict[str, Any] = {"alpha": _float32(alpha)}
    # A number that float32 cannot hold: a float64 tensor is multiplied by it, not by its rounding.
    if attributes["alpha"] != alpha and alpha == alpha:
        onnx = _import("onnx", "to export a model")
        attributes["alpha_f64"] = onnx.helper.make_tensor("alpha_f64", onnx.TensorProto.DOUBLE, [], [alpha])
    return _onnx_operators().scaled_add(x, y, **attributes)


def _graph_conv(a: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return _onnx_operators().graph_conv(a, x, weight, bias)


def _graph_conv_csr(rowptr: Any, col: Any, value: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    return _onnx_operators().graph_conv_csr(rowptr, col, value, x, weight, bias)


def _warp_perspective(image: Any, matrix: Any, size: Sequence[int] = (8, 8)) -> Any:
    return _onnx_operators().warp_perspective(image, matrix, size=list(size))
