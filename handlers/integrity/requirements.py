"""What a shared library requires of the machine that opens it, and whether this machine meets it.

Nothing of the library is executed. What is not known about a library is not checked.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from handlers.errors import ModelError

# Families of versioned symbols, and the system library that defines each.
SYMBOLS = {"GLIBC": "libc.so.6", "GLIBCXX": "libstdc++.so.6", "CXXABI": "libstdc++.so.6"}
_VERSION = re.compile(r"\d+(\.\d+)*")


@dataclass(frozen=True)
class LibraryRequirements:
    """What one ELF file was built for, as the packer read it from the file itself.

    Attributes:
        machine: the processor, as `uname -m` names it.
        symbols: the newest version it refers to of each family of versioned symbols (GLIBC, GLIBCXX, CXXABI).
        torch_stable_abi: the oldest PyTorch whose stable ABI suffices ("2.10"), or `None`.
        torch_exactly: for a library that uses PyTorch's C++ classes, whose layout changes with every minor version:
            the PyTorch it was tried with ("2.13"), or `None`.
        onnxruntime_api: the API version it asks ONNX Runtime for, or `None`.
        cuda_programs: compute capabilities ("8.6") it has machine code for.
        cuda_intermediate: compute capabilities it has PTX for, which the driver compiles for these and newer ones.
    """

    machine: str
    symbols: dict[str, str] = field(default_factory=dict)
    torch_stable_abi: str | None = None
    torch_exactly: str | None = None
    onnxruntime_api: int | None = None
    cuda_programs: tuple[str, ...] = ()
    cuda_intermediate: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form in which `opserve.json` holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any, where: str) -> LibraryRequirements:
        """The reverse of `as_dict`.

        Raises:
            ModelError: anything but what `as_dict` gives.
        """
        if not isinstance(values, dict) or values.keys() != cls.__dataclass_fields__.keys():
            raise ModelError(f"{where}: expected the keys {', '.join(cls.__dataclass_fields__)}")
        texts = [values["machine"], values["symbols"], values["torch_stable_abi"], values["torch_exactly"]]
        if not (
            isinstance(texts[0], str)
            and isinstance(texts[1], dict)
            and all(map(_is_version, texts[1].values()))
            and all(text is None or _is_version(text) for text in texts[2:])
            and (values["onnxruntime_api"] is None or type(values["onnxruntime_api"]) is int)
            and all(_are_versions(values[key]) for key in ("cuda_programs", "cuda_intermediate"))
        ):
            raise ModelError(f"{where}: a value is of the wrong type")
        lists = {key: tuple(values[key]) for key in ("cuda_programs", "cuda_intermediate")}
        return cls(**(values | lists))

    def describe(self) -> str:
        """One line for a person."""
        parts = [self.machine, *(f"{family} {version}" for family, version in sorted(self.symbols.items()))]
        if self.torch_stable_abi:
            parts.append(f"PyTorch {self.torch_stable_abi} or newer")
        if self.torch_exactly:
            parts.append(f"PyTorch {self.torch_exactly}")
        if self.onnxruntime_api:
            parts.append(f"ONNX Runtime 1.{self.onnxruntime_api} or newer")
        if self.cuda_programs or self.cuda_intermediate:
            parts.append("GPU " + " ".join([*self.cuda_programs, *(f"{each}+" for each in self.cuda_intermediate)]))
        return ", ".join(parts)

    def check_machine(self, name: str) -> None:
        """Checks the requirements against this machine, leaving aside its GPU.

        Raises:
            ModelError: in one line, naming the library `name` and what is missing.
        """
        for problem in self._problems():
            raise ModelError(f"{name}: {problem}")

    def _problems(self) -> Iterator[str]:
        if self.machine != platform.machine():
            yield f"built for {self.machine}; this processor is {platform.machine()}: build the library for it"
        for family, version in self.symbols.items():
            if family == "GLIBC":
                here = glibc_version()
                if here is None or parse_version(here) < parse_version(version):
                    advice = "build it on an older system, or serve it on a newer one"
                    yield f"needs glibc {version} or newer; here is {here or 'another C library'}: {advice}"
            elif family in SYMBOLS and not defines_version(SYMBOLS[family], f"{family}_{version}"):
                advice = "build it with an older compiler, or serve it on a newer system"
                yield f"needs {SYMBOLS[family]} with {family}_{version}; the one here is older: {advice}"
        rebuild = "or build the library for this one"
        if self.torch_stable_abi and parse_version(torch_version()) < parse_version(self.torch_stable_abi):
            built_for = f"built for PyTorch {self.torch_stable_abi} or newer"
            yield f"{built_for}; here is {torch_version()}: install a newer one, {rebuild}"
        if self.torch_exactly and parse_version(torch_version())[:2] != parse_version(self.torch_exactly)[:2]:
            built_for = f"built for PyTorch {self.torch_exactly} and no other (it does not keep to the stable ABI)"
            yield f"{built_for}; here is {torch_version()}: install that one, {rebuild}"
        # API version n is that of ONNX Runtime 1.n.
        if self.onnxruntime_api and parse_version(onnxruntime_version())[:2] < (1, self.onnxruntime_api):
            built_for = f"built for ONNX Runtime 1.{self.onnxruntime_api} or newer"
            yield f"{built_for}; here is {onnxruntime_version()}: install a newer one, {rebuild}"

    def check_gpu(self, name: str, capability: tuple[int, int]) -> None:
        """Checks the GPU code in a library against a GPU's compute capability; a library without any passes.

        Raises:
            ModelError: naming the library `name`, what it has code for and what the GPU is.
        """
        programs = [parse_version(each) for each in self.cuda_programs]
        intermediate = [parse_version(each) for each in self.cuda_intermediate]
        # Machine code runs on its own generation and later members of it, PTX on everything newer.
        runs = any(major == capability[0] and minor <= capability[1] for major, minor in programs)
        if (programs or intermediate) and not runs and not any(each <= capability for each in intermediate):
            # TorchServe takes any message that contains NVIDIA's name for the platform for one about memory.
            raise ModelError(
                f"{name}: has GPU code for {', '.join([*self.cuda_programs, *self.cuda_intermediate])}; this GPU has "
                f"compute capability {capability[0]}.{capability[1]}: build the library for it, or use device: cpu"
            )


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers a version starts with: (2, 13, 0) for `2.13.0+cpu`."""
    found = _VERSION.match(text)
    return tuple(map(int, found[0].split("."))) if found else (0,)


