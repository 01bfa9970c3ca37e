"""Images made to harm the process that decodes them: small files that need much memory or time, or are damaged.

Each function returns the bytes of one file.
"""

import io
import random
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy
from PIL import Image

# -- PNG ---------------------------------------------------------------------------------------------------------------

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def chunk(kind: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A chunk of a PNG, whose declared length may be wrong."""
    declared = len(data) if length is None else length
    return struct.pack(">I", declared) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    *,
    depth: int = 8,
    colour: int = 0,
    interlaced: int = 0,
    packed: bytes | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of zeros, whatever its header says; `before` and `after` are chunks around the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    if packed is None:
        packed = zeros(height * (1 + (width * depth * _SAMPLES.get(colour, 1) + 7) // 8))
    parts = chunk(b"IHDR", header), before, chunk(b"IDAT", packed), after, chunk(b"IEND")
    return SIGNATURE + b"".join(parts)


def zeros(count: int, byte: int = 0) -> bytes:
    """A zlib stream of `count` equal bytes."""
    packer = zlib.compressobj(9)
    block = bytes([byte]) * (1 << 20)
    packed = [packer.compress(block) for _ in range(count >> 20)]
    return b"".join([*packed, packer.compress(block[: count % (1 << 20)]), packer.flush()])


def png_of_impossible_depth(depth: int = 255, side: int = 2500) -> bytes:
    """A depth that no PNG may have, and the bytes that it would need: 8 MB of pixels become 800."""
    return png(side, side, depth=depth, colour=6)


def png_of_all_samples(pixels: int, interlaced: int = 0) -> bytes:
    """RGBA of 16 bits, with the filter that takes the longest: eight bytes per pixel from a thousandth of that."""
    side = int(pixels**0.5)
    return png(
        side, side, depth=16, colour=6, interlaced=interlaced, packed=zeros(side * (1 + 8 * side) + 64 * side, 4)
    )


def png_of_many_chunks(count: int) -> bytes:
    """`count` empty chunks before the pixels."""
    return png(8, 8, before=chunk(b"teSt") * count)


def png_of_text_bombs(count: int = 80) -> bytes:
    """Texts and a profile that unpack to a megabyte each."""
    bomb = zeros(1 << 20, 65)
    texts = (chunk(b"zTXt", b"k%d\0\0" % index + bomb) for index in range(count))
    return png(8, 8, before=b"".join(texts) + chunk(b"iCCP", b"p\0\0" + zeros(1 << 26)))


def png_of_long_chunk(length: int) -> bytes:
    """A chunk that falsely declares `length` bytes."""
    return png(8, 8, before=chunk(b"teSt", b"1234", length))


def png_of_short_chunks() -> bytes:
    """Chunks that are too short for their kind, before and after the pixels."""
    kinds = (b"gAMA", b"tRNS", b"cHRM", b"iCCP", b"pHYs", b"sRGB", b"acTL", b"fcTL", b"fdAT")
    short = b"".join(chunk(kind, b"\0") + chunk(kind) for kind in kinds)
    return png(8, 8, colour=2, before=short, after=short)


def png_of_slow_blocks(count: int) -> bytes:
    """Pixels packed in blocks of a few bytes, each with its own tables."""
    from tests.support.hostile_archives import slow_blocks

    side = max(8, int((8 * count) ** 0.5))
    raw = slow_blocks(count, 8)
    rest = side * (side + 1)
    return png(side, side, packed=b"\x78\x01" + raw + struct.pack(">I", zlib.adler32(bytes(rest))))


# -- JPEG --------------------------------------------------------------------------------------------------------------


def segment(marker: int, data: bytes = b"") -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


@lru_cache(maxsize=8)
def jpeg(width: int = 64, height: int = 64, *, mode: str = "RGB", noise: bool = False, **options) -> bytes:
    """A sound JPEG."""
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    pixels = numpy.zeros(shape, numpy.uint8)
    if noise:
        pixels = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, mode).save(file, "JPEG", **options)
    return file.getvalue()


def _scans(content: bytes) -> list[bytes]:
    """The part before the first scan, and each scan with the tables before it; without the end marker."""
    starts, last = [], 0
    while (start := content.find(b"\xff\xda", last + 2)) > 0:
        tables = content.find(b"\xff\xc4", last + 2, start)
        starts.append(tables if tables > 0 else start)
        last = start
    return [content[a:b] for a, b in zip([0, *starts], [*starts, len(content) - 2], strict=True)]


def jpeg_of_many_scans(
    count: int, width: int = 2000, height: int = 2000, mode: str = "RGB", *, refining: bool = False
) -> bytes:
    """A complete progressive JPEG whose scans are a few bytes, each of which passes over all pixels.

    With `refining`, only the last one is repeated, which takes longest: a scan that makes coefficients more exact.
    """
    options = {} if mode == "L" else {"subsampling": 0}
    head, *scans = _scans(jpeg(width, height, mode=mode, progressive=True, **options))
    repeated = scans[-1:] if refining else scans[1:]
    again = (repeated[index % len(repeated)] for index in range(count - len(scans)))
    return b"".join([head, *again, *scans, b"\xff\xd9"])


def jpeg_without_scan(number: int, **options) -> bytes:
    """A JPEG that lacks one of its scans, and is closed as if it had all of them."""
    head, *scans = _scans(jpeg(noise=True, **options))
    del scans[number]
    return b"".join([head, *scans, b"\xff\xd9"])


def jpeg_of_many_segments(count: int, length: int = 0) -> bytes:
    """`count` application segments before the image."""
    content = jpeg()
    return content[:2] + segment(0xEF, bytes(length)) * count + content[2:]


def jpeg_of_large_exif(segments: int = 900) -> bytes:
    """EXIF data in hundreds of segments of 64 kB, which readers join one by one."""
    content = jpeg()
    part = segment(0xE1, b"Exif\0\0" + b"MM\0*\0\0\0\x08" + b"\xff" * 65000)
    return content[:2] + part * segments + content[2:]


def jpeg_of_odd_frame(frame: int, precision: int = 8) -> bytes:
    """A JPEG whose frame declares another kind: arithmetic coded, lossless, 12 bits per sample."""
    content = bytearray(jpeg())
    at = content.index(b"\xff\xc0")
    content[at + 1], content[at + 4] = frame, precision
    return bytes(content)


def jpeg_of_claimed_size(width: int, height: int) -> bytes:
    """A JPEG of 64 pixels that declares another size."""
    content = bytearray(jpeg(8, 8))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


# -- EXIF --------------------------------------------------------------------------------------------------------------


def exif(orientation: int = 6, *, order: str = ">", kind: int = 3, entries: Sequence[bytes] = (), at: int = 8) -> bytes:
    """EXIF data with an orientation, after other entries of 12 bytes."""
    mark = b"MM\0*" if order == ">" else b"II*\0"
    value = struct.pack(f"{order}HHL", 0x0112, kind, 1) + struct.pack(
        f"{order}H2x" if kind != 4 else f"{order}L", orientation
    )
    directory = struct.pack(f"{order}H", len(entries) + 1) + b"".join(entries) + value + bytes(4)
    return b"Exif\0\0" + mark + struct.pack(f"{order}L", at) + bytes(at - 8) + directory


def exif_that_cannot_be_written() -> Sequence[bytes]:
    """EXIF data with an orientation that readers understand and no writer can reproduce."""
    wrong = [
        struct.pack(">HHLL", 0x8769, 4, 1, 0xFFFFFFF0),  # a directory outside
        struct.pack(">HHLL", 0x8769, 2, 4, 0x61626300),  # a text where the offset of a directory belongs
        struct.pack(">HHLL", 0x0110, 5, 1, 8),  # a fraction of arbitrary bytes
        struct.pack(">HHLL", 0x0111, 13, 70000, 8),
        struct.pack(">HHLL", 0x011A, 5, 0xFFFFFFFF, 8),
        struct.pack(">HHLL", 0x0112, 2, 1, 0x41000000),  # an orientation that is a text
        struct.pack(">HHLL", 0x927C, 7, 0x7FFFFFFF, 8),
        struct.pack(">HHLL", 0xA005, 4, 1, 8),  # a directory within itself
    ]
    return [exif(entries=[entry]) for entry in wrong] + [
        b"Exif\0\0MM\0*",
        b"Exif\0\0MM\0*\xff\xff\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        exif(0),
        exif(9),
        exif(65535, order="<"),
    ]


def with_exif(content: bytes, data: bytes) -> bytes:
    """A PNG or JPEG with EXIF data."""
    if content.startswith(SIGNATURE):
        return content[:33] + chunk(b"eXIf", data.removeprefix(b"Exif\0\0")) + content[33:]
    return content[:2] + segment(0xE1, data) + content[2:]


# -- photographs with anything changed ---------------------------------------------------------------------------------


def photographs() -> list[bytes]:
    """Small valid images of many kinds, with everything that cameras and editors put into them."""
    generator = numpy.random.default_rng(1)
    grey = generator.integers(0, 256, (37, 41), dtype=numpy.uint8)
    rgb = numpy.kron(generator.integers(0, 256, (9, 11, 3), dtype=numpy.uint8), numpy.ones((4, 4, 1), numpy.uint8))
    found = []

    def save(image: Image.Image, kind: str, **options) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append(file.getvalue())

    tags = Image.Exif()
    tags[0x0112], tags[0x010F], tags[0x011A] = 6, "camera", 72.0
    tags.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    colour = Image.fromarray(rgb)
    save(colour, "JPEG", exif=tags, comment=b"a comment", icc_profile=bytes(200), dpi=(72, 72))
    save(colour, "JPEG", progressive=True, exif=tags)
    save(colour, "JPEG", restart_marker_blocks=1, subsampling=2)
    save(colour.convert("CMYK"), "JPEG")
    save(Image.fromarray(grey), "JPEG", optimize=True)
    save(colour, "MPO", save_all=True, append_images=[colour])
    from PIL import PngImagePlugin

    notes = PngImagePlugin.PngInfo()
    notes.add_text("title", "a text")
    notes.add_text("long", "text " * 100, zip=True)
    notes.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    save(colour, "PNG", exif=tags, pnginfo=notes, icc_profile=bytes(200), dpi=(72, 72), gamma=0.45)
    save(colour.quantize(16), "PNG", transparency=3)
    save(Image.fromarray(grey), "PNG", transparency=3)
    save(Image.fromarray(grey.astype(numpy.uint16) * 257), "PNG")
    save(Image.fromarray(grey).convert("1"), "PNG")
    save(colour.convert("RGBA"), "PNG")
    save(Image.fromarray(grey).convert("LA"), "PNG")
    save(colour, "PNG", save_all=True, append_images=[colour.rotate(90)])
    found.append(png(40, 30, depth=16, colour=6, interlaced=1, packed=zeros(2 * 40 * 30 * 8)))
    return found


_KINDS = b"gAMA tRNS cHRM iCCP PLTE IDAT IEND eXIf acTL fcTL fdAT IHDR".split()


def mutated(content: bytes, generator: random.Random) -> bytes:
    """A file with bytes or numbers changed, or pieces repeated, moved or lost; PNGs often keep valid checksums."""
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4, 8))):
        at = generator.randrange(2, max(3, generator.choice((64, len(changed), len(changed)))))
        what = generator.randrange(6)
        if what == 0:
            changed[at : at + 1] = bytes([generator.randrange(256)])
        elif what == 1:
            number = generator.choice((0, 1, 2**8, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1))
            changed[at : at + 4] = struct.pack(generator.choice("<>") + "L", number)
        elif what == 2:
            piece = changed[at : at + generator.randrange(1, 200)]
            changed[at:at] = piece * generator.choice((1, 1, 3))
        elif what == 3:
            del changed[at : at + generator.randrange(1, 60)]
        elif what == 4:
            marker = generator.choice(
                (0xC0, 0xC2, 0xC4, 0xC9, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0xEE, 0xFE, 0x00, 0xD3)
            )
            changed[at : at + 2] = bytes([0xFF, marker])
        else:
            changed[at : at + 4] = generator.choice(_KINDS)
    if generator.random() < 0.1 and len(changed) > 3:
        del changed[generator.randrange(2, len(changed)) :]
    if changed.startswith(SIGNATURE) and generator.random() < 0.7:
        _mend_checksums(changed)
    return bytes(changed)


def _mend_checksums(content: bytearray) -> None:
    at = len(SIGNATURE)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 12 + length
        if end > len(content):
            return
        struct.pack_into(">I", content, end - 4, zlib.crc32(content[at + 4 : end - 4]))
        at = end
