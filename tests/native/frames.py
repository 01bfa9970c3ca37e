"""The frames that the native worker's test programs read and write: their fields, little endian."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any


class Writer:
    """A frame that is written, field by field."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def number(self, value: int, code: str = "I") -> Writer:
        self.pieces.append(struct.pack("<" + code, value))
        return self

    def flag(self, value: bool) -> Writer:
        return self.number(int(value))

    def text(self, *values: str) -> Writer:
        for value in values:
            content = value.encode("utf-8", "surrogateescape")
            self.number(len(content)).pieces.append(content)
        return self

    def content(self, value: bytes | bytearray | memoryview) -> Writer:
        self.number(len(value), "Q").pieces.append(bytes(value))
        return self

    def many(self, values: Iterable[Any], write: Callable[[Any], Any]) -> Writer:
        items = list(values)
        self.number(len(items))
        for item in items:
            write(item)
        return self

    def maybe(self, value: Any, write: Callable[[Any], Any]) -> Writer:
        self.flag(value is not None)
        if value is not None:
            write(value)
        return self


class Reader:
    """A frame that is read, field by field."""

    def __init__(self, frame: bytes) -> None:
        self._frame, self._at = frame, 0

    def number(self, code: str = "I") -> int:
        return struct.unpack("<" + code, self._take(struct.calcsize("<" + code)))[0]

    def flag(self) -> bool:
        return self.number() == 1

    def text(self) -> str:
        return self._take(self.number()).decode("utf-8", "surrogateescape")

    def content(self) -> bytes:
        return self._take(self.number("Q"))

    def many(self, read: Callable[[], Any]) -> list[Any]:
        return [read() for _ in range(self.number())]

    def maybe(self, read: Callable[[], str]) -> str | None:
        return read() if self.flag() else None

    def _take(self, length: int) -> bytes:
        self._at += length
        assert self._at <= len(self._frame), "the frame is shorter than what it holds"
        return self._frame[self._at - length : self._at]
