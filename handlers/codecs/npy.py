"""Reads `.npy` and `.npz` in place: the arrays are views of the request's own bytes.

Nothing here unpickles, follows a link or trusts a size: what a file says about itself is checked against the bytes that
are there before an array is made of them. Every problem is a RequestError about `field`.
"""

from __future__ import annotations

import ast
import io
import math
import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy
from isal import isal_zlib

from handlers.codecs import inflate
from handlers.codecs.budget import over_bound
from handlers.codecs.limits import MAX_UNPACKED_BYTES
from handlers.codecs.request import Buffer, subject
from handlers.errors import RequestError

NPY_MAGIC = b"\x93NUMPY"
NPZ_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
NPY_TYPE = "application/x-npy"
NPZ_TYPE = "application/x-npz"

# Headers of plain arrays take 128 bytes; the text is parsed as a Python literal, so it is kept short.
_MAX_HEADER = 1024
_LENGTH = {1: struct.Struct("<H"), 2: struct.Struct("<I")}  # by major version of the format
_MAX_DIMENSIONS = 32
# By what a header may call them. They are looked up: numpy.dtype() reads a small language, and warns of parts of it.
_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_DTYPES = {order + code: numpy.dtype(order + code) for order in ("", "<", ">", "=", "|") for code in _CODES}
_DTYPES |= {numpy.dtype(code).name: numpy.dtype(code) for code in _CODES}

Order = Literal["C", "F"]


class _Unreadable(Exception):
    """The header of an `.npy` file is not accepted; the message says why."""


def read_npy(content: Buffer, field: str | None) -> numpy.ndarray:
    """The array in an `.npy` file, as a view of `content` (bool, integer or float, in its byte order and layout).

    Raises:
        RequestError: damaged, truncated, longer than its shape says, or of Python objects, text, records or complex.
    """
    view = memoryview(content)
    if view[:6] != NPY_MAGIC or len(view) < 12:
        raise _unreadable(field, "it is not an .npy file")
    length = _LENGTH.get(view[6])
    if length is None:
        raise _unreadable(field, f"version {view[6]} of the .npy format is not accepted")
    start = 8 + length.size
    end = start + length.unpack_from(view, 8)[0]
    if end - start > _MAX_HEADER or end > len(view):
        raise _unreadable(field, f"its .npy header is truncated or longer than {_MAX_HEADER} bytes")
    try:
        dtype, order, shape = _parse_header(bytes(view[start:end]))
    except _Unreadable as error:
        raise _unreadable(field, str(error)) from None
    return view_as_array(view[end:], dtype, shape, field, order)


# A client sends the same header again and again.
@lru_cache(maxsize=256)
def _parse_header(text: bytes) -> tuple[numpy.dtype, Order, tuple[int, ...]]:
    if b"\\" in text:
        raise _Unreadable("its .npy header has a backslash")  # Python warns of escapes that it does not know
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise _Unreadable("its .npy header is not readable") from None
    if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
        raise _Unreadable("its .npy header must hold descr, fortran_order and shape")
    descr, fortran_order, shape = header["descr"], header["fortran_order"], header["shape"]
    if not (isinstance(descr, str) and type(fortran_order) is bool and isinstance(shape, tuple) and is_shape(shape)):
        raise _Unreadable("its .npy header must hold a plain dtype, True or False, and a tuple of sizes")
    dtype = _DTYPES.get(descr)
    if dtype is None:
        raise _Unreadable(f"its dtype {descr!r} is not accepted; send bool, integers or floats of at most 64 bits")
    return dtype, "F" if fortran_order else "C", shape


def is_shape(sizes: tuple | list) -> bool:
    """Whether an array can have these sizes."""
    return len(sizes) <= _MAX_DIMENSIONS and all(type(size) is int and 0 <= size < 2**63 for size in sizes)


def view_as_array(
    data: Buffer, dtype: numpy.dtype, shape: tuple[int, ...], field: str | None, order: Order = "C"
) -> numpy.ndarray:
    """An array of `shape` that views exactly the bytes of `data`.

    Raises:
        RequestError: the bytes are more or fewer than the shape needs, or hold a bool other than 0 and 1.
    """
    needed = math.prod(shape) * dtype.itemsize
    if needed != len(data):
        raise _unreadable(field, f"{dtype.name} {list(shape)} needs {needed} bytes, got {len(data)}")
    if dtype.kind == "b" and needed and numpy.frombuffer(data, numpy.uint8).max() > 1:
        raise _unreadable(field, "it holds a bool that is neither 0 nor 1")
    return reshape(numpy.frombuffer(data, dtype) if needed else numpy.empty(0, dtype), shape, field, order)


def reshape(flat: numpy.ndarray, shape: tuple[int, ...], field: str | None, order: Order = "C") -> numpy.ndarray:
    """`flat` with a shape of the same number of elements.

    Raises:
        RequestError: there are no elements, and the sizes other than the zero are larger than any array's.
    """
    try:
        return flat.reshape(shape, order=order)
    except ValueError as error:
        raise _unreadable(field, f"no array can have the shape {list(shape)}") from error


# -- .npz: a zip archive of .npy files --------------------------------------------------------------------------------

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_VERSION = 20
_ENCRYPTED, _UTF8 = 0x1, 0x800
_FIRST_DAY = 1 << 5 | 1  # of 1980
_STORED, _DEFLATED = 0, 8
_IN_ZIP64 = 0xFFFFFFFF


