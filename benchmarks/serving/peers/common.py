"""What every peer does with a request: bytes to arrays, the model, arrays to bytes.

The benchmark sets the folder of the models' files (BENCH_FOLDER), which of them are served (BENCH_SERVED), the port
(BENCH_PORT), and whether JSON is handled by the standard library or, for speed, by orjson and NumPy (BENCH_JSON).
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
    """PyTorch's own operator, in one call: float32 [n] each."""
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
    """The same TorchScript file that opserve serves, with opserve's operator."""

    def __init__(self):
        self.model = torch.jit.load(str(FOLDER / "graph.pt")).eval()

    def __call__(self, rowptr, col, value, x):
        """int32 [n + 1], int32 [nnz], float32 [nnz], float32 [n, 64]."""
        label, probabilities = self.model(rowptr, col, value, x)
        return {"label": label, "probabilities": probabilities}


class GraphPlain:
    """The same network in plain PyTorch: a sparse CSR tensor, times the smaller of the two products."""

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
    """Loads the served models by name."""
    return {name: MAKERS[name]() for name in SERVED}


def tensors(values):
    """Makes tensors of JSON values, NumPy arrays or the bytes of a part, by name."""
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
    """Reads a part of a form: a PNG, or JSON."""
    return decode_image(content) if content[:4] == b"\x89PNG" else parse(content)


def decode_image(content):
    """Decodes a PNG: float32 [H, W]."""
    from PIL import Image

    return numpy.asarray(Image.open(io.BytesIO(content)).convert("L"), dtype=numpy.float32)


def parse(content):
    """Parses JSON."""
    if FAST_JSON:
        import orjson

        return orjson.loads(content)
    return json.loads(content)


def run(model, values):
    """Runs a model on named values; returns its outputs by name."""
    with torch.inference_mode():
        return model(**tensors(values))


def parse_body(content, content_type):
    """Reads a body: its named values, and whether it is in the Open Inference Protocol."""
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


def jsonable(outputs, *, is_oip=False):
    """Prepares outputs for a JSON encoder: lists, or NumPy arrays where orjson accepts them."""
    if is_oip:
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
    # orjson accepts NumPy's arrays, but not its scalars.
    return {name: tensor.numpy() if FAST_JSON and tensor.ndim else tensor.tolist() for name, tensor in outputs.items()}


def npz(outputs):
    """Encodes an uncompressed `.npz`."""
    file = io.BytesIO()
    numpy.savez(file, **{name: tensor.numpy() for name, tensor in outputs.items()})
    return file.getvalue()


def encode(outputs, content_type, *, is_oip=False):
    """Encodes outputs in the format of the request: body and media type."""
    if content_type.startswith(NPZ_TYPE):
        return npz(outputs), NPZ_TYPE
    document = jsonable(outputs, is_oip=is_oip)
    if FAST_JSON:
        import orjson

        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), JSON_TYPE
    return json.dumps(document).encode(), JSON_TYPE


def respond(model, content, content_type):
    """Responds to a body: body and media type."""
    values, is_oip = parse_body(content, content_type)
    return encode(run(model, values), content_type, is_oip=is_oip)
