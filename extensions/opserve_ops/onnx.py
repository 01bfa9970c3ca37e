"""The operators in ONNX: how `torch.onnx.export` writes them, and the library by which ONNX Runtime runs them.

    program = torch.onnx.export(model, inputs, dynamo=True, dynamic_shapes=...,
                                custom_translation_table=opserve_ops.onnx.translation_table())
    program.save("model.onnx")
    session = onnxruntime.InferenceSession("model.onnx", opserve_ops.onnx.session_options(threads=2))

Exporting needs the packages onnx and onnxscript. Running needs onnxruntime only: the library can also be registered by
its path, without this package and without PyTorch.
"""

import importlib
import inspect
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import _library
from ._operator import OPERATORS, Operator, bind

if TYPE_CHECKING:
    import onnxruntime

DOMAIN = "opserve"
VERSION = 1

_LIBRARY = "libopserve_onnxruntime.so"
_CUDA_LIBRARY = "libopserve_onnxruntime_cuda.so"


def library_path(*, cuda: bool = False) -> Path:
    """Returns the library of ONNX Runtime operators, to register with a session or to pack with a saved model.

    Args:
        cuda: Whether the library is for the CUDA execution provider; it includes the CPU operators.

    Raises:
        ImportError: The library has not been built; without a CUDA compiler, `make ext` leaves out the CUDA library.
    """
    if not cuda:
        return _library.find(_LIBRARY)
    try:
        return _library.find(_CUDA_LIBRARY)
    except ImportError as error:
        raise ImportError(f"{error}; if it leaves the library out, it says what is missing") from None


def session_options(threads: int | None = None, *, cuda: bool = False) -> "onnxruntime.SessionOptions":
    """Returns options for an `onnxruntime.InferenceSession` that has the operators.

    Args:
        threads: The number of threads for one run of the session; by default ONNX Runtime's own choice.
        cuda: Whether to include the operators for the CUDA execution provider, with which the session is created.

    Raises:
        ImportError: onnxruntime is not installed, or the library has not been built.
        RuntimeError: This version of ONNX Runtime is too old for the library.
    """
    runtime = _import("onnxruntime", "to run a model")
    options = runtime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        options.register_custom_ops_library(str(library_path(cuda=cuda)))
    except Exception as error:
        if isinstance(error, ImportError):
            raise
        # The runtime's own error classes derive from Exception alone, and differ between its versions.
        raise RuntimeError(str(error)) from error
    return options


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Returns the table by which `torch.onnx.export(..., dynamo=True, custom_translation_table=...)` writes operators.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    packages = _import("onnx", "to export a model"), _import("onnxscript", "to export a model")
    return {operator.forward: _translation(operator, *packages) for operator in OPERATORS if operator.onnx}


def _import(name: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"opserve_ops.onnx: {name} is needed {purpose} ({error}). Install it with: pip install {name}"
        ) from error


# The types of `Operator.types` in ONNX.
_TYPES = {
    "T": ["tensor(float16)", "tensor(bfloat16)", "tensor(float)", "tensor(double)"],
    "I": ["tensor(int32)", "tensor(int64)"],
    "M": ["tensor(float)", "tensor(double)"],
}


def _translation(operator: Operator, onnx: ModuleType, onnxscript: ModuleType) -> Callable[..., Any]:
    """Returns the function by which the exporter writes an operator: its tensors as inputs, the rest as attributes.

    A float becomes a FLOAT and, if float32 cannot represent it, in addition a TENSOR of one float64, `<name>_f64`: a
    float64 tensor is multiplied by it, not by its rounding.
    """
    schema, option, kind = onnx.defs.OpSchema, onnx.defs.OpSchema.FormalParameterOption, onnx.defs.OpSchema.AttrType
    letters = {name: letter for letter, names in operator.types.items() for name in names}
    arguments = operator.forward._schema.arguments
    inputs, parameters = [], []
    attributes: dict[str, Any] = {}
    for argument in arguments:
        name, of_type = argument.name, str(argument.type)
        annotation: Any = Any
        if name in letters:
            presence = option.Optional if of_type.startswith("Optional") else option.Single
            inputs.append(schema.FormalParameter(name, letters[name], param_option=presence))
        elif of_type == "float":
            annotation = float
            attributes |= {name: kind.FLOAT, f"{name}_f64": kind.TENSOR}
        else:
            annotation = Sequence[int]
            attributes[name] = kind.INTS
        default = argument.default_value if argument.has_default_value() else inspect.Parameter.empty
        by = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(name, by, default=default, annotation=annotation))
    definition = schema(
        operator.onnx,
        DOMAIN,
        VERSION,
        inputs=inputs,
        outputs=[schema.FormalParameter(f"out{i or ''}", letter) for i, letter in enumerate(operator.results)],
        type_constraints=[(letter, _TYPES[letter], "") for letter in operator.types],
        attributes=[schema.Attribute(name, of_kind, required=False) for name, of_kind in attributes.items()],
    )
    node = onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, VERSION), operator.onnx, definition)

    def translate(*args: Any, **kwargs: Any) -> Any:
        given = bind(operator.forward, args, kwargs)
        values: dict[str, Any] = {}
        for name in given.keys() - letters.keys():
            value = given[name]
            if attributes[name] == kind.INTS:
                values[name] = list(value)
                continue
            values[name] = _float32(value)
            if values[name] != value and value == value:
                exact = onnx.helper.make_tensor(f"{name}_f64", onnx.TensorProto.DOUBLE, [], [value])
                values[f"{name}_f64"] = exact
        return node(*(given[name] for name in given if name in letters), **values)

    # By these the exporter distinguishes inputs and attributes.
    translate.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    translate.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return translate


def _float32(number: float) -> float:
    """Returns the nearest float32, which is what an ONNX attribute holds."""
    try:
        return struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
