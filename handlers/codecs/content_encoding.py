"""Bodies with a `Content-Encoding`: gzip or deflate, unpacked up to a bound."""

from __future__ import annotations

from handlers.codecs import inflate
from handlers.codecs.request import Buffer
from handlers.errors import RequestError

HEADER = "Content-Encoding"

_GZIP = ("gzip", "x-gzip")
_DEFLATE = "deflate"


def unpack(content: Buffer, encoding: str, max_bytes: int) -> Buffer:
    """The body without its `Content-Encoding`; `identity`, alone or in a list, changes nothing.

    `deflate` is a zlib stream or, from some clients, a raw one (RFC 9110, 8.4.1.2).

    Raises:
        RequestError: 415 for other or several encodings, 413 for more than `max_bytes` or a stream that takes too long,
            400 for damaged bytes.
    """
    codings = [coding for coding in map(str.strip, encoding.lower().split(",")) if coding not in ("", "identity")]
    if not codings:
        return content
    if len(codings) > 1 or (codings[0] not in _GZIP and codings[0] != _DEFLATE):
        raise RequestError(
            f"'{HEADER}: {encoding[:80]}' is not accepted; send gzip or deflate, or the body as it is", status=415
        )
    name, wbits = ("gzip", inflate.GZIP) if codings[0] in _GZIP else (_DEFLATE, _deflate_bits(content))
    try:
        unpacked, whole = inflate.inflate(content, wbits, max_bytes)
    except inflate.DamagedStream as error:
        raise RequestError(f"the request's body cannot be unpacked as {name}: {error}") from None
    except inflate.TooSlow:
        raise RequestError(f"the request's body takes too long to unpack as {name}", status=413) from None
    if len(unpacked) > max_bytes:
        raise RequestError(f"the request's body unpacks to more than {max_bytes} bytes", status=413)
    if not whole:
        raise RequestError(f"the request's body is truncated {name}, or has bytes after its end")
    return unpacked


def _deflate_bits(content: Buffer) -> int:
    """The `wbits` of a deflate body: of zlib if it begins with zlib's header, which encoders of raw streams avoid."""
    start = bytes(content[:2])
    is_zlib = len(start) == 2 and start[0] & 15 == 8 and int.from_bytes(start, "big") % 31 == 0
    return inflate.ZLIB if is_zlib else inflate.RAW
