"""Saves models in the formats that are served; the same model gives the same bytes."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import onnx_ir

# Consecutive lines such as b"  stride : Final[Tuple[int, int]] = (1, 1)".
_CONSTANTS = re.compile(rb"(?:^  \w+ : Final\[[^\n]*\n)+", re.MULTILINE)


@contextlib.contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silences TorchScript's deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def save_torchscript(model: torch.nn.Module, path: Path) -> None:
    """Scripts a module and saves it; the same module gives the same bytes."""
    with quiet_torchscript():
        scripted = torch.jit.script(model)
    save_script_module(scripted, path)


def save_script_module(module: torch.jit.ScriptModule, path: Path) -> None:
    """Saves a scripted or traced module; the same module gives the same bytes.

    PyTorch adds records for debuggers that contain the absolute path of every source file; they are left out. An error
    in the module still shows its line, in the code that TorchScript generated. And PyTorch writes a module's constants
    in the order of a set, which differs between processes; they are sorted.
    """
    with tempfile.TemporaryDirectory(prefix="opserve-save-") as temporary:
        complete = Path(temporary, path.name)  # the name is part of the contents
        with quiet_torchscript():
            module.save(str(complete))
        reader = torch._C.PyTorchFileReader(str(complete))
        writer = torch._C.PyTorchFileWriter(str(path))
        for name in reader.get_all_records():
            # The writer adds the last two itself.
            if not name.endswith(".debug_pkl") and name not in ("version", ".data/serialization_id"):
                content = reader.get_record(name)
                if name.endswith(".py"):
                    content = _CONSTANTS.sub(_sorted_lines, content)
                writer.write_record(name, content, len(content))
        writer.write_end_of_file()


def _sorted_lines(found: re.Match[bytes]) -> bytes:
    return b"".join(sorted(found[0].splitlines(keepends=True)))


def export_onnx(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    path: Path,
) -> None:
    """Exports a module to ONNX with opserve's operators and open sizes; the same module gives the same bytes.

    Args:
        model: in eval mode.
        inputs: names and example tensors, in the order of the arguments of `forward`.
        outputs: names, in the order of the results of `forward`.
        dynamic: for each input, the open axes and their names; equal names mean equal sizes.
        path: the file to write, weights included.
    """
    from opserve_ops import onnx  # needs onnxscript, which only an export does

    axes = {name: torch.export.Dim(name) for sizes in dynamic.values() for name in sizes.values()}
    shapes = {name: {axis: axes[size] for axis, size in sizes.items()} for name, sizes in dynamic.items()}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about packages that it could use
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            model,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(shapes[name] for name in inputs),
            dynamo=True,
            custom_translation_table=onnx.translation_table(),
            verbose=False,
        )
        _forget_sources(program.model)
        program.save(path, external_data=False)


def _forget_sources(model: onnx_ir.Model) -> None:
    """Removes what the exporter adds for debuggers: above all the absolute path of every source file."""
    graphs: list[onnx_ir.Graph | onnx_ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        graph.metadata_props.clear()
        for value in (*graph.inputs, *getattr(graph, "initializers", {}).values()):
            value.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
