"""Requests of every format, most of them sound and many of them not: one for each number, always the same."""

from __future__ import annotations

from typing import NamedTuple

from handlers.codecs.images import accepts_image
from handlers.codecs.npy import NPY_TYPE, NPZ_TYPE
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.codecs.request import BODY, Part, Request
from handlers.signature import TensorSpec
from tests.native import files, json_texts
from tests.native.chances import Chances
from tests.native.models import ALONE, IMAGES, SPECS
from tests.support.mutations import changed_bytes

JSON = "application/json"
MEDIA_TYPES = [
    *("", JSON, "text/plain", "application/octet-stream", NPY_TYPE, NPZ_TYPE, "image/png", "image/jpeg", "image/x"),
    *("application/vnd.oip+json", "text/html", "APPLICATION/JSON ; charset=utf-8", "application/x-npz;q=1", "+json"),
    *("image/", "image", " application/json", "application/x-npy\n", "\u00a0application/json", "é/+JSON", ";", "a/b"),
]
RANGES = [
    *("application/json", "application/x-npz", "application/vnd.oip+json", "application/octet-stream", "*/*"),
    *(
        "application/*",
        "text/html",
        "image/*",
        "*",
        "/",
        "a/b/c",
        "",
        " ",
        "APPLICATION/JSON",
        "application/json ",
        "*/json",
    ),
]
WEIGHTS = [
    *(
        "",
        "",
        "",
        ";q=0",
        ";q=1",
        ";q=0.5",
        ";q=0.501",
        ";q=1.000",
        ";q=1.5",
        ";q=0.",
        ";q=2",
        ";q=-1",
        ";q=",
        ";q",
        ";q=.5",
    ),
    *(
        "; q=0.3",
        ";Q=0.9",
        ";a=b",
        ";q=0.8;q=0.1",
        ";a=b;q=0.2",
        ";q=0.1234",
        ";q = 0.4",
        ";q=\u0661",
        ";q=0.\u0665",
        ";q=1\n",
    ),
]


class Case(NamedTuple):
    """One request.

    Attributes:
        kind: its format, by which the counts are printed.
        model: the name of one of the models.
        request: what both decoders are given.
    """

    kind: str
    model: str
    request: Request


def make_case(seed: int, number: int, prefix: str) -> Case:
    """Makes the request of a number.

    Args:
        seed: of all cases.
        number: of this one.
        prefix: how the names of the regions of shared memory begin.
    """
    generator = Chances(f"{seed}:{number}")
    kind, model, request = generator.choice(MAKERS)(generator, prefix)
    if generator.random() < 0.35:
        request.headers["accept"] = accept(generator)
    if generator.errs(0.02):
        request.headers[JSON_LENGTH_HEADER.lower()] = generator.choice(
            ("0", "1", "20", "+5", "5_0", "-1", "x", "", " 7", "\u0663", "9" * 19, "9" * 20)
        )
    return Case(kind, model, request)


def accept(generator: Chances) -> str:
    """An `Accept` header."""
    if generator.random() < 0.4:
        return generator.choice(RANGES[:5])
    ranges = [generator.choice(RANGES) + generator.choice(WEIGHTS) for _ in range(generator.choice((1, 1, 2, 3, 5)))]
    text = generator.choice((",", ", ", ",,")).join(ranges)
    return text * 200 if generator.random() < 0.01 else text


def outputs(specs: tuple[TensorSpec, ...]) -> list[str]:
    """The names of the outputs: the inputs themselves are sent back."""
    return [spec.name for spec in specs]


def body(content: bytes, media_type: str, **headers: str) -> Request:
    """A request that is not made of named parts."""
    return Request(
        {BODY: Part(bytearray(content), media_type)}, {name.replace("_", "-"): text for name, text in headers.items()}
    )


def media_type(generator: Chances, usual: str) -> str:
    """The declared type of a body: mostly the right one."""
    return generator.choice(MEDIA_TYPES) if generator.errs(0.2) else usual


def pick(generator: Chances, *, alone: bool = False) -> tuple[str, tuple[TensorSpec, ...]]:
    """A model and its inputs; mostly one of a single input, if what is sent can only be that."""
    name = generator.choice(ALONE if alone and not generator.errs(0.1) else list(SPECS))
    return name, SPECS[name]


