"""Every way to run a model that holds the operators, each with the same inputs; test_parity compares what they give."""

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

import opserve_ops
import opserve_ops.onnx
from archive.repository import ROOT
from tests.extensions.native_build import cmake_library, jit_library, pybind_module, run_program, setuptools_library
from tests.extensions.onnx_nodes import run_bound
from tests.extensions.samples import csr, random

# The arguments of each operator, in order, among the inputs of the network below.
ARGUMENTS = {
    "scaled_add": ("x", "y"),
    "graph_conv": ("a", "features", "weight", "bias"),
    "graph_conv_csr": ("rowptr", "col", "value", "features", "weight", "bias"),
    "gcn_norm": ("rowptr", "col", "edges"),
    "warp_perspective": ("image", "matrix"),
}
# What follows them; the network has the same.
OPTIONS = {"scaled_add": (-0.3,), "gcn_norm": (2.0,), "warp_perspective": ((33, 141),)}
# How many results those have that have several: the last is the one with a gradient.
RESULTS = {"gcn_norm": 3}


class Network(nn.Module):
    """Each operator once: one model to compile, export, save and load for all of them."""

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor,
        edges: Tensor,
        image: Tensor,
        matrix: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        looped_rowptr, looped_col, normalized = torch.ops.opserve.gcn_norm(rowptr, col, edges, 2.0)
        return (
            torch.ops.opserve.scaled_add(x, y, -0.3),
            torch.ops.opserve.graph_conv(a, features, weight, bias),
            torch.ops.opserve.graph_conv_csr(rowptr, col, value, features, weight, bias),
            looped_rowptr,
            looped_col,
            normalized,
            torch.ops.opserve.warp_perspective(image, matrix, [33, 141]),
        )


# Which sizes stay open in what is exported.
ELEMENTS, N, F, K, NNZ, IMAGES, H, W = (Dim(name) for name in ("elements", "n", "f", "k", "nnz", "images", "h", "w"))
DYNAMIC = (
    *({0: ELEMENTS}, {0: ELEMENTS}),
    *({0: N, 1: N}, {0: N, 1: F}, {0: F, 1: K}, {0: K}),
    *({0: N + 1}, {0: NNZ}, {0: NNZ}, {0: NNZ}),
    *({0: IMAGES, 2: H, 3: W}, {0: IMAGES}),
)
# No preimage is a whole pixel, where the gradient has two sides.
HOMOGRAPHY = torch.tensor([[0.8, 0.1, 2.3173], [-0.1, 0.9, 3.1421], [0.002, 0.001, 1.0]], dtype=torch.float64)

CPU_DTYPES = (torch.float32, torch.float64)
DTYPES = {"cpu": CPU_DTYPES, "cuda": (*CPU_DTYPES, torch.float16, torch.bfloat16)}
# Elements, nodes, features in and out, images, height, width. The first reach whole vectors, parts of them and several
# threads; what is exported is exported at their sizes.
SIZES = {
    "large": (123_457, 700, 33, 17, 2, 60, 71),
    "small": (5, 7, 3, 4, 3, 5, 6),
    "one": (1, 1, 1, 1, 1, 1, 1),
    "empty": (0, 0, 3, 2, 0, 4, 4),
}

Inputs = dict[str, Tensor]
Dtypes = tuple[torch.dtype, ...]
# By dtype and name of the sizes: the operators' results by their names, gradients as "graph_conv.weight".
Results = dict[tuple[torch.dtype, str], dict[str, Tensor]]


def inputs(dtype: torch.dtype, size: str, device: str = "cpu") -> Inputs:
    """In the order of the network's arguments. The dtype of indices goes with the dtype, so that both occur."""
    elements, n, f, k, images, h, w = SIZES[size]
    rowptr, col = csr(n, 8, torch.int64 if dtype == torch.float64 else torch.int32)
    matrix = HOMOGRAPHY.to(dtype if dtype in CPU_DTYPES else torch.float32).repeat(images, 1, 1)
    values = (
        *(random(elements, dtype=dtype), random(elements, dtype=dtype, seed=1)),
        *(random(n, n, dtype=dtype), random(n, f, dtype=dtype), random(f, k, dtype=dtype), random(k, dtype=dtype)),
        # The last are positive, so that each degree has a root.
        *(rowptr, col, random(len(col), dtype=dtype), random(len(col), dtype=dtype, seed=3).abs() + 0.25),
        *(random(images, 3, h, w, dtype=dtype), matrix),
    )
    names = (name for arguments in ARGUMENTS.values() for name in arguments)
    return {name: value.to(device) for name, value in zip(dict.fromkeys(names), values, strict=True)}


