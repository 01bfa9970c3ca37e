"""What every peer does with a request: bytes to arrays, the model, arrays to bytes.

The harness says by the environment where the models' files lie (BENCH_FOLDER), which of them are served (BENCH_SERVED),
on which port (BENCH_PORT), and whether JSON goes through the standard library or, as a person would write who minds
speed, through orjson and NumPy (BENCH_JSON).
"""

import io
import json
import os
from pathlib import Path

import numpy
import torch

FOLDER = Path(os.environ["BENCH_FOLDER"])
SERVED = os.environ["BENCH_SERVED"].split(",")
PORT = int(os.environ["BENCH_PORT"])
FAST_JSON = os.environ.get("BENCH_JSON") == "orjson"
JSON_TYPE, NPZ_TYPE = "application/json", "application/x-npz"
DATATYPES = {"FP32": numpy.float32, "INT32": numpy.int32, "INT64": numpy.int64}
NAMES = {numpy.dtype(dtype): name for name, dtype in DATATYPES.items()}
INTEGERS = ("rowptr", "col")

torch.set_num_threads(1)
torch.ops.load_library(str(FOLDER / "libopserve_torch.so"))


def scaled_add(x, y):
    """float32 [n] each; PyTorch's own, in one call."""
    return {"z": torch.add(y, x, alpha=2)}


class Digits:
    """The same TorchScript file that opserve serves."""

    def __init__(self):
        self.model = torch.jit.load(str(FOLDER / "digits.pt")).eval()

    def __call__(self, image, corners):
        """float32 [H, W] and [4, 2]."""
        label, probabilities = self.model(image[None], corners[None])
        return {"label": label[0], "probabilities": probabilities[0]}


class GraphOp:
    """The same TorchScript file that opserve serves: opserve's operator."""

    def __init__(self):
        self.model = torch.jit.load(str(FOLDER / "graph.pt")).eval()

    def __call__(self, rowptr, col, value, x):
        """int32 [n + 1], int32 [nnz], float32 [nnz], float32 [n, 64]."""
        label, probabilities = self.model(rowptr, col, value, x)
        return {"label": label, "probabilities": probabilities}


class GraphPlain:
    """The same network in PyTorch alone: a sparse CSR tensor, times the smaller of the two products."""

    def __init__(self):
        with numpy.load(FOLDER / "graph_weights.npz") as weights:
            self.weights = {name: torch.from_numpy(weights[name]) for name in weights.files}

    def __call__(self, rowptr, col, value, x):
        """int32 [n + 1], int32 [nnz], float32 [nnz], float32 [n, 64]."""
        w, n = self.weights, len(rowptr) - 1
        adjacency = torch.sparse_csr_tensor(rowptr, col, value, (n, n), check_invariants=False)
        hidden = torch.addmm(w["first_bias"], adjacency, x @ w["first"]).relu()
        probabilities = torch.addmm(w["second_bias"], adjacency, hidden @ w["second"]).softmax(dim=1)
        return {"label": probabilities.argmax(dim=1), "probabilities": probabilities}


MAKERS = {"scaled_add": lambda: scaled_add, "digits": Digits, "graph_plain": GraphPlain, "graph_op": GraphOp}


def load_models():
    """The served models by name."""
    return {name: MAKERS[name]() for name in SERVED}


def tensors(values):
    """The tensors of JSON values, NumPy arrays or a PNG's bytes, by name."""
    made = {}
    for name, given in values.items():
        value = read_part(given) if isinstance(given, bytes | bytearray) else given
        if isinstance(value, numpy.ndarray):
            made[name] = torch.from_numpy(value)
        elif FAST_JSON:
            made[name] = torch.from_numpy(numpy.array(value, numpy.int32 if name in INTEGERS else numpy.float32))
        else:
            made[name] = torch.tensor(value, dtype=torch.int32 if name in INTEGERS else torch.float32)
    return made


def read_part(content):
    """A part of a form: a PNG, or JSON."""
    return decode_image(content) if content[:4] == b"\x89PNG" else parse(content)


def decode_image(content):
    """float32 [H, W] of a PNG."""
    from PIL import Image

    return numpy.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=numpy.float32)


def parse(content):
    """The JSON of bytes."""
    if FAST_JSON:
        import orjson

        return orjson.loads(content)
    return json.loads(content)


def run(model, values):
    """The outputs for named values, by name."""
    with torch.inference_mode():
        return model(**tensors(values))


def values_of(content, content_type):
    """(the named values of a body, whether it is in the Open Inference Protocol)."""
    if content_type.startswith(NPZ_TYPE):
        with numpy.load(io.BytesIO(content)) as file:
            return {name: file[name] for name in file.files}, False
    document = parse(content) if isinstance(content, bytes | bytearray | memoryview) else content
    if "inputs" not in document:
        return document, False
    made = {}
    for tensor in document["inputs"]:
        array = numpy.array(tensor["data"], DATATYPES[tensor["datatype"]])
        made[tensor["name"]] = array.reshape(tensor["shape"])
    return made, True


def jsonable(outputs, is_call=False):
    """What a JSON encoder gets: lists, or NumPy arrays where orjson takes them."""
    if is_call:
        return {
            "outputs": [
                {
                    "name": name,
                    "shape": list(tensor.shape),
                    "datatype": NAMES[tensor.numpy().dtype],
                    "data": tensor.numpy().ravel() if FAST_JSON else tensor.flatten().tolist(),
                }
                for name, tensor in outputs.items()
            ]
        }
    # orjson takes arrays, but no scalars of NumPy's.
    return {name: tensor.numpy() if FAST_JSON and tensor.ndim else tensor.tolist() for name, tensor in outputs.items()}


def npz(outputs):
    """An `.npz`, uncompressed."""
    file = io.BytesIO()
    numpy.savez(file, **{name: tensor.numpy() for name, tensor in outputs.items()})
    return file.getvalue()


def encode(outputs, content_type, is_call=False):
    """(body, media type), as the request came."""
    if content_type.startswith(NPZ_TYPE):
        return npz(outputs), NPZ_TYPE
    document = jsonable(outputs, is_call)
    if FAST_JSON:
        import orjson

        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), JSON_TYPE
    return json.dumps(document).encode(), JSON_TYPE


def answer(model, content, content_type):
    """(body, media type) of the answer to a whole body."""
    values, is_call = values_of(content, content_type)
    return encode(run(model, values), content_type, is_call)