def plain_json(generator: Chances, _: str) -> tuple[str, str, Request]:
    """JSON without datatypes."""
    model, specs = pick(generator)
    content = json_texts.encoded(generator, json_texts.plain(generator, specs))
    return "JSON", model, body(content, media_type(generator, JSON))


def odd_json(generator: Chances, _: str) -> tuple[str, str, Request]:
    """Texts that are hardly JSON, or nested deeply."""
    model, _ = pick(generator)
    make = generator.choice((json_texts.soup, json_texts.soup, json_texts.nested))
    return "JSON, odd", model, body(make(generator), generator.choice((JSON, "", "text/plain")))


def infer_json(generator: Chances, prefix: str) -> tuple[str, str, Request]:
    """The Open Inference Protocol without binary data."""
    model, specs = pick(generator)
    document, _ = json_texts.infer_request(generator, specs, outputs(specs), prefix, binary=0.02, shared=0.0)
    return "Open Inference", model, body(json_texts.encoded(generator, document), media_type(generator, JSON))


def infer_shared(generator: Chances, prefix: str) -> tuple[str, str, Request]:
    """The Open Inference Protocol with tensors in shared memory."""
    model, specs = pick(generator)
    document, _ = json_texts.infer_request(generator, specs, outputs(specs), prefix, binary=0.0, shared=0.8)
    return "shared memory", model, body(json_texts.encoded(generator, document), media_type(generator, JSON))


def infer_binary(generator: Chances, prefix: str) -> tuple[str, str, Request]:
    """The Open Inference Protocol with binary data."""
    model, specs = pick(generator)
    document, tail = json_texts.infer_request(generator, specs, outputs(specs), prefix, binary=0.75, shared=0.05)
    head = json_texts.Writer(generator).write(document).encode("utf-8", "surrogatepass")
    if generator.random() < 0.5:
        head += b" " * (-len(head) % 64)  # the data then begin where a vector can be loaded
    length = str(len(head))
    chance = generator.random() if generator.errs(1) else 1.0
    if chance < 0.06:
        head = changed_bytes(head, generator)
    elif chance < 0.1:
        length = generator.choice(
            (
                str(len(head) - 1),
                str(len(head) + 1),
                "0",
                str(len(head + tail)),
                str(len(head + tail) + 1),
                "1e2",
                "",
                "\u0663",
            )
        )
    elif chance < 0.14:
        tail = generator.choice((tail[:-1], tail + b"\0", b"", tail * 2))
    request = body(head + tail, media_type(generator, "application/octet-stream"))
    request.headers[JSON_LENGTH_HEADER.lower()] = length
    return "Open Inference, binary", model, request


def array_file(generator: Chances, _: str) -> tuple[str, str, Request]:
    """An `.npy` alone."""
    model, specs = pick(generator, alone=True)
    content = files.npy(generator, files.array(generator, generator.choice(specs)))
    return "npy", model, body(damaged(generator, content), media_type(generator, NPY_TYPE))


def archive(generator: Chances, _: str) -> tuple[str, str, Request]:
    """An `.npz` of all inputs."""
    model, specs = pick(generator)
    members = {
        f"{spec.name}.npy": files.npy(generator, files.array(generator, spec))
        for spec in specs
        if not spec.optional or generator.random() < 0.6
    }
    chance = generator.random() if generator.errs(1) else 1.0
    if chance < 0.03 and members:
        del members[generator.choice(list(members))]
    elif chance < 0.06:
        members[generator.choice(json_texts.ODD_NAMES).replace("\ud800", "u") + ".npy"] = b""
    elif chance < 0.08 and members:
        name = generator.choice(list(members))
        members[name] = generator.choice((b"", b"\x93NUMPY", b"\x93NUMPY\1\0\xff\xff", b"x" * 20, members[name][:-3]))
    deflated = generator.choice((0.0, 0.5, 1.0))
    content = damaged(generator, files.npz(generator, members, deflated=deflated))
    return "npz, stored" if deflated == 0 else "npz, deflated", model, body(content, media_type(generator, NPZ_TYPE))


def picture(generator: Chances, _: str) -> tuple[str, str, Request]:
    """An image alone."""
    model = generator.choice(list(SPECS) if generator.errs(0.1) else sorted({*IMAGES} & {*ALONE}))
    kind, content = files.image(generator)
    return kind, model, body(content, media_type(generator, "image/png"))