def every_input(device: str, dtypes: Dtypes) -> Iterator[tuple[tuple[torch.dtype, str], Inputs]]:
    for dtype in dtypes:
        for size in SIZES:
            yield (dtype, size), inputs(dtype, size, device)


def by_operator(outputs: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, ...]]:
    rest = iter(outputs)
    found = {op: tuple(islice(rest, RESULTS.get(op, 1))) for op in ARGUMENTS}
    assert next(rest, None) is None
    return found


def named(outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    found = {}
    for op, (*others, last) in by_operator(outputs).items():
        found |= {f"{op}[{index}]": other for index, other in enumerate(others)} | {op: last}
    return {name: output.detach().cpu() for name, output in found.items()}


def with_gradients(model: Callable[..., tuple[Tensor, ...]], tensors: Inputs) -> dict[str, Tensor]:
    """The results, and of each the gradients of a sum with changing weights."""
    leaves = {name: tensor.detach().requires_grad_(tensor.is_floating_point()) for name, tensor in tensors.items()}
    found = {}
    for op, arguments in ARGUMENTS.items():
        outputs = model(*leaves.values())
        output = by_operator(outputs)[op][-1]
        names = [name for name in arguments if leaves[name].requires_grad]
        weights = random(*output.shape, dtype=output.dtype, seed=2).to(output.device)
        gradients = torch.autograd.grad(output, [leaves[name] for name in names], weights)
        found |= named(outputs)
        found |= {f"{op}.{name}": gradient.cpu() for name, gradient in zip(names, gradients, strict=True)}
    return found


# --- in this process


def eager(device: str, dtypes: Dtypes, _: Path) -> Results:
    return {key: named(Network()(*tensors.values())) for key, tensors in every_input(device, dtypes)}


def autograd(device: str, dtypes: Dtypes, _: Path) -> Results:
    return {key: with_gradients(Network(), tensors) for key, tensors in every_input(device, dtypes)}


def compiled(device: str, dtypes: Dtypes, _: Path) -> Results:
    torch._dynamo.reset()
    model = torch.compile(Network(), fullgraph=True, dynamic=True)
    return {key: with_gradients(model, tensors) for key, tensors in every_input(device, dtypes)}


PYBIND_OPS = ("scaled_add", "graph_conv")


def pybind(device: str, dtypes: Dtypes, _: Path) -> Results:
    module = pybind_module()

    def call(op: str, tensors: Inputs) -> Tensor:
        return getattr(module, f"{op}_forward")(*(tensors[name] for name in ARGUMENTS[op]), *OPTIONS.get(op, ()))

    return {key: {op: call(op, tensors) for op in PYBIND_OPS} for key, tensors in every_input(device, dtypes)}


PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def onnx_runtime(device: str, dtypes: Dtypes, folder: Path) -> Results:
    results: Results = {}
    for dtype in dtypes:
        path = folder / f"{dtype}.onnx"
        with warnings.catch_warnings():
            # The exporter's own: about trees it pickles, and names that two sizes cannot both keep.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Network(),
                tuple(inputs(dtype, "large").values()),
                dynamo=True,
                verbose=False,
                dynamic_shapes=DYNAMIC,
                custom_translation_table=opserve_ops.onnx.translation_table(),
            )
        program.save(path)
        options = opserve_ops.onnx.session_options(threads=2, cuda=device == "cuda")
        # A node that came to run on the CPU after all would be a wrong answer to whether it runs on the GPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1" if device == "cuda" else "0")
        session = onnxruntime.InferenceSession(path, options, providers=[PROVIDERS[device]])
        open_axes = [[isinstance(side, str) for side in output.shape] for output in session.get_outputs()]
        assert open_axes == [[True], *[[True, True]] * 2, *[[True]] * 3, [True, False, False, False]]
        names = [node.name for node in session.get_inputs()]
        for key, tensors in every_input(device, (dtype,)):
            outputs = tuple(
                torch.full_like(result, torch.nan if result.is_floating_point() else -1)
                for result in Network()(*tensors.values())
            )
            to = dict(zip((node.name for node in session.get_outputs()), outputs, strict=True))
            run_bound(session, {name: tensors[name] for name in names}, to)
            results[key] = named(outputs)
    return results


