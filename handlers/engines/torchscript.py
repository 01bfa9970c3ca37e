"""TorchScript (`.pt`)."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch

from handlers.engines.pytorch import PyTorchEngine
from handlers.errors import ModelError, error_lines


class TorchScriptEngine(PyTorchEngine):
    """A scripted or traced module, frozen and optimised for inference if the configuration says so."""

    format = "TorchScript"

    def _load(self, path: Path) -> torch.jit.ScriptModule:
        """Reads the file.

        Raises:
            ModelError: it is not TorchScript, needs an operator that is not registered, or cannot be frozen.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript warns on every load
            module = self._read(path)
            try:
                if self.config.freeze:
                    module = torch.jit.freeze(module)
                if self.config.optimize_for_inference:
                    module = torch.jit.optimize_for_inference(module)
            except RuntimeError as error:
                raise ModelError(
                    f"{path.name}: it cannot be frozen or optimised for inference: {error_lines(error)[0]}; "
                    "take freeze and optimize_for_inference out"
                ) from error
        return module

    def _read(self, path: Path) -> torch.jit.ScriptModule:
        try:
            return torch.jit.load(str(path), map_location=self._device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            missing = re.search(r"[Uu]nknown builtin op: ([\w:.]+?)\.?\s", str(error))
            if missing:
                raise ModelError(
                    f"{path.name}: it needs the operator {missing[1]}, which no library under op_libraries registers; "
                    "add the library that does"
                ) from error
            raise ModelError(
                f"{path.name}: not a TorchScript model that can be read: {error_lines(error)[0]}"
            ) from error
