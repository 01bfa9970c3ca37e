"""Bodies with a Content-Encoding."""

import gzip
import io
import zlib

import numpy
import pytest

from handlers.codecs import inflate
from handlers.codecs.content_encoding import unpack
from handlers.codecs.decode import decode_request
from handlers.codecs.request import Part, Request
from handlers.errors import RequestError
from handlers.signature import TensorSpec
from tests.support import hostile_archives

X = TensorSpec("x", numpy.dtype("float32"), (-1,))
TEXT = b'{"x": [1, 2.5]}'


def request(content: bytes, encoding: str = "gzip", media_type: str = "application/json") -> Request:
    return Request({"body": Part(bytearray(content), media_type)}, {"Content-Encoding": encoding})


def decode(request_: Request, **limits) -> list:
    return decode_request(request_, (X,), 1000, **limits).inputs["x"].tolist()


@pytest.mark.parametrize("encoding", ["gzip", "GZip", " x-gzip "])
def test_a_gzip_body_is_unpacked_first(encoding):
    assert decode(request(gzip.compress(TEXT), encoding)) == [1, 2.5]


@pytest.mark.parametrize("encoding", ["gzip, identity", "identity,gzip", ",gzip,"])
def test_identity_in_a_list_changes_nothing(encoding):
    assert decode(request(gzip.compress(TEXT), encoding)) == [1, 2.5]


def raw_deflate(content: bytes, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize("packed", [zlib.compress(TEXT), raw_deflate(TEXT), raw_deflate(TEXT, 0)])
def test_deflate_is_a_zlib_stream_or_a_raw_one(packed):
    assert decode(request(packed, "Deflate")) == [1, 2.5]
    with pytest.raises(RequestError, match="deflate") as caught:
        decode(request(packed[:-3], "deflate"))
    assert caught.value.status == 400
    with pytest.raises(RequestError, match="truncated deflate, or has bytes after") as caught:
        decode(request(packed + b"more", "deflate"))


@pytest.mark.parametrize("content", [b"", b"x", b"\x78", b"\x78\x9c", b"\xff" * 50])
def test_other_bytes_than_deflate_are_a_400(content):
    with pytest.raises(RequestError, match="deflate") as caught:
        decode(request(content, "deflate"))
    assert caught.value.status == 400


def test_large_bodies_are_unpacked_in_pieces_to_the_same_bytes():
    content = numpy.random.default_rng(0).integers(0, 9, 3 << 20, dtype=numpy.uint8).tobytes()
    for encoding, packed in (
        ("gzip", gzip.compress(content, 1)),
        ("deflate", zlib.compress(content, 0)),
    ):
        assert len(packed) > 1 << 20
        assert unpack(packed, encoding, len(content)) == content
        with pytest.raises(RequestError, match=f"unpacks to more than {len(content) - 1}"):
            unpack(packed, encoding, len(content) - 1)
        for damaged in (
            packed[:-9],
            packed + b"1",
            packed[: len(packed) // 2] + bytes(99) + packed[len(packed) // 2 :],
        ):
            with pytest.raises(RequestError) as caught:
                unpack(damaged, encoding, 2 * len(content))
            assert caught.value.status == 400


def test_headers_of_any_length_and_many_members():
    assert bytes(unpack(hostile_archives.gzip_of_long_extra(), "gzip", 100)) == b"[1]"
    assert bytes(unpack(hostile_archives.gzip_of_long_name(5 << 20), "gzip", 100)) == b"[1]"
    with pytest.raises(RequestError, match="bytes after its end"):
        unpack(hostile_archives.gzip_of_many_members(100_000), "gzip", 100)


def test_a_stream_of_slow_blocks_is_given_up(monkeypatch):
    packed = hostile_archives.gzip_of_slow_blocks(800_000)
    monkeypatch.setattr(inflate, "MAX_SECONDS", 0.2)
    with pytest.raises(RequestError, match="takes too long to unpack") as caught:
        unpack(packed, "gzip", 100)
    assert caught.value.status == 413
    npz = hostile_archives.npz_of_slow_blocks(800_000)
    with pytest.raises(RequestError, match="takes too long to unpack") as caught:
        decode(Request({"body": Part(npz)}))
    assert (caught.value.status, caught.value.field) == (413, "x")


@pytest.mark.parametrize("encoding", ["identity", ""])
def test_a_plain_body_may_be_declared_as_such(encoding):
    assert decode(request(TEXT, encoding)) == [1, 2.5]


def test_the_unpacked_bytes_decide_the_format():
    buffer = io.BytesIO()
    numpy.savez(buffer, x=numpy.float32([3, 4]))
    got = decode_request(request(gzip.compress(buffer.getvalue()), media_type="application/x-npz"), (X,), 1000)
    got.inputs["x"][0] = 5  # a hook may
    assert got.inputs["x"].tolist() == [5, 4]


@pytest.mark.parametrize("encoding", ["zstd", "br", "gzip, gzip", "deflate, gzip", "compress", "nonsense", "gzip;q=1"])
def test_other_encodings_are_a_415(encoding):
    with pytest.raises(RequestError, match="is not accepted; send gzip or deflate") as caught:
        decode(request(TEXT, encoding))
    assert caught.value.status == 415


PACKED = gzip.compress(TEXT, mtime=0)  # the same bytes in every process that runs tests


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
