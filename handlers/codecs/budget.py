"""How much one request may use, over all its inputs."""

from __future__ import annotations

from handlers.codecs.limits import MAX_JSON_BYTES
from handlers.errors import RequestError


def over_bound(reason: str, bound: int, field: str | None) -> RequestError:
    """The 413 of a request that exceeds a bound."""
    return RequestError(f"{reason}; at most {bound} are accepted", field=field, status=413)


class Budget:
    """What is left of one request's bounds; anything that would exceed them is refused with 413 before it is made.

    Args:
        max_bytes: of all inputs in the dtypes of the signature; and, counted separately, of what gzip and deflate
            streams unpack to.
        max_pixels: of all images.
        max_json_bytes: of each JSON text, since they are parsed one after the other.
    """

    __slots__ = ("_bytes", "_pixels", "_unpacked", "max_bytes", "max_json_bytes", "max_pixels")

    def __init__(self, max_bytes: int, max_pixels: int, max_json_bytes: int = MAX_JSON_BYTES):
        self.max_bytes, self.max_pixels, self.max_json_bytes = max_bytes, max_pixels, max_json_bytes
        self._bytes = self._unpacked = max_bytes
        self._pixels = max_pixels

    def take_unpacked(self, count: int, field: str | None = None) -> None:
        """Counts bytes that are about to be unpacked.

        Raises:
            RequestError: 413, if there is no room for them.
        """
        self._unpacked -= count
        if self._unpacked < 0:
            size = self.max_bytes - self._unpacked
            raise over_bound(f"the request unpacks to {size} bytes or more", self.max_bytes, field)

    def take_bytes(self, count: int, field: str | None) -> None:
        """Counts bytes that are about to be filled.

        Raises:
            RequestError: 413, if there is no room for them.
        """
        self._bytes -= count
        if self._bytes < 0:
            size = self.max_bytes - self._bytes
            raise over_bound(f"the inputs take {size} bytes or more in this model's dtypes", self.max_bytes, field)

    def take_pixels(self, width: int, height: int, field: str) -> None:
        """Counts an image that is about to be decoded.

        Raises:
            RequestError: 413, if it has too many pixels, alone or with the images before it.
        """
        self._pixels -= width * height
        if self._pixels < 0:
            others = self.max_pixels - self._pixels - width * height
            more = f", after {others} of other images" if others else ""
            raise over_bound(f"'{field}' is an image of {width} x {height} pixels{more}", self.max_pixels, field)
