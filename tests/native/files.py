"""Files of arrays and images, and compressed bodies: sound ones of every kind, and damaged ones."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from functools import lru_cache

import numpy
from PIL import Image

from handlers.signature import TensorSpec
from tests.native import json_texts, numbers
from tests.native.chances import Chances
from tests.support import hostile_images
from tests.support.mutations import changed_bytes

ODD_DESCRIPTIONS = [
    *(
        "'<f4'",
        "'>f4'",
        "'=f4'",
        "'|f4'",
        "'f4'",
        "'f'",
        "'d'",
        "'?'",
        "'|b1'",
        "'<b1'",
        "'>u1'",
        "'|i1'",
        "'i'",
        "'u'",
        "'<i8'",
        "'>i8'",
        "'l'",
    ),
    *(
        "'e'",
        "'<e'",
        "'half'",
        "'float'",
        "'float32'",
        "'double'",
        "'int'",
        "'bool'",
        "'uint8'",
        "'longlong'",
        "'q'",
        "'Q'",
        "'p'",
        "'g'",
        "'f16'",
        "'<f16'",
    ),
    *(
        "'F'",
        "'c8'",
        "'S3'",
        "'<U2'",
        "'O'",
        "'|O'",
        "'V4'",
        "'m8[s]'",
        "'M8'",
        "'f4,f4'",
        "'(2,)f4'",
        "'2f4'",
        "'()f4'",
        "'(1,)f4'",
        "'1f4'",
        "'f4 '",
        "' f4'",
        "'<f04'",
    ),
    *(
        "''",
        "'<'",
        "'f3'",
        "'f99999999999999999999'",
        "'<f4,'",
        "','",
        "'b'",
        "'B'",
        "'h'",
        "'H'",
        "'I'",
        "'L'",
        "'n'",
        "'N'",
        "'\\x3cf4'",
        "'<f4\\0'",
        "b'<f4'",
        "u'<f4'",
    ),
    *(
        "['<f4']",
        "[('a', '<f4')]",
        "None",
        "('<f4', (2,))",
        "'<' 'f4'",
        '"<f4"',
        "'''<f4'''",
        "r'<f4'",
        "f'<f4'",
        "'uint'",
        "'byte'",
        "'i2'",
        "'u2'",
        "'u4'",
        "'u8'",
        "'i4'",
    ),
]
ODD_SHAPES = [
    *(
        "()",
        "(3,)",
        "(3)",
        "3",
        "[3]",
        "(1,3,)",
        "( 3 , )",
        "(0x3,)",
        "(3L,)",
        "(1_0,)",
        "(True,)",
        "(3.0,)",
        "(+3,)",
        "(-3,)",
        "(-0,)",
        "(0,)",
        "(1+2,)",
        "(3j,)",
    ),
    *(
        "(9223372036854775807,)",
        "(9223372036854775808,)",
        "(4294967296, 4294967296)",
        "(0, 4611686018427387904, 8)",
        "(2147483648, 0)",
        "(0b11,)",
        "(0o3,)",
        "(03,)",
        "(--3,)",
    ),
    *(
        "((3),)",
        "((3,),)",
        "(3,,)",
        "(,)",
        "('3',)",
        "(None,)",
        "(...,)",
        "(1," * 40 + ")",
        "(" + "1," * 32 + ")",
        "(" + "1," * 33 + ")",
        "(" + "9" * 500 + ",)",
        "{3}",
        "set()",
        "(3,) # no",
    ),
]
HEADERS = [
    "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}",
    "{{'descr':{descr},'fortran_order':{order},'shape':{shape}}}",
    "{{'shape': {shape}, 'fortran_order': {order}, 'descr': {descr}}}",
    '{{"descr": {descr}, "fortran_order": {order}, "shape": {shape}}}',
    "  {{\n'descr': {descr},\n'fortran_order': {order}, # a comment\n'shape': {shape}}}  ",
    "{{'descr': {descr}, 'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}",
    "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, 'more': 1}}",
    "{{'descr': {descr}, 'fortran_order': {order}}}",
    "({{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}})",
    "{{'des' 'cr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}",
    "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\0",
    "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}};",
    "{{b'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}",
    "[{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}]",
    "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, 1: 2}}",
    "{{'descr': ({descr}), 'fortran_order': ({order}), 'shape': {shape}}}",
    "dict(descr={descr}, fortran_order={order}, shape={shape})",
    "",
]

DTYPES = [
    "bool",
    *(f"{order}{kind}{size}" for order in "<>" for kind in "iuf" for size in "1248" if kind + size != "f1"),
]


def array(generator: Chances, spec: TensorSpec) -> numpy.ndarray:
    """An array for an input, in its dtype or another one, in any order of bytes and elements."""
    sizes = json_texts.shape(generator, spec, largest=8000)
    dtype = spec.dtype
    if generator.random() < (0.2 if generator.sound else 0.5):
        dtype = numpy.dtype(generator.choice(DTYPES))
    count = int(numpy.prod(sizes, dtype=object))
    if generator.errs(0.2):
        flat = numbers.bits(generator, dtype, count)
    else:
        near = dtype if generator.random() < 0.2 else spec.dtype
        values = [numbers.number(generator, near, odd=0, minimum=spec.minimum) for _ in range(count)]
        for _ in range(generator.choice((0, 0, 0, 1, 2)) if count and not generator.sound else 0):
            values[generator.randrange(count)] = numbers.number(generator, dtype, odd=1)
        with numpy.errstate(all="ignore"):
            flat = numpy.array(values, object)
            try:
                flat = flat.astype(dtype)
            except (OverflowError, ValueError):
                flat = numpy.array([hash(value) % 100 for value in values], dtype)
    return flat.reshape(sizes, order=generator.choice("CCF"))


def npy(generator: Chances, value: numpy.ndarray) -> bytes:
    """An `.npy` file; its header may be spelled in many ways, or be wrong."""
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    descr, order, sizes = repr(value.dtype.str), str(fortran), repr(value.shape)
    text = HEADERS[0]
    chance = generator.random() if generator.errs(1) else 1.0
    if chance < 0.08:
        descr = generator.choice(ODD_DESCRIPTIONS)
    elif chance < 0.16:
        sizes = generator.choice(ODD_SHAPES)
    elif chance < 0.24:
        text = generator.choice(HEADERS)
    elif chance < 0.27:
        order = generator.choice(("True", "False", "1", "0", "None", "'True'", "true", "not False"))
    header = text.format(descr=descr, order=order, shape=sizes).encode()
    version = generator.choice((1, 1, 1, 2))
    prefix = 8 + 2 * version
    if generator.random() < 0.9:  # NumPy aligns the data to 64 bytes; anyone may not
        header += b" " * (-(prefix + len(header) + 1) % 64) + b"\n"
    length = len(header)
    if generator.errs(0.03):
        header += b" " * generator.choice((900, max(0, 1024 - length), 1025))
        length = len(header)
    if generator.errs(0.03):
        length = generator.choice((0, 1, length - 1, length + 1, 65535))
    if generator.errs(0.03):
        version = generator.choice((0, 3, 255))
    packed = struct.pack("<I", length) if version == 2 else struct.pack("<H", min(length, 65535))
    data = value.tobytes("F" if fortran else "C")
    if generator.errs(0.06):
        data = generator.choice((data[:-1], data + b"\0", b"", data[1:], data * 2))
    return b"\x93NUMPY" + bytes([version, generator.choice((0, 0, 0, 1))]) + packed + header + data


def npz(generator: Chances, members: dict[str, bytes], *, deflated: float = 0.5) -> bytes:
    """An archive of files; stored or deflated, and sometimes with a wrong entry."""
    if generator.errs(0.5):
        return zipped(generator, members, deflated)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if generator.random() < deflated else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=generator.errs(0.03)) as member:
                member.write(content)
        if generator.errs(0.03):
            archive.comment = b"a comment"
    return file.getvalue()


def zipped(generator: Chances, members: dict[str, bytes], deflated: float) -> bytes:
    """The same, field by field; each may be wrong."""
    wrong = generator.errs(0.6)
    body, directory = bytearray(), bytearray()
    for name, content in members.items():
        method = 8 if generator.random() < deflated else 0
        packed = deflate(generator, content, -15) if method else content
        raw = name.encode("utf-8", "surrogatepass")
        fields = {
            "version": 20, "flags": generator.choice((0, 0x800, 8)), "method": method, "time": 0, "date": 33,
            "crc": zlib.crc32(content), "packed": len(packed), "size": len(content), "name": len(raw),
            "extra": 0, "comment": 0, "disk": 0, "internal": 0, "external": 0, "offset": len(body),
        }  # fmt: skip
        local_extra = generator.choice((b"", b"", b"\1\0\4\0abcd"))
        local = struct.pack(
            "<4s5H3L2H",
            b"PK\3\4",
            20,
            0,
            method,
            0,
            33,
            fields["crc"],
            len(packed),
            len(content),
            len(raw),
            len(local_extra),
        )
        extra, comment = generator.choice((b"", b"", b"xx\2\0yy")), generator.choice((b"", b"", b"", b"note"))
        fields |= {"extra": len(extra), "comment": len(comment)}
        if wrong and generator.random() < 0.7:
            field = generator.choice(list(fields))
            most = 0xFFFFFFFF if field in ("crc", "packed", "size", "external", "offset") else 0xFFFF
            fields[field] = max(
                0,
                min(
                    most,
                    generator.choice(
                        (0, 1, fields[field] + 1, fields[field] - 1, 9, 12, most, most - 1, most >> 1, len(body) + 10)
                    ),
                ),
            )
        if wrong and generator.random() < 0.1:
            raw = generator.choice(
                (b"\xff.npy", raw[:-4], raw + b"\0", raw.upper(), b".npy", b"../" + raw, raw + b"\n")
            )
        directory += struct.pack(
            "<4s6H3L5H2L",
            b"PK\3\4" if wrong and generator.random() < 0.03 else b"PK\1\2",
            20,
            *fields.values(),
        )  # fmt: skip
        directory += raw + extra + comment
        body += local + name.encode("utf-8", "surrogatepass") + local_extra + packed
    end = [0, 0, len(members), len(members), len(directory), len(body), 0]
    if wrong and generator.random() < 0.2:
        at = generator.randrange(7)
        end[at] = max(0, min((0xFFFFFFFF if at in (4, 5) else 0xFFFF), end[at] + generator.choice((-1, 1, 46, 0xFFFF))))
    tail = generator.choice((b"",) * 20 + (b"\0", b"more"))
    return bytes(body + directory) + struct.pack("<4s4H2LH", b"PK\5\6", *end) + tail


def deflate(generator: Chances, content: bytes, wbits: int) -> bytes:
    """A stream at any level, of one or several blocks."""
    packer = zlib.compressobj(
        generator.choice((0, 1, 6, 9)),
        zlib.DEFLATED,
        wbits,
        8,
        generator.choice((0, 0, 0, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED, zlib.Z_RLE)),
    )
    at = generator.randrange(len(content) + 1) if generator.random() < 0.3 else 0
    flush = generator.choice((zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_NO_FLUSH))
    return packer.compress(content[:at]) + packer.flush(flush) + packer.compress(content[at:]) + packer.flush()


def compressed(generator: Chances, content: bytes) -> tuple[bytes, str]:
    """A body with its `Content-Encoding`; some are damaged, or declare another encoding."""
    kind = generator.choice(("gzip", "gzip", "zlib", "raw"))
    if kind == "gzip":
        packed = deflate(generator, content, 31)
        if generator.random() < 0.15:
            flags = generator.randrange(32 if generator.random() < 0.9 else 256)
            head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
            head += b"\3\0abc" if flags & 4 else b""
            head += b"name\0" if flags & 8 else b""
            head += b"comment\0" if flags & 16 else b""
            if flags & 2:
                right = struct.pack("<H", zlib.crc32(head) & 0xFFFF)
                head += right if generator.random() < 0.7 else b"\0\0"
            packed = head + packed[10:]
    else:
        packed = deflate(generator, content, 15 if kind == "zlib" else -15)
    chance = generator.random() if generator.errs(1) else 1.0
    if chance < 0.05:
        packed = packed[: generator.randrange(len(packed) + 1)]
    elif chance < 0.08:
        packed += generator.choice((b"\0", b"more", packed, gzip.compress(b""), bytes(20)))
    elif chance < 0.16:
        packed = changed_bytes(packed, generator)
    elif chance < 0.2 and len(packed) > 8:  # its checksum, or the length after it
        at = len(packed) - generator.randrange(1, 9)
        packed = packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :]
    declared = {"gzip": "gzip", "zlib": "deflate", "raw": "deflate"}[kind]
    if generator.errs(0.3):
        declared = generator.choice([
            *("GZIP", " gzip ", "x-gzip", "gzip,", ",gzip", "identity, gzip", "gzip, identity", "Deflate", "gzip,gzip"),
            *("gzip,deflate", "br", "zstd", "", "identity", "identity,identity", "\u00a0gzip\u3000", "gzip;q=1", "é"),
            *("deflate\n", "gzip\0", "g zip", "İdentity", "gzip\x1f", "gzip\x85", "x" * 100),
        ])  # fmt: skip
    return packed, declared


# -- images ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def sound_images() -> list[bytes]:
    """Images as people have them."""
    return hostile_images.photographs()


def image(generator: Chances) -> tuple[str, bytes]:
    """An image, and what kind of case it is."""
    chance = generator.random()
    if chance < 0.3:
        kind, content = "PNG", png(generator)
    elif chance < 0.55:
        kind, content = "JPEG", jpeg(generator)
    else:
        content = generator.choice(sound_images())
        kind = "PNG" if content.startswith(hostile_images.SIGNATURE) else "JPEG"
    if generator.random() < 0.15:
        content = hostile_images.with_exif(content, exif(generator))
    if generator.errs(0.75):
        content = hostile_images.mutated(content, generator)
        kind += ", damaged"
    return kind, content


def exif(generator: Chances) -> bytes:
    """EXIF data with an orientation, or with what readers must not trust."""
    if generator.random() < 0.7:
        return hostile_images.exif(
            generator.randrange(10),
            order=generator.choice("<>"),
            kind=generator.choice((3, 3, 4, 1)),
            at=generator.choice((8, 8, 20)),
        )
    return generator.choice(list(hostile_images.exif_that_cannot_be_written()))


def png(generator: Chances) -> bytes:
    """A PNG of any depth and colour type, of random rows with random filters."""
    depth, colour = generator.choice(
        [
            (1, 0),
            (2, 0),
            (4, 0),
            (8, 0),
            (16, 0),
            (8, 2),
            (16, 2),
            (1, 3),
            (2, 3),
            (4, 3),
            (8, 3),
            (8, 4),
            (16, 4),
            (8, 6),
            (16, 6),
        ]
    )
    width, height = generator.randrange(1, 24), generator.randrange(1, 24)
    interlaced = int(generator.random() < 0.3)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = (
        ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        if interlaced
        else ((0, 0, 1, 1),)
    )
    rows = bytearray()
    for column, row, columns, step in passes:
        wide, high = -(-(width - column) // columns), -(-(height - row) // step)
        if wide > 0 and high > 0:
            for _ in range(high):
                rows.append(generator.choice((5, 255)) if generator.errs(0.01) else generator.randrange(5))
                rows += generator.randbytes((wide * bits + 7) // 8)
    if generator.errs(0.15):
        rows = (
            rows[: generator.randrange(len(rows) + 1)]
            if generator.random() < 0.6
            else rows + b"\0" * generator.randrange(1, 40)
        )
    packed = deflate(generator, bytes(rows), 15)
    before = b""
    if colour == 3 or generator.random() < 0.1:
        entries = generator.choice((1, 3, 256)) if generator.errs(0.3) else min(1 << depth, 256)
        before += hostile_images.chunk(b"PLTE", generator.randbytes(3 * entries + (1 if generator.errs(0.1) else 0)))
    if generator.random() < 0.1:
        before += hostile_images.chunk(
            generator.choice((b"tRNS", b"gAMA", b"bKGD", b"teSt", b"iCCP")), generator.randbytes(generator.randrange(9))
        )
    if generator.random() < 0.2:  # several pieces, some of them empty
        header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
        cuts = sorted(generator.randrange(len(packed) + 1) for _ in range(generator.randrange(1, 4)))
        pieces = [packed[a:b] for a, b in zip([0, *cuts], [*cuts, len(packed)], strict=True)]
        chunks = [hostile_images.chunk(b"IDAT", piece) for piece in pieces]
        if generator.random() < 0.2:
            chunks.insert(generator.randrange(1, len(chunks) + 1), hostile_images.chunk(b"tEXt", b"k\0v"))
        parts = [hostile_images.chunk(b"IHDR", header), before, *chunks, hostile_images.chunk(b"IEND")]
        return hostile_images.SIGNATURE + b"".join(parts)
    return hostile_images.png(
        width, height, depth=depth, colour=colour, interlaced=interlaced, packed=packed, before=before
    )


def jpeg(generator: Chances) -> bytes:
    """A JPEG of random pixels, of any kind that Pillow writes."""
    width, height = generator.randrange(1, 40), generator.randrange(1, 40)
    mode = generator.choice(("L", "RGB", "RGB", "CMYK", "YCbCr"))
    channels = {"L": 1, "CMYK": 4}.get(mode, 3)
    coarse = generator.randbytes(((width + 3) // 4) * ((height + 3) // 4) * channels)
    blocks = numpy.frombuffer(coarse, numpy.uint8).reshape((height + 3) // 4, (width + 3) // 4, channels)
    pixels = numpy.ascontiguousarray(numpy.repeat(numpy.repeat(blocks, 4, 0), 4, 1)[:height, :width])
    options = {
        "quality": generator.choice((1, 20, 75, 95, 100)),
        "progressive": generator.random() < 0.4,
        "optimize": generator.random() < 0.3,
    }
    if mode == "RGB" and generator.random() < 0.1:
        options["keep_rgb"] = True
    elif mode in ("RGB", "YCbCr"):
        options["subsampling"] = generator.choice((0, 1, 2))
    if generator.random() < 0.2:
        options["restart_marker_blocks"] = generator.randrange(1, 4)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels, mode).save(file, "JPEG", **options)
    return file.getvalue()
