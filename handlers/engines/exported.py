"""Exported programs and AOTInductor packages (`.pt2`)."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from handlers.engines.package import is_compiled
from handlers.engines.pytorch import PyTorchEngine
from handlers.errors import ModelError, last_line


class ExportedEngine(PyTorchEngine):
    """A file of `torch.export.save` or of `torch._inductor.aoti_compile_and_package`; its contents show which."""

    format = "exported program"

    def _load(self, path: Path) -> Callable[..., Any]:
        """Reads the file.

        Raises:
            ModelError: it is neither, needs an operator that is not registered, or was compiled for another device.
        """
        try:
            compiled = is_compiled(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path.name}: not a .pt2 file: {error}") from error
        try:
            if compiled:
                self.format = "AOTInductor package"
                return torch._inductor.aoti_load_package(str(path), device_index=self._device.index or -1)
            return torch.export.load(str(path)).module().to(self._device)
        except Exception as error:
            missing = re.search(r"opserve[.:]+\w+|\w+::\w+", str(error))
            hint = f"; is the library that registers {missing[0]} under op_libraries?" if missing else ""
            raise ModelError(f"{path.name}: not a .pt2 file that can be loaded: {last_line(error)}{hint}") from error
