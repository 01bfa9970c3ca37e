"""Parses a JPEG: its frame, the number of scans over its pixels, and its orientation.

What decoding does not need (EXIF, XMP, profiles, comments, previews, further images) is not passed to the decoder.
(ITU-T T.81, annex B.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from handlers.codecs.image_file import DamagedImage, ImageTooComplex, read_orientation
from handlers.codecs.request import Buffer

if TYPE_CHECKING:
    from PIL import Image

MAGIC = b"\xff\xd8\xff"

# By components of a pixel: Pillow's mode, and that of the decoder's bytes (Adobe inverts CMYK, and so do all others).
_MODES = {1: ("L", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK;I")}

_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xFE
_TABLES = (0xC4, 0xDB, 0xDD)  # Huffman codes, quantization, restart interval
# Baseline, extended and progressive, all with Huffman coding; nobody writes arithmetic coding, lossless or hierarchical
# frames, and they take longer.
_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_OTHER_FRAMES = (0xC3, *range(0xC5, 0xD0))
_ALONE = (0x01, *range(0xD0, 0xD8))  # without a length

_MARKER = re.compile(rb"\xff[^\x00\xff]")
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

_ALL = 0xFF  # more bits than a coefficient has

# A photograph has tens of segments, some ten of them scans.
_MAX_SEGMENTS = 1 << 14
_MAX_SCANS = 500
# Samples that the scans of an image pass over, all together: a scan of a few bytes passes over as many as one of
# megabytes. A progressive photograph of 50 million pixels takes 0.4 to 0.7 billion, or 1.2 billion in CMYK.
_MAX_SAMPLES = 1_500_000_000


class Jpeg(NamedTuple):
    """A parsed JPEG.

    Attributes:
        width: in pixels.
        height: in pixels.
        orientation: as in EXIF.
        components: of a pixel.
        samples: those that its scans pass over, all together.
        pieces: what the decoder needs of the file.
    """

    width: int
    height: int
    orientation: int
    components: int
    samples: int
    pieces: list[Buffer]

    def decode(self) -> Image.Image:
        """The pixels as an image of Pillow's, not yet oriented.

        Raises:
            ImageTooComplex: its scans pass over its pixels too often.
        """
        from PIL import Image

        if self.samples > _MAX_SAMPLES:
            raise ImageTooComplex(f"its {self.width} x {self.height} pixels are coded in too many scans")
        mode, raw_mode = _MODES[self.components]
        return Image.frombytes(mode, (self.width, self.height), b"".join(self.pieces), "jpeg", raw_mode, "")


class _Frame(NamedTuple):
    width: int
    height: int
    progressive: bool
    blocks: dict[int, int]  # of 64 samples each, by component
    missing: dict[int, bytearray]  # the lower bits of its 64 coefficients that are still to come, by component


def parse(content: Buffer) -> Jpeg:
    """Parses a JPEG without decoding a pixel.

    Raises:
        DamagedImage: its frame is not accepted, or the file ends too early.
        ImageTooComplex: it has too many segments or scans.
    """
    view = memoryview(content)
    pieces: list[Buffer] = [b"\xff\xd8"]
    frame, orientation, scans, samples, at, seen_exif = None, 1, 0, 0, 2, False
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(view, at)
        if found is None:
            break  # the decoder says whether it has enough
        begin, at = found.span()
        marker = view[at - 1]
        if marker == _EOI:
            pieces.append(b"\xff\xd9")
            break
        if marker in _ALONE:
            continue
        end = at + int.from_bytes(view[at : at + 2], "big")
        if marker < 0xC0 or 0xF0 <= marker < _COM or marker in (_SOI, 0xFF) or end < at + 2:
            raise DamagedImage(f"it holds the unexpected marker {marker:#x}")
        if end > len(view):
            break
        body = view[at + 2 : end]
        at = end
        if marker in _FRAMES:
            if frame is not None:
                raise DamagedImage("it has two frames")
            frame = _parse_frame(body, progressive=marker == _PROGRESSIVE)
        elif marker in _OTHER_FRAMES:
            raise DamagedImage("it is arithmetic coded, lossless or hierarchical; send a baseline or progressive JPEG")
        elif marker == _SOS:
            if frame is None:
                raise DamagedImage("its pixels come before its size")
            scans += 1
            if not body or len(body) != 4 + 2 * body[0]:
                raise DamagedImage("the header of a scan is damaged")
            samples += 64 * sum(frame.blocks.get(component, 0) for component in body[1:-3:2])
            _note_scan(frame, body)
            if scans > _MAX_SCANS:
                raise ImageTooComplex(f"it has more than {_MAX_SCANS} scans")
            following = _AFTER_SCAN.search(view, at)
            at = len(view) if following is None else following.start()
            end = at
        elif marker == _APP1 and not seen_exif and body[:6] == b"Exif\0\0":
            seen_exif, orientation = True, read_orientation(body)
            continue
        elif marker not in _TABLES and not _defines_colours(marker, body):
            continue
        pieces.append(view[begin:end])
    else:
        raise ImageTooComplex(f"it has more than {_MAX_SEGMENTS} segments")
    if frame is None or not scans:
        raise DamagedImage("it is cut off before its pixels")
    # A decoder would make up what they hold, each version in its own way.
    if any(map(any, frame.missing.values())):
        raise DamagedImage("some of its scans are missing")
    return Jpeg(frame.width, frame.height, orientation, len(frame.blocks), samples, pieces)


def _defines_colours(marker: int, body: memoryview) -> bool:
    """Whether this segment tells the decoder what the components are."""
    return (marker == _APP0 and body[:5] == b"JFIF\0") or (marker == _APP14 and body[:5] == b"Adobe")


def _parse_frame(body: memoryview, *, progressive: bool) -> _Frame:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise DamagedImage("its frame header is damaged")
    if body[0] != 8:
        raise DamagedImage(f"it has {body[0]} bits per sample; send a JPEG with 8")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if not (width and height):
        raise DamagedImage("its header does not give its size")
    components = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body), 3)}
    if len(components) != body[5] or len(components) not in _MODES:
        raise DamagedImage(f"it has {body[5]} components; send a JPEG with 1, 3 or 4, numbered differently")
    if not all(1 <= factor <= 4 for factors in components.values() for factor in factors):
        raise DamagedImage("its sampling factors are invalid")
    across, down = (max(factors) for factors in zip(*components.values(), strict=True))
    # Rows and columns are padded to whole blocks of the largest factors.
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    blocks = {name: units * h * v for name, (h, v) in components.items()}
    return _Frame(width, height, progressive, blocks, {name: bytearray([_ALL] * 64) for name in components})


def _note_scan(frame: _Frame, body: memoryview) -> None:
    """Notes which coefficients a scan completes, or makes more exact by the bits after those that came before."""
    first, last, known, left = (
        (body[-3], body[-2], body[-1] >> 4, body[-1] & 15) if frame.progressive else (0, 63, 0, 0)
    )
    for component in frame.missing.keys() & set(body[1:-3:2]):
        missing = frame.missing[component]
        missing[first : last + 1] = (left if known in (0, before) else _ALL for before in missing[first : last + 1])