class Member(NamedTuple):
    """One file of a zip archive, as its directory describes it."""

    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int  # bytes once unpacked
    offset: int  # of its local header

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that reading it allocates: none for a stored one, which is read in place."""
        return 0 if self.method == _STORED else self.size


def list_npz(content: Buffer, field: str | None, max_bytes: int = MAX_UNPACKED_BYTES) -> dict[str, Member]:
    """The arrays in an `.npz` file by name, none of them unpacked yet.

    Raises:
        RequestError: damaged, a name twice, encrypted, compressed by other means than deflate, or (413) more than
            `max_bytes` together once unpacked.
    """
    # The standard library's reader makes an object of every entry before anyone can look at their number.
    view = memoryview(content)
    if len(view) < _END.size:
        raise _unreadable(field, "the .npz file is truncated")
    magic, disk, first_disk, here, count, directory_size, at, comment = _END.unpack_from(view, len(view) - _END.size)
    end = len(view) - _END.size
    if magic != b"PK\x05\x06" or comment or disk or first_disk or here != count or at + directory_size != end:
        raise _unreadable(field, "the .npz file is truncated or not a plain zip archive")
    members: dict[str, Member] = {}
    for _ in range(count):
        if at + _ENTRY.size > end:
            raise _unreadable(field, "the directory of the .npz file is truncated")
        entry = _ENTRY.unpack_from(view, at)
        flags, method, crc, packed, size, name_length, extra, comment, offset = *entry[3:5], *entry[7:13], entry[16]
        name = bytes(view[at + _ENTRY.size : at + _ENTRY.size + name_length]).decode("utf-8", "replace")
        if entry[0] != b"PK\x01\x02" or not name.endswith(".npy"):
            raise _unreadable(field, f"the .npz file holds {name[:80]!r}, which is not an .npy file")
        name = name.removesuffix(".npy")
        if name in members:
            raise RequestError(f"'{name}' occurs twice in the .npz file", field=name)
        if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED) or _IN_ZIP64 in (packed, size, offset):
            raise _unreadable(name, "it must be stored or deflated, without encryption or zip64 sizes")
        members[name] = Member(method, crc, packed, size, offset)
        at += _ENTRY.size + name_length + extra + comment
    if at != end:
        raise _unreadable(field, "the directory of the .npz file is damaged")
    # Members may overlap; each counts as if it were the only one.
    total = sum(member.size for member in members.values())
    if total > max_bytes:
        raise over_bound(f"the .npz file unpacks to {total} bytes", max_bytes, field)
    return members


def read_member(content: Buffer, member: Member, field: str | None) -> numpy.ndarray:
    """One array of an `.npz` file: a view of `content` if it is stored, of newly unpacked bytes if it is deflated.

    Raises:
        RequestError: damaged, or an `.npy` file that `read_npy` refuses.
    """
    view = memoryview(content)
    if member.offset + _LOCAL.size > len(view):
        raise _unreadable(field, "the .npz file is truncated")
    local = _LOCAL.unpack_from(view, member.offset)
    start = member.offset + _LOCAL.size + local[9] + local[10]
    data = view[start : start + member.packed]
    if local[0] != b"PK\x03\x04" or len(data) < member.packed:
        raise _unreadable(field, "the .npz file is truncated")
    try:
        unpacked = data if member.method == _STORED else inflate.inflate(data, inflate.RAW, member.size)[0]
    except inflate.DamagedStream:
        unpacked = b""
    except inflate.TooSlow:
        message = f"'{field}' takes too long to unpack; compress it with zlib, or not at all"
        raise RequestError(message, field=field, status=413) from None
    if len(unpacked) != member.size or isal_zlib.crc32(unpacked) != member.crc:
        raise _unreadable(field, "its bytes do not match their checksum")
    return read_npy(unpacked, field)


def write_npz(arrays: Mapping[str, numpy.ndarray]) -> bytes:
    """An uncompressed `.npz` file of arrays in C order; the same arrays give the same bytes."""
    # The standard library's writer takes longer than a small model.
    pieces: list[Any] = []  # of bytes, and of arrays, which typeshed does not take for buffers
    directory: list[bytes] = []
    at = 0
    for name, array in arrays.items():
        file_name, header = f"{name}.npy".encode(), _npy_header(array.dtype, array.shape)
        flags = 0 if file_name.isascii() else _UTF8
        crc, size = isal_zlib.crc32(array, isal_zlib.crc32(header)), len(header) + array.nbytes
        shared = (flags, _STORED, 0, _FIRST_DAY, crc, size, size, len(file_name))
        pieces += [_LOCAL.pack(b"PK\3\4", _VERSION, *shared, 0), file_name, header, array]
        directory += [_ENTRY.pack(b"PK\1\2", _VERSION, _VERSION, *shared, 0, 0, 0, 0, 0, at), file_name]
        at += _LOCAL.size + len(file_name) + size
    listed = sum(map(len, directory))
    count = len(arrays)
    end = _END.pack(b"PK\5\6", 0, 0, count, count, listed, at, 0)
    return b"".join([*pieces, *directory, end])


@lru_cache(maxsize=256)
def _npy_header(dtype: numpy.dtype, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    numpy.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


def _unreadable(field: str | None, reason: str) -> RequestError:
    return RequestError(f"{subject(field)} cannot be read: {reason}", field=field)
