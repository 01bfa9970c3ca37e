"""Compressed bodies and arrays made to harm the process that unpacks them."""

import gzip
import io
import struct
import zlib

import numpy

# -- deflate -----------------------------------------------------------------------------------------------------------


class _Bits:
    def __init__(self) -> None:
        self.value = self.count = 0

    def put(self, value: int, count: int) -> None:
        """A number, its lowest bit first."""
        self.value |= value << self.count
        self.count += count


def slow_blocks(count: int, each: int = 0) -> bytes:
    """A raw deflate stream of `count` (a multiple of 8) small blocks: a Huffman code and `each` zero bytes."""
    block = _Bits()
    block.put(0b100, 3)  # not the last, with its own tables
    block.put(0, 10)  # 257 codes for literals, 1 for distances
    block.put(14, 4)
    for symbol in (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1):
        block.put(1 if symbol in (18, 1) else 0, 3)
    # The literal 0 and the end of the block have codes of one bit, all others none.
    block.put(0, 1)
    for run in (138, 117):
        block.put(1, 1)
        block.put(run - 11, 7)
    block.put(0, 2)
    block.put(0, each)
    block.put(1, 1)
    eight = sum(block.value << index * block.count for index in range(8)).to_bytes(block.count, "little")
    return eight * (count // 8) + b"\x03\x00"


def as_gzip(raw: bytes, unpacked: bytes) -> bytes:
    """A raw deflate stream as a gzip file."""
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + raw + struct.pack("<LL", zlib.crc32(unpacked), len(unpacked) & 0xFFFFFFFF)


def gzip_bomb(size: int) -> bytes:
    """`size` zeros in a thousandth of that."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join(
        [*(packer.compress(block) for _ in range(size >> 20)), packer.compress(bytes(size % (1 << 20))), packer.flush()]
    )


def gzip_of_slow_blocks(count: int) -> bytes:
    """An empty gzip file of blocks that take the longest to unpack."""
    return as_gzip(slow_blocks(count), b"")


def gzip_of_many_members(count: int, content: bytes = b"") -> bytes:
    """`count` gzip files one after the other."""
    return gzip.compress(content) * count


def gzip_of_long_name(length: int) -> bytes:
    """A gzip file with a name of `length` characters."""
    return b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"n" * length + b"\0" + gzip.compress(b"[1]")[10:]


def gzip_of_long_extra() -> bytes:
    """A gzip file with the longest extra field."""
    return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\xff\xff" + bytes(65535) + gzip.compress(b"[1]")[10:]


# -- .npy and .npz -----------------------------------------------------------------------------------------------------


def npy_header(descr: str, shape: tuple[int, ...]) -> bytes:
    """The beginning of an `.npy` file."""
    buffer = io.BytesIO()
    numpy.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def packed_zeros(descr: str, shape: tuple[int, ...]) -> tuple[bytes, int, int]:
    """An `.npy` file of zeros as a raw deflate stream, the size of the file and its CRC."""
    left = int(numpy.prod(shape, dtype=object)) * numpy.dtype(descr).itemsize
    header = npy_header(descr, shape)
    packer, block = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    packed, crc, size = [packer.compress(header)], zlib.crc32(header), len(header) + left
    while left:
        piece = block[:left]
        packed.append(packer.compress(piece))
        crc = zlib.crc32(piece, crc)
        left -= len(piece)
    return b"".join([*packed, packer.flush()]), size, crc


def zip_of(members: dict[str, tuple[bytes, int, int]], *, method: int = 8, overlapping: bool = False) -> bytes:
    """A zip archive of compressed streams, with their sizes and CRCs.

    Args:
        members: packed bytes, unpacked size and CRC by file name.
        method: 8 deflated, 0 stored.
        overlapping: the first member's bytes are written once, and every entry of the directory points at them.
    """
    body, directory = bytearray(), bytearray()
    first = None
    for name, (packed, size, crc) in members.items():
        shared = struct.pack("<HHHHHLLL", 20, 0, method, 0, 33, crc, len(packed), size)
        offset = len(body)
        if first is None or not overlapping:
            first = offset if first is None else first
            body += b"PK\3\4" + shared + struct.pack("<HH", len(name), 0) + name.encode() + packed
        else:
            offset = first
        directory += b"PK\1\2" + struct.pack("<H", 20) + shared
        directory += struct.pack("<HHHHHLL", len(name), 0, 0, 0, 0, 0, offset) + name.encode()
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return bytes(body + directory) + end


def npz_bomb(descr: str, **shapes: tuple[int, ...]) -> bytes:
    """An `.npz` of arrays of zeros, deflated."""
    return zip_of({f"{name}.npy": packed_zeros(descr, shape) for name, shape in shapes.items()})


def npz_of_overlapping_members(names: list[str], descr: str, shape: tuple[int, ...]) -> bytes:
    """An `.npz` whose directory names one deflated member many times."""
    one = packed_zeros(descr, shape)
    return zip_of({f"{name}.npy": one for name in names}, overlapping=True)


def npz_of_many_members(count: int) -> bytes:
    """A directory of `count` members, all at the same place."""
    data = npy_header("<f4", (0,))
    return zip_of(
        {f"m{index}.npy": (data, len(data), zlib.crc32(data)) for index in range(count)}, method=0, overlapping=True
    )


def npz_of_slow_blocks(count: int, name: str = "x") -> bytes:
    """An `.npz` of one member, of blocks that take the longest to unpack."""
    raw = slow_blocks(count)
    return zip_of({f"{name}.npy": (raw, 128, 0)})