def form(generator: Chances, _: str) -> tuple[str, str, Request]:
    """A part for each input."""
    model, specs = pick(generator)
    parts = {spec.name: part(generator, spec) for spec in specs if not spec.optional or generator.random() < 0.6}
    chance = generator.random() if generator.errs(1) else 1.0
    if chance < 0.03 and parts:
        del parts[generator.choice(list(parts))]
    elif chance < 0.07:
        name = generator.choice((*json_texts.ODD_NAMES, '{"x": [1]}', " [1", "Host", "k" * 200)).replace("\ud800", "u")
        parts[name] = Part(bytearray(b"1"), generator.choice(MEDIA_TYPES))
    if generator.random() < 0.05:
        parts = dict(sorted(parts.items(), key=lambda _: generator.random()))
    request = Request(parts)
    if generator.random() < 0.02:
        request.headers["content-encoding"] = "gzip"  # of a part it says nothing
    return "form", model, request


def part(generator: Chances, spec: TensorSpec) -> Part:
    """One part of a form: an image, JSON, an `.npy` or an `.npz` of one array."""
    chance = generator.random()
    if (accepts_image(spec) and chance < 0.4) or chance < 0.01:
        content, usual = files.image(generator)[1], "image/png"
    elif chance < 0.65:
        value = json_texts.lists(generator, spec, json_texts.shape(generator, spec))
        content, usual = json_texts.encoded(generator, value), JSON
    elif chance < 0.85:
        content, usual = damaged(generator, files.npy(generator, files.array(generator, spec))), NPY_TYPE
    elif chance < 0.95 or not generator.errs(1):
        members = {
            f"a{index}.npy": files.npy(generator, files.array(generator, spec))
            for index in range(generator.choice((0, 2)) if generator.errs(0.2) else 1)
        }
        content, usual = damaged(generator, files.npz(generator, members)), NPZ_TYPE
    else:
        content = generator.choice(
            (
                b"",
                b" ",
                b"\xef\xbb\xbf[1]",
                b"  \n[1]",
                b" " * 70 + b"[1]",
                b"junk",
                b"\0",
                b"NaN",
                b"Infinity",
                b"-1",
                b"true",
                b'"a"',
                b"\x0b[1]",
                b"\x1c[1]",
                b"\x85[1]",
                b"GIF89a",
            )
        )
        usual = JSON
    return Part(bytearray(content), generator.choice(MEDIA_TYPES) if generator.errs(0.5) else usual)


def packed(generator: Chances, prefix: str) -> tuple[str, str, Request]:
    """A body of another kind, compressed."""
    _, model, request = generator.choice(
        (plain_json, plain_json, infer_json, infer_binary, array_file, archive, picture)
    )(generator, prefix)
    part = request[BODY]
    content = bytes(part.content)
    if generator.errs(0.06):
        content = generator.choice(
            (b"", bytes(3000), b" " * 200_000 + content, bytes((1 << 20) + generator.choice((-1, 0, 1))))
        )
    squeezed, encoding = files.compressed(generator, content)
    request[BODY] = part._replace(content=bytearray(squeezed))
    request.headers["content-encoding"] = encoding
    return "compressed", model, request


def junk(generator: Chances, _: str) -> tuple[str, str, Request]:
    """Any bytes, maybe after those that begin a known kind; or nothing at all."""
    model, _ = pick(generator)
    if generator.random() < 0.03:
        return "junk", model, Request()
    magic = generator.choice(
        (
            b"",
            b"\x93NUMPY",
            b"\x93NUMPY\1\0",
            b"PK\3\4",
            b"PK\5\6",
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff",
            b"{",
            b"[",
            b'{"inputs":[',
        )
    )
    content = magic + generator.randbytes(generator.choice((0, 1, 4, 8, 16, 22, 30, 100)))
    return "junk", model, body(content, generator.choice(MEDIA_TYPES))


def damaged(generator: Chances, content: bytes) -> bytes:
    """A file, sometimes with bytes changed or its end cut off."""
    if not generator.errs(0.25):
        return content
    if generator.random() < 0.2:
        return content[: generator.randrange(len(content) + 1)]
    return changed_bytes(content, generator)


MAKERS = [
    *(plain_json, plain_json, plain_json, odd_json, infer_json, infer_json, infer_binary, infer_binary, infer_shared),
    *(array_file, archive, archive, picture, picture, picture, form, form, form, packed, packed, junk),
]
