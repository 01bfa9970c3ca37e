"""Bodies under Content-Encoding."""

import gzip
import io

import numpy
import pytest

from handlers.compressed import unpack
from handlers.decode import decode_request
from handlers.errors import RequestError
from handlers.request import Part, Request
from handlers.signature import TensorSpec

X = TensorSpec("x", numpy.dtype("float32"), (-1,))
TEXT = b'{"x": [1, 2.5]}'


def request(content: bytes, encoding: str = "gzip", media_type: str = "application/json") -> Request:
    return Request({"body": Part(bytearray(content), media_type)}, {"Content-Encoding": encoding})


def decode(request_: Request, **limits) -> list:
    return decode_request(request_, (X,), 1000, **limits).inputs["x"].tolist()


@pytest.mark.parametrize("encoding", ["gzip", "GZip", " x-gzip "])
def test_a_gzip_body_is_unpacked_first(encoding):
    assert decode(request(gzip.compress(TEXT), encoding)) == [1, 2.5]


@pytest.mark.parametrize("encoding", ["identity", ""])
def test_a_plain_body_may_say_that_it_is_one(encoding):
    assert decode(request(TEXT, encoding)) == [1, 2.5]


def test_what_is_inside_decides_what_it_is():
    buffer = io.BytesIO()
    numpy.savez(buffer, x=numpy.float32([3, 4]))
    got = decode_request(request(gzip.compress(buffer.getvalue()), media_type="application/x-npz"), (X,), 1000)
    got.inputs["x"][0] = 5  # a hook may
    assert got.inputs["x"].tolist() == [5, 4]


@pytest.mark.parametrize("encoding", ["zstd", "br", "deflate", "gzip, gzip", "nonsense"])
def test_other_encodings_are_a_415(encoding):
    with pytest.raises(RequestError, match="is not accepted; send gzip") as caught:
        decode(request(TEXT, encoding))
    assert caught.value.status == 415


PACKED = gzip.compress(TEXT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        TEXT,
        PACKED[:-1],
        PACKED[:12],
        PACKED + b"more",
        PACKED + PACKED,
        PACKED[:-8] + b"\0" * 8,
        PACKED[:12] + b"\xff\xff\xff" + PACKED[15:],
    ],
)
def test_a_damaged_body_is_a_400(content):
    with pytest.raises(RequestError, match="gzip") as caught:
        decode(request(content))
    assert caught.value.status == 400


def test_a_bomb_stops_at_the_bound():
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(RequestError, match="unpacks to more than 1000 bytes") as caught:
        decode(request(bomb), max_npz_bytes=1000)
    assert caught.value.status == 413
    assert bytes(unpack(gzip.compress(bytes(1000)), "gzip", 1000)) == bytes(1000)
    with pytest.raises(RequestError, match="more than 1000"):
        unpack(gzip.compress(bytes(1001)), "gzip", 1000)