def torch_version() -> str:
    """The version of the PyTorch that this process has imported or would import.

    Raises:
        ModelError: PyTorch is not installed.
    """
    loaded = sys.modules.get("torch")
    if loaded is not None:
        return str(loaded.__version__)
    try:
        return metadata.version("torch")  # importing it takes seconds
    except metadata.PackageNotFoundError:
        raise ModelError("PyTorch is not installed here") from None


def onnxruntime_version() -> str:
    """The version of the ONNX Runtime that this process would import.

    Raises:
        ModelError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime  # its distribution has many names, so its metadata cannot be looked up
    except ImportError as error:
        raise ModelError(f"ONNX Runtime is not installed here: {error}") from error
    return str(onnxruntime.__version__)


def glibc_version() -> str | None:
    """The version of the running C library, or `None` if it is not glibc."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except ValueError:
        return None
    return version if name == "glibc" else None


@cache
def defines_version(library: str, version: str) -> bool:
    """Whether a system library, as the loader finds it for this process, defines a version of its symbols."""
    try:
        ctypes.CDLL(library)
        mapped = Path("/proc/self/maps").read_text().split("\n")
    except OSError:
        return False
    paths = {line.split(maxsplit=5)[5] for line in mapped if f"/{library}" in line}
    # Its string table holds the names of the versions, each ended by a zero.
    return any(b"\0" + version.encode() + b"\0" in Path(path).read_bytes() for path in paths if Path(path).is_file())


def _is_version(value: Any) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def _are_versions(values: Any) -> bool:
    return isinstance(values, list) and all(_is_version(value) and value.count(".") == 1 for value in values)
