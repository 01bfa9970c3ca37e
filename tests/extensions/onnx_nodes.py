"""Models of one node, written by hand: what ONNX Runtime makes of an operator, without an exporter in between."""

from collections.abc import Sequence

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from torch import Tensor

import opserve_ops.onnx
from opserve_ops._operator import OPERATORS, Operator
from tests.extensions.samples import results

ELEMENT_TYPES = {
    torch.float16: TensorProto.FLOAT16,
    torch.bfloat16: TensorProto.BFLOAT16,
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.int32: TensorProto.INT32,
    torch.int64: TensorProto.INT64,
    torch.uint8: TensorProto.UINT8,
}


def _signature(operator: Operator) -> tuple[str | None, tuple[str, ...], str | None]:
    """The ONNX name, the inputs in order, and the attribute that follows them in the PyTorch signature."""
    inputs = {name for names in operator.types.values() for name in names}
    names = [argument.name for argument in operator.forward._schema.arguments]
    return (
        operator.onnx,
        tuple(name for name in names if name in inputs),
        next((name for name in names if name not in inputs), None),
    )


SIGNATURES = {operator.name: _signature(operator) for operator in OPERATORS if operator.onnx}
# Each result has the type of the input of this name.
RESULT_TYPES_OF = {
    operator.name: tuple(operator.types[letter][0] for letter in operator.results)
    for operator in OPERATORS
    if operator.onnx
}

# A size, the name of one, or neither.
Shape = Sequence[int | str | None]


def split(op: str, args: tuple) -> tuple[dict[str, Tensor], object]:
    """The inputs that are present, by name, and the attribute."""
    names = SIGNATURES[op][1]
    tensors = {name: arg for name, arg in zip(names, args, strict=False) if arg is not None}
    return tensors, args[len(names)] if len(args) > len(names) else None


def output_names(op: str) -> list[str]:
    return [f"out{index or ''}" for index in range(len(RESULT_TYPES_OF[op]))]


def model(
    op: str,
    args: tuple,
    shapes: dict[str, Shape] | None = None,
    constant: bool = False,
    attributes: dict[str, object] | None = None,
) -> bytes:
    """A model with the inputs' ranks and types of `args`; sizes are left open unless `shapes` says them."""
    name, names, attribute_name = SIGNATURES[op]
    tensors, attribute = split(op, args)
    values, initializers = [], []
    for input_name, tensor in tensors.items():
        element_type = ELEMENT_TYPES[tensor.dtype]
        if constant:
            initializers.append(onnx.numpy_helper.from_array(tensor.numpy(), input_name))
            continue
        shape = [None] * tensor.dim() if shapes is None else shapes[input_name]
        values.append(helper.make_tensor_value_info(input_name, element_type, shape))
    used = [input_name if input_name in tensors else "" for input_name in names]
    while not used[-1]:
        used.pop()
    if attributes is None:
        attributes = {} if attribute is None else {attribute_name: attribute}
        if isinstance(attribute, float) and tensors[RESULT_TYPES_OF[op][-1]].dtype == torch.float64:
            attributes[f"{attribute_name}_f64"] = helper.make_tensor("", TensorProto.DOUBLE, [], [attribute])
    outs = output_names(op)
    node = helper.make_node(name, used, outs, domain="opserve", **attributes)
    infos = [
        helper.make_tensor_value_info(out, ELEMENT_TYPES[tensors[like].dtype], None)
        for out, like in zip(outs, RESULT_TYPES_OF[op], strict=True)
    ]
    graph = helper.make_graph([node], op, values, infos, initializer=initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("opserve", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def session(serialized: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    options = opserve_ops.onnx.session_options(threads)
    # Refused inputs are what many tests are about: they need not be logged as well.
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])


def feed(op: str, args: tuple) -> dict[str, numpy.ndarray]:
    return {name: tensor.contiguous().numpy() for name, tensor in split(op, args)[0].items()}


def run_in(session: onnxruntime.InferenceSession, op: str, args: tuple) -> Tensor | tuple[Tensor, ...]:
    """As PyTorch gives it: a tensor, or a tuple of several."""
    outputs = tuple(torch.from_numpy(array) for array in session.run(None, feed(op, args)))
    return outputs if len(outputs) > 1 else outputs[0]


def run(op: str, args: tuple, threads: int = 1) -> Tensor | tuple[Tensor, ...]:
    return run_in(session(model(op, args), threads), op, args)


def run_bound(session: onnxruntime.InferenceSession, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> None:
    """By the addresses of tensors, on any device and of any dtype: NumPy has no bfloat16."""
    binding = session.io_binding()
    kept: list[Tensor] = []
    for bind, tensors in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
        for name, tensor in tensors.items():
            assert tensor.is_contiguous(), name
            place = (tensor.device.type, tensor.device.index or 0)
            # An empty tensor may have no memory, which the runtime refuses.
            memory = tensor if tensor.numel() else torch.empty(1, device=tensor.device)
            kept.append(memory)
            bind(name, *place, ELEMENT_TYPES[tensor.dtype], tuple(tensor.shape), memory.data_ptr())
    if torch.cuda.is_available():
        # The runtime's stream does not wait for PyTorch's.
        torch.cuda.synchronize()
    session.run_with_iobinding(binding)


def assert_same(got: Tensor | tuple[Tensor, ...], want: Tensor | tuple[Tensor, ...], what: str) -> None:
    """To the last bit: it is the same kernel. A NaN is as good as another."""
    for one, other in zip(results(got), results(want), strict=True):
        assert one.dtype == other.dtype, what
        assert one.shape == other.shape, what
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=lambda m: f"{what}: {m}")
