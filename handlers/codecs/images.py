"""The pixels of an uploaded image, as an array of the shape that an input asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy

from handlers.codecs import jpeg, png
from handlers.codecs.budget import Budget
from handlers.codecs.image_file import DamagedImage, ImageTooComplex, apply_orientation
from handlers.codecs.request import Buffer
from handlers.errors import RequestError
from handlers.signature import TensorSpec

if TYPE_CHECKING:
    from PIL import Image

IMAGE_MAGIC = (png.SIGNATURE, jpeg.MAGIC)

# Pixels of a large image that are converted at a time: a whole image in three modes would be three images in memory.
_BAND = 1 << 21


def accepts_image(spec: TensorSpec) -> bool:
    """Whether this input can be sent as an image: [H, W], [1|3, H, W] or [H, W, 1|3]."""
    return _layout(spec) is not None


def decode_image(content: Buffer, spec: TensorSpec, budget: Budget) -> numpy.ndarray:
    """Decodes a PNG or JPEG for the input `spec`.

    Grey for [H, W] and one channel, RGB for three; 8 bits per sample (16-bit PNGs are scaled down); an orientation in
    the EXIF data is applied, as OpenCV and every viewer do, so that pixel positions are those a person sees.

    Returns:
        uint8 array, C-contiguous.

    Raises:
        RequestError: not a PNG or JPEG, damaged, or (413) of more pixels or bytes than `budget` has left, or made so
            that it takes too long.
    """
    layout = _layout(spec)
    if layout is None:
        raise RequestError(f"'{spec.name}' is {spec.describe()}, which an image cannot be", field=spec.name)
    colours = 3 if layout in ("chw3", "hwc3") else 1
    try:
        image = _parse(content, spec)
        budget.take_pixels(image.width, image.height, spec.name)
        budget.take_bytes(image.width * image.height * colours * spec.dtype.itemsize, spec.name)
        pixels = _samples(_decode(image), "RGB" if colours == 3 else "L")
    except DamagedImage as error:
        raise RequestError(f"'{spec.name}' is a damaged image: {error}", field=spec.name) from None
    except ImageTooComplex as error:
        raise RequestError(f"the image '{spec.name}' is not accepted: {error}", field=spec.name, status=413) from None
    pixels = apply_orientation(pixels, image.orientation)
    if layout == "chw3":
        pixels = pixels.transpose(2, 0, 1)
    elif layout == "chw1":
        pixels = pixels[None]
    elif layout == "hwc1":
        pixels = pixels[..., None]
    return numpy.ascontiguousarray(pixels)


def _parse(content: Buffer, spec: TensorSpec) -> png.Png | jpeg.Jpeg:
    if content[: len(png.SIGNATURE)] == png.SIGNATURE:
        return png.parse(content)
    if content[: len(jpeg.MAGIC)] == jpeg.MAGIC:
        return jpeg.parse(content)
    raise RequestError(f"'{spec.name}' is not a PNG or JPEG image", field=spec.name)


def _decode(image: png.Png | jpeg.Jpeg) -> Image.Image:
    try:
        return image.decode()
    except (DamagedImage, ImageTooComplex, MemoryError):
        raise
    except Exception as error:  # decoders fail in many ways, all of them because of the client's bytes
        raise DamagedImage(str(error) or type(error).__name__) from None


def _samples(image: Image.Image, mode: str) -> numpy.ndarray:
    """uint8 [H, W], or [H, W, 3] for the mode RGB."""
    width, height = image.size
    rows = max(1, _BAND // width)
    if rows >= height:
        return _convert(image, mode)
    pixels = numpy.empty((height, width, 3) if mode == "RGB" else (height, width), numpy.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _convert(image.crop((0, top, width, bottom)), mode)
    return pixels


def _convert(image: Image.Image, mode: str) -> numpy.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        grey = (numpy.asarray(image) >> 8).astype(numpy.uint8)
        return grey if mode == "L" else numpy.repeat(grey[..., None], 3, axis=2)
    return numpy.asarray(image if image.mode == mode else image.convert(mode))


def _layout(spec: TensorSpec) -> str | None:
    shape = spec.shape
    if len(shape) == 2:
        return "hw"
    if len(shape) == 3 and shape[0] in (1, 3):
        return f"chw{shape[0]}"
    if len(shape) == 3 and shape[2] in (1, 3):
        return f"hwc{shape[2]}"
    return None
