"""Pixels of an uploaded image as an array of the shape that an input asks for."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy

from handlers import png
from handlers.errors import RequestError
from handlers.request import Buffer
from handlers.signature import TensorSpec

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG")
MAGIC = (png.SIGNATURE, b"\xff\xd8\xff")


def accepts_image(spec: TensorSpec) -> bool:
    """Whether an image can stand for this input: [H, W], [1|3, H, W] or [H, W, 1|3]."""
    return _layout(spec) is not None


def decode_image(content: Buffer, spec: TensorSpec, max_pixels: int) -> numpy.ndarray:
    """Decodes a PNG or JPEG for the input `spec`.

    Grey for [H, W] and one channel, RGB for three; 8 bits a sample (16-bit PNGs are scaled down); an orientation in
    the EXIF data is applied, as OpenCV and every viewer do, so that pixel positions are those a person sees.

    Returns:
        uint8 array, C-contiguous.

    Raises:
        RequestError: not a PNG or JPEG, damaged, or more than `max_pixels` pixels.
    """
    # Not with this module: two megabytes that a worker without images need not carry.
    from PIL import Image, ImageOps, UnidentifiedImageError

    layout = _layout(spec)
    if layout is None:
        raise RequestError(f"'{spec.name}' is {spec.describe()}: an image cannot stand for it", field=spec.name)
    try:
        with warnings.catch_warnings():
            # Pillow only warns of a decompression bomb; the bound below is ours and comes first.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(png.stored(content, max_pixels)), formats=FORMATS)
        width, height = image.size
        if width * height > max_pixels:
            raise _too_large(f"{width} x {height}", spec, max_pixels)
        image = ImageOps.exif_transpose(image)
        pixels = _samples(image, "RGB" if layout in ("chw3", "hwc3") else "L")
    except UnidentifiedImageError as error:
        raise RequestError(f"'{spec.name}' is not a PNG or JPEG image", field=spec.name) from error
    except Image.DecompressionBombError as error:  # Pillow's own bound, before the size can be asked for
        raise _too_large("too many", spec, max_pixels) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise RequestError(f"'{spec.name}' is a damaged image: {error}", field=spec.name) from error
    if layout == "hw":
        return pixels
    if layout in ("chw1", "chw3"):
        return numpy.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _too_large(pixels: str, spec: TensorSpec, max_pixels: int) -> RequestError:
    message = f"'{spec.name}' is an image of {pixels} pixels; at most {max_pixels} are accepted"
    return RequestError(message, field=spec.name, status=413)


def _samples(image: Image.Image, mode: str) -> numpy.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        grey = (numpy.asarray(image).astype(numpy.uint32) >> 8).astype(numpy.uint8)
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
