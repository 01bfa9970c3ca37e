"""Files and functions that, in an archive, make its reader run forever or use up all memory."""

import struct
import sys
import time

_SECTION = struct.Struct("<2I4Q2I2Q")
_HEADER_BYTES, _VERSION_NEEDS, _STRINGS = 64, 0x6FFFFFFE, 3


def _elf(sections: list[bytes], contents: bytes) -> bytes:
    """An ELF file: its header, the contents and the table of sections, in this order."""
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    fields = (3, 62, 1, 0, 0, _HEADER_BYTES + len(contents), 0, _HEADER_BYTES, 56, 0, 64, len(sections), 1)
    return ident + struct.pack("<2HI3QI6H", *fields) + contents + b"".join(sections)


def _section(name: int, kind: int, offset: int, size: int, info: int = 0) -> bytes:
    return _SECTION.pack(name, kind, 0, 0, offset, size, 1, info, 1, 0)


def looping_versions(sections: int = 1) -> bytes:
    """A library that claims to have 2**32 - 1 tables of required versions of 65,535 entries each, all the same one."""
    strings = b"\0.versions\0GLIBC_2.2\0"
    need = struct.pack("<2H3I", 1, 65535, 11, 16, 0) + struct.pack("<I2H2I", 0, 0, 1, 11, 0)
    table = [bytes(64), _section(1, _STRINGS, _HEADER_BYTES, len(strings))]
    table += [_section(1, _VERSION_NEEDS, _HEADER_BYTES + len(strings), len(need), 2**32 - 1)] * sections
    return _elf(table, strings + need)


def endless_names(size: int = 8 << 20) -> bytes:
    """A library whose 60,000 sections each have a name as long as the file."""
    table = [bytes(64), _section(0, _STRINGS, _HEADER_BYTES, size)]
    table += [_section(1, 1, _HEADER_BYTES, 0)] * 60_000
    return _elf(table, b"a" * size)


def aliases(lines: int = 60) -> bytes:
    """YAML in which every line is an alias for two of the line before."""
    text = ["l0: &l0 [x, x]", *(f"l{n}: &l{n} [*l{n - 1}, *l{n - 1}]" for n in range(1, lines))]
    return "\n".join([*text, f"opserve: *l{lines - 1}", f"profiles: *l{lines - 1}"]).encode()


def merged_aliases(lines: int = 60) -> bytes:
    """YAML in which every line merges the line before twice."""
    text = ["l0: &l0 {a: 1}", *(f"l{n}: &l{n} {{<<: [*l{n - 1}, *l{n - 1}]}}" for n in range(1, lines))]
    return "\n".join([*text, f"opserve: *l{lines - 1}"]).encode()


def alias_of_itself() -> bytes:
    """YAML of a list that contains itself."""
    return b"opserve: &x [*x]"


def nested(text: str = "[", depth: int = 100_000) -> bytes:
    """JSON or YAML that opens brackets and never closes them."""
    return (text * depth).encode()


# -- functions to be called in a process with bounds ------------------------------------------------------------------


def spin() -> None:
    """Uses processor time."""
    while True:
        pass


def wait() -> None:
    """Waits."""
    time.sleep(1000)


def hoard() -> int:
    """Uses memory."""
    return len([bytearray(1 << 20) for _ in range(100_000)])


def talk() -> str:
    """Returns a long text."""
    return "x" * 300_000_000


def complain() -> None:
    """Writes to stderr without end."""
    while True:
        sys.stderr.write("x" * 10_000)


def nest() -> object:
    """Recurses without end."""
    return nest()
