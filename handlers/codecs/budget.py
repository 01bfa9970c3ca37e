"""How much one request may ask for, over all its inputs."""

from __future__ import annotations

from handlers.codecs.json_arrays import MAX_BYTES as MAX_JSON_BYTES
from handlers.errors import RequestError


class Budget:
    """What is left of the bounds of one request.

    Whatever would take more is refused before it is made, with a 413.

    Args:
        max_bytes: what the inputs may be together, once they have the dtypes of the signature; and, counted apart,
            what may be unpacked from gzip and deflate.
        max_pixels: what its images may have together.
        max_json_bytes: what a JSON text may have; each by itself, since those of one request are not parsed at a time.
    """

    __slots__ = ("_bytes", "_pixels", "_unpacked", "max_bytes", "max_json_bytes", "max_pixels")

    def __init__(self, max_bytes: int, max_pixels: int, max_json_bytes: int = MAX_JSON_BYTES):
        self.max_bytes, self.max_pixels, self.max_json_bytes = max_bytes, max_pixels, max_json_bytes
        self._bytes = self._unpacked = max_bytes
        self._pixels = max_pixels

    def take_unpacked(self, count: int, field: str | None = None) -> None:
        """Counts bytes that are about to be unpacked.

        Raises:
            RequestError: 413, there is no room for them.
        """
        self._unpacked -= count
        if self._unpacked < 0:
            raise RequestError(
                f"the request unpacks to {self.max_bytes - self._unpacked} bytes or more; at most {self.max_bytes} are "
                "accepted",
                field=field,
                status=413,
            )

    def take_bytes(self, count: int, field: str | None) -> None:
        """Counts bytes that are about to be filled.

        Raises:
            RequestError: 413, there is no room for them.
        """
        self._bytes -= count
        if self._bytes < 0:
            raise RequestError(
                f"the inputs take {self.max_bytes - self._bytes} bytes in the dtypes of this model, or more; at most "
                f"{self.max_bytes} are accepted",
                field=field,
                status=413,
            )

    def take_pixels(self, width: int, height: int, field: str) -> None:
        """Counts an image that is about to be decoded.

        Raises:
            RequestError: 413, it has too many pixels, alone or together with those before it.
        """
        self._pixels -= width * height
        if self._pixels < 0:
            others = self.max_pixels - self._pixels - width * height
            beside = f" beside {others} of other images" if others else ""
            raise RequestError(
                f"'{field}' is an image of {width} x {height} pixels{beside}; at most {self.max_pixels} are accepted",
                field=field,
                status=413,
            )
