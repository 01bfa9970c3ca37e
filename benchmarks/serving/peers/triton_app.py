"""Triton through nvidia-pytriton: its C++ server parses, and a Python process runs the model."""

import numpy
from common import PORT, load_models, run
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

F, I32, I64 = numpy.float32, numpy.int32, numpy.int64
GRAPH = {"rowptr": (I32, (-1,)), "col": (I32, (-1,)), "value": (F, (-1,)), "x": (F, (-1, 64))}
INPUTS = {
    "scaled_add": {"x": (F, (-1,)), "y": (F, (-1,))},
    "digits": {"image": (numpy.uint8, (-1,)), "corners": (F, (4, 2))},
    "graph_plain": GRAPH,
    "graph_op": GRAPH,
}
LABELS = {"label": (I64, (-1,)), "probabilities": (F, (-1, 7))}
OUTPUTS = {
    "scaled_add": {"z": (F, (-1,))},
    "digits": {"label": (I64, ()), "probabilities": (F, (10,))},
    "graph_plain": LABELS,
    "graph_op": LABELS,
}


def make_function(name, model):
    """Makes the function that Triton calls with a list of requests."""

    def infer(requests):
        responses = []
        for request in requests:
            values = {key: request.data[key] for key in INPUTS[name]}
            if name == "digits":
                values["image"] = values["image"].tobytes()
            outputs = run(model, values)
            responses.append(
                {key: tensor.numpy().reshape(output_shape(name, key, tensor)) for key, tensor in outputs.items()}
            )
        return responses

    return infer


def output_shape(name, key, tensor):
    # Triton does not have scalars.
    return (1,) if OUTPUTS[name][key][1] == () else tuple(tensor.shape)


def describe(tensors):
    return [Tensor(name=name, dtype=dtype, shape=shape or (1,)) for name, (dtype, shape) in tensors.items()]


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1", http_port=PORT, grpc_port=PORT + 1, metrics_port=PORT + 2, allow_metrics=False
    )
    with Triton(config=config) as triton:
        for name, model in load_models().items():
            triton.bind(
                model_name=name,
                infer_func=make_function(name, model),
                inputs=describe(INPUTS[name]),
                outputs=describe(OUTPUTS[name]),
                config=ModelConfig(batching=False),
            )
        triton.serve()
