"""The frame of every `build.py`: an output folder that is complete or absent, and errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import torch


class BuildError(Exception):
    """A model could not be built; the message is the one line a person needs."""


@contextmanager
def output_folder(description: str) -> Iterator[Path]:
    """Parses `--output FOLDER` and yields an empty folder that takes FOLDER's place when the body ends well.

    A body that fails leaves FOLDER as it was. `BuildError` and `OSError` end the program with one line on stderr.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the artifact is written")
    target = parser.parse_args().output
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
            partial = Path(temporary, target.name)
            partial.mkdir()
            yield partial
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silences TorchScript's deprecation warnings: opserve serves it knowingly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def save_torchscript(model: torch.nn.Module, path: Path) -> None:
    """Scripts a module and saves it; the same module gives the same bytes."""
    import torch  # slow, and not needed by all that use this module

    with quiet_torchscript():
        scripted = torch.jit.script(model)
    save_script_module(scripted, path)


def write_sample(folder: Path, request: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """Writes a sample whose request is one JSON body; values may be arrays."""
    (folder / "request").mkdir(parents=True)
    (folder / "request" / "body.json").write_bytes(_json(request))
    (folder / "answer.json").write_bytes(_json(answer))


def _json(document: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(document), option=orjson.OPT_SERIALIZE_NUMPY)


def export_onnx(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    path: Path,
) -> None:
    """Exports a module to ONNX with opserve's operators, its sizes left open.

    Args:
        model: in eval mode.
        inputs: example tensors by the names they shall have, in the order of `forward`.
        outputs: names of what `forward` returns, in its order.
        dynamic: for each input, the axes that stay open and their names; equal names are equal sizes.
        path: the file to write; weights are inside.
    """
    import torch

    from opserve_ops import onnx  # it needs onnxscript, which only an export does

    axes = {name: torch.export.Dim(name) for sizes in dynamic.values() for name in sizes.values()}
    shapes = {name: {axis: axes[size] for axis, size in sizes.items()} for name, sizes in dynamic.items()}
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
        program.save(path, external_data=False)


def save_script_module(module: torch.jit.ScriptModule, path: Path) -> None:
    """Saves a scripted or traced module so that the same module gives the same bytes wherever its sources lie.

    PyTorch adds records for debuggers that hold the absolute path of every source file; they are left out. An error in
    the module still shows its line, in the code that TorchScript made of it.
    """
    import torch  # slow, and not needed by all that use this module

    with tempfile.TemporaryDirectory(prefix="opserve-save-") as temporary:
        complete = Path(temporary, path.name)  # the name is part of the contents
        with quiet_torchscript():
            module.save(str(complete))
        reader = torch._C.PyTorchFileReader(str(complete))
        writer = torch._C.PyTorchFileWriter(str(path))
        for name in reader.get_all_records():
            # The writer makes the last two itself.
            if not name.endswith(".debug_pkl") and name not in ("version", ".data/serialization_id"):
                content = reader.get_record(name)
                writer.write_record(name, content, len(content))
        writer.write_end_of_file()