# --- in a process that has PyTorch and the library, but not opserve_ops: as in a worker

FRESH = """
import sys
import torch
kind, folder, *libraries = sys.argv[1:]
for library in libraries:
    torch.ops.load_library(library)
load = {
    "pt": torch.jit.load,
    "pt2": lambda path: torch.export.load(path).module(),
    "aoti": torch._inductor.aoti_load_package,
}[kind]
results, models = {}, {}
for (dtype, size), tensors in torch.load(f"{folder}/inputs").items():
    if dtype not in models:
        models[dtype] = load(f"{folder}/{dtype}.{kind}")
    results[dtype, size] = tuple(models[dtype](*tensors.values()))
torch.save(results, f"{folder}/results")
assert "opserve_ops" not in sys.modules
"""


def run_fresh(code: str, *arguments: object) -> None:
    left_out = ("LD_", "OPSERVE_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    environment["PYTHONPATH"] = f"{ROOT / 'extensions'}:{ROOT}"
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr


def libraries(device: str, library: Path | None = None) -> list[Path]:
    """Those that a process needs; `library` instead of the one that Python imports."""
    cuda = opserve_ops.cuda_library_path() if device == "cuda" else None
    return [library or opserve_ops.library_path(), *([cuda] if cuda else [])]


def in_a_fresh_process(kind: str, device: str, dtypes: Dtypes, folder: Path, library: Path | None = None) -> Results:
    torch.save(dict(every_input(device, dtypes)), folder / "inputs")
    run_fresh(FRESH, kind, folder, *libraries(device, library))
    return {key: named(outputs) for key, outputs in torch.load(folder / "results").items()}


def save_torchscript(
    device: str, dtypes: Dtypes, folder: Path, make: Callable[[Inputs], torch.jit.ScriptModule]
) -> None:
    for dtype in dtypes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(inputs(dtype, "large", device)).save(folder / f"{dtype}.pt")


def script(device: str, dtypes: Dtypes, folder: Path, library: Path | None = None) -> Results:
    save_torchscript(device, dtypes, folder, lambda _: torch.jit.script(Network()))
    return in_a_fresh_process("pt", device, dtypes, folder, library)


def trace(device: str, dtypes: Dtypes, folder: Path) -> Results:
    save_torchscript(device, dtypes, folder, lambda tensors: torch.jit.trace(Network(), tuple(tensors.values())))
    return in_a_fresh_process("pt", device, dtypes, folder)


def script_by_setuptools(device: str, dtypes: Dtypes, folder: Path) -> Results:
    return script(device, dtypes, folder, setuptools_library())


def script_by_jit(device: str, dtypes: Dtypes, folder: Path) -> Results:
    return script(device, dtypes, folder, jit_library())


def export(dtype: torch.dtype, device: str) -> torch.export.ExportedProgram:
    return torch.export.export(Network(), tuple(inputs(dtype, "large", device).values()), dynamic_shapes=DYNAMIC)


def exported(device: str, dtypes: Dtypes, folder: Path) -> Results:
    for dtype in dtypes:
        torch.export.save(export(dtype, device), folder / f"{dtype}.pt2")
    return in_a_fresh_process("pt2", device, dtypes, folder)


def aot_inductor(device: str, dtypes: Dtypes, folder: Path) -> Results:
    for dtype in dtypes:
        path = str(folder / "package.pt2")
        package = torch._inductor.aoti_compile_and_package(export(dtype, device), package_path=path)
        Path(package).rename(folder / f"{dtype}.aoti")
    return in_a_fresh_process("aoti", device, dtypes, folder)


SCRIPT_GRADIENTS = """
import sys
import torch
from tests.extensions import runtimes
folder, device = sys.argv[1:]
results = {}
for path in runtimes.Path(folder).glob("*.pt"):
    dtype = getattr(torch, path.stem.removeprefix("torch."))
    model = torch.jit.load(path)
    for key, tensors in runtimes.every_input(device, (dtype,)):
        results[key] = runtimes.with_gradients(model, tensors)
torch.save(results, f"{folder}/results")
"""


def script_gradients(device: str, dtypes: Dtypes, folder: Path) -> Results:
    """Backward through a loaded module takes opserve_ops, which says how."""
    save_torchscript(device, dtypes, folder, lambda _: torch.jit.script(Network()))
    run_fresh(SCRIPT_GRADIENTS, folder, device)
    return torch.load(folder / "results")


# --- in C++


def in_cpp(device: str, dtypes: Dtypes, folder: Path, operators: list[Path], program: str = "opserve_run") -> Results:
    save_torchscript(device, dtypes, folder, lambda _: torch.jit.script(Network()))
    results: Results = {}
    for key, tensors in every_input(device, dtypes):
        # Starting the program is most of the time: two sizes have to do.
        if key[1] not in ("large", "empty"):
            continue
        files = [folder / f"{name}.npy" for name in tensors]
        for file, tensor in zip(files, tensors.values(), strict=True):
            np.save(file, tensor.cpu().numpy())
        opened = [word for library in operators for word in ("--ops", library)]
        result = run_program(
            *(program, folder / f"{key[0]}.pt", *opened, "--device", device),
            *("--input", *files, "--output", folder / "out.npz"),
        )
        assert result.returncode == 0, result.stderr
        with np.load(folder / "out.npz") as arrays:
            results[key] = named(tuple(torch.from_numpy(array) for array in arrays.values()))
    return results


def cpp(device: str, dtypes: Dtypes, folder: Path) -> Results:
    return in_cpp(device, dtypes, folder, libraries(device, cmake_library()))


def cpp_by_setuptools(device: str, dtypes: Dtypes, folder: Path) -> Results:
    return in_cpp(device, dtypes, folder, [setuptools_library()])


def cpp_by_jit(device: str, dtypes: Dtypes, folder: Path) -> Results:
    return in_cpp(device, dtypes, folder, [jit_library()])


def cpp_linked(device: str, dtypes: Dtypes, folder: Path) -> Results:
    return in_cpp(device, dtypes, folder, [], "opserve_run_linked")


@dataclass(frozen=True)
class Runtime:
    """`run` takes a device, dtypes and an empty folder."""

    run: Callable[[str, Dtypes, Path], Results]
    ops: tuple[str, ...] = tuple(ARGUMENTS)
    dtypes: dict[str, Dtypes] = field(default_factory=lambda: DTYPES)
    gradients: bool = False


CPU_ONLY = {"cpu": CPU_DTYPES}
# Compiling takes long.
FLOAT32 = {"cpu": (torch.float32,), "cuda": (torch.float32,)}
# It reads NumPy's files, which have no bfloat16.
OF_NUMPY = {"cpu": CPU_DTYPES, "cuda": (*CPU_DTYPES, torch.float16)}

RUNTIMES = {
    "eager": Runtime(eager),
    "autograd": Runtime(autograd, gradients=True),
    "compile": Runtime(compiled, gradients=True),
    "export": Runtime(exported),
    "aot_inductor": Runtime(aot_inductor, dtypes=FLOAT32),
    "script": Runtime(script),
    "script_gradients": Runtime(script_gradients, gradients=True),
    "trace": Runtime(trace),
    "onnxruntime": Runtime(onnx_runtime),
    "pybind": Runtime(pybind, ops=PYBIND_OPS, dtypes=CPU_ONLY),
    "setuptools": Runtime(script_by_setuptools, dtypes=CPU_ONLY),
    "jit": Runtime(script_by_jit, dtypes=CPU_ONLY),
    "cpp": Runtime(cpp, dtypes=OF_NUMPY),
    "cpp_setuptools": Runtime(cpp_by_setuptools, dtypes=CPU_ONLY),
    "cpp_jit": Runtime(cpp_by_jit, dtypes=CPU_ONLY),
    "cpp_linked": Runtime(cpp_linked, dtypes=CPU_ONLY),
}
