"""Bodies under `Content-Encoding`: gzip, unpacked to a bound."""

from __future__ import annotations

from isal import isal_zlib

from handlers.errors import RequestError
from handlers.request import Buffer

HEADER = "Content-Encoding"

_GZIP = ("gzip", "x-gzip")
_WITH_GZIP_HEADER = 16 + isal_zlib.MAX_WBITS


def unpack(content: Buffer, encoding: str, max_bytes: int) -> Buffer:
    """The body that was packed as its `Content-Encoding` says; `identity` is the body itself.

    Raises:
        RequestError: 415 for another encoding, 413 for more than `max_bytes`, 400 for damaged bytes.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return content
    if encoding not in _GZIP:
        raise RequestError(f"'{HEADER}: {encoding[:80]}' is not accepted; send gzip, or the body as it is", status=415)
    unpacker = isal_zlib.decompressobj(_WITH_GZIP_HEADER)
    try:
        unpacked = unpacker.decompress(content, max_bytes + 1)
    except isal_zlib.error as error:
        raise RequestError(f"the request's body is no gzip: {error}") from error
    if len(unpacked) > max_bytes:
        raise RequestError(f"the request's body unpacks to more than {max_bytes} bytes", status=413)
    if not unpacker.eof or unpacker.unused_data:
        raise RequestError("the request's body is a truncated gzip, or has bytes behind its end")
    return unpacked
