"""Reads the requirements of a shared library: processor, symbol versions, runtimes and GPU architectures."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection
from elftools.elf.segments import NoteSegment

from archive.errors import ArchiveError
from handlers.integrity.requirements import SYMBOLS, LibraryRequirements, parse_version, torch_version

MAGIC = b"\x7fELF"
# As `uname -m` names the processors.
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64", "EM_PPC64": "ppc64le", "EM_RISCV": "riscv64"}
# A function or object of PyTorch's C++ namespaces, which change with every version.
_UNSTABLE_SYMBOL = re.compile(r"_Z(T[VI])?N[KVrR]*(2at|3c10|5torch|5caffe2)\d")
# The notes of extensions/include/opserve/built_for.h.
_NOTE_OWNER, _TORCH_STABLE_ABI, _ONNXRUNTIME_API = "opserve", 1, 2
# nvcc puts GPU code into containers, each with programs for several architectures.
_FATBIN = struct.Struct("<6xHQ")
_FATBIN_MARK = b"\x50\xed\x55\xba"
_PROGRAM = struct.Struct("<HHIQ12xI")
_PTX, _CUBIN = 1, 2
# Each entry of the table of symbol versions, auxiliary entries included.
_VERSION_ENTRY_BYTES = 16


def is_library(path: Path) -> bool:
    """Whether a file is native code, whatever its name."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_requirements(path: Path) -> LibraryRequirements:
    """The requirements of a shared library, as far as its file states them.

    Raises:
        ArchiveError: it is not an ELF file, or a damaged one.
    """
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            notes = dict(_notes(elf))
            programs, intermediate = _gpu_architectures(elf)
            return LibraryRequirements(
                machine=_MACHINES.get(elf["e_machine"], str(elf["e_machine"])),
                symbols=_symbol_versions(elf),
                torch_stable_abi="{}.{}".format(*notes[_TORCH_STABLE_ABI]) if _TORCH_STABLE_ABI in notes else None,
                torch_exactly=".".join(torch_version().split(".")[:2]) if _is_unstable(elf) else None,
                onnxruntime_api=notes[_ONNXRUNTIME_API][0] if _ONNXRUNTIME_API in notes else None,
                cuda_programs=programs,
                cuda_intermediate=intermediate,
            )
    except MemoryError:
        raise
    except Exception as error:  # there are as many as ways to damage a file
        raise ArchiveError(f"{path.name}: not a shared library that can be read: {error}") from error


def _symbol_versions(elf: ELFFile) -> dict[str, str]:
    newest: dict[str, str] = {}
    # Each entry says where the next one is, and their number has 32 bits: a forged table could be endless.
    left = elf.stream_len // _VERSION_ENTRY_BYTES
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, versions in section.iter_versions():
                for version in versions:
                    left -= 1
                    if left < 0:
                        raise ValueError("its versions take more than the whole file")
                    family, _, number = version.name.partition("_")
                    known = family in SYMBOLS and re.fullmatch(r"[\d.]+", number)
                    if known and parse_version(number) > parse_version(newest.get(family, "0")):
                        newest[family] = number
    return newest


def _is_unstable(elf: ELFFile) -> bool:
    table = elf.get_section_by_name(".dynsym")
    return isinstance(table, SymbolTableSection) and any(
        symbol["st_shndx"] == "SHN_UNDEF" and _UNSTABLE_SYMBOL.match(symbol.name) for symbol in table.iter_symbols()
    )


def _notes(elf: ELFFile) -> Iterator[tuple[int, tuple[int, int]]]:
    for segment in elf.iter_segments():
        if isinstance(segment, NoteSegment):
            for note in segment.iter_notes():
                if note["n_name"] == _NOTE_OWNER:
                    # pyelftools translates the kind as if it were that of another owner.
                    (kind,) = struct.unpack_from("<8xI", segment.data(), note["n_offset"] - segment["p_offset"])
                    yield kind, struct.unpack("<2I", note["n_descdata"])


def _gpu_architectures(elf: ELFFile) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The compute capabilities with machine code, and those with PTX, in every container of the library."""
    section = elf.get_section_by_name(".nv_fatbin")
    if section is None:
        return (), ()
    containers = [set(_programs(data)) for data in _containers(section.data())]
    # A kernel is in one of them: an architecture that a container lacks is one that some kernels lack.
    common = set.intersection(*containers) if containers else set()

    def of_kind(wanted: int) -> tuple[str, ...]:
        return tuple(f"{arch // 10}.{arch % 10}" for kind, arch in sorted(common) if kind == wanted)

    return of_kind(_CUBIN), of_kind(_PTX)


def _containers(data: bytes) -> Iterator[bytes]:
    offset = data.find(_FATBIN_MARK)
    while 0 <= offset <= len(data) - _FATBIN.size:
        header, size = _FATBIN.unpack_from(data, offset)
        yield data[offset + header : offset + header + size]
        # There may be padding between them.
        offset = data.find(_FATBIN_MARK, offset + max(header, _FATBIN.size) + size)


def _programs(container: bytes) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset + _PROGRAM.size <= len(container):
        kind, _, header, size, arch = _PROGRAM.unpack_from(container, offset)
        if header == 0:
            return
        yield kind, arch
        offset += header + size
