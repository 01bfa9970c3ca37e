"""Attacks by JSON: how long, how many, how deep, and which characters."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.attack.campaign import FORGERY, Attack
from tests.attack.payloads import (
    LARGEST,
    LARGEST_JSON,
    MIB,
    OIP_OUTPUTS,
    document,
    json_shot,
    npz_shot,
    oip_call,
    oip_tensor,
    packed_shot,
    repeated,
    zip_file,
)
from tests.attack.target import form
from tests.attack.wire import JSON, Reply, Shot, exactly, refused, refused_or_answered

# Lengths at which a count or a size may be held in too few bits.
BORDERS = [2**8, 2**16, 2**24]


def long_lists(_: random.Random) -> Iterator[Shot]:
    """Lists of more elements than a parser's counter holds, everywhere a list may stand."""
    for border in reversed(BORDERS):
        around = [border + 1, border, border - 1] if border < 2**24 else [border + 3 * MIB, border + 1, border - 1]
        for count in around:
            zeros = repeated(b"[", b"0", count, b"]")
            places = {
                "a member that is not an input": b'{"x":[1],"y":[2],"other":%s}' % zeros,
                "within such a member": b'{"x":[1],"y":[2],"other":{"deep":[%s]}}' % zeros,
                "a shape": b'{"inputs":[{"name":"x","shape":%s,"datatype":"FP32","data":[1]}]}' % zeros,
                "parameters": b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1],'
                b'"parameters":{"p":%s}}]}' % zeros,
                "outputs": b'{"inputs":[],"outputs":%s}' % zeros,
                "inputs": b'{"inputs":%s}' % zeros,
                "an id": b'{"inputs":[],"id":%s}' % zeros,
            }
            for place, body in places.items():
                yield packed_shot("scaled_add", body, expect=refused, note=f"{count} elements as {place}")
            yield packed_shot("whole", b'{"n":[1],"other":%s}' % zeros, expect=refused, note=f"{count} elements")
        text = b'"' + b"a" * (border + 1) + b'"'
        for body in (b'{"x":[1],"y":[2],%s:1}', b'{"x":[1],"y":%s}', b'{"inputs":[],"id":%s}', b'{"x":{%s:1}}'):
            yield packed_shot("scaled_add", body % text, expect=refused, note=f"a text of {border + 1} bytes")


def many_names(_: random.Random) -> Iterator[Shot]:
    """Enough names that a step over them that is not linear shows."""
    names = b",".join(b'"n%d":1' % number for number in range(250_000))
    yield packed_shot("scaled_add", b'{"x":[1],"y":[2],%s}' % names, expect=refused, note="250,000 members")
    yield packed_shot("scaled_add", b'{"x":[1],"y":[2],"z":{%s}}' % names, expect=refused, note="250,000 below")
    same = repeated(b'{"x":[1],', b'"y":[2]', 500_000, b"}")
    yield packed_shot("scaled_add", same, note="500,000 times the same member")
    tensor = b'{"name":"%d","shape":[1],"datatype":"FP32","data":[1]}'
    tensors = b",".join(tensor % number for number in range(100_000))
    yield packed_shot("scaled_add", b'{"inputs":[%s]}' % tensors, expect=refused, note="100,000 tensors")
    outputs = b",".join(b'{"name":"%d"}' % number for number in range(250_000))
    call = document(oip_call())[:-1]
    yield packed_shot("scaled_add", call + b',"outputs":[%s]}' % outputs, expect=refused, note="250,000 outputs")
    parameters = b',"parameters":{%s}}' % names
    yield packed_shot("scaled_add", call + parameters, note="250,000 parameters")
    members = ((b"%d.npy" % number, b"", 0, 0) for number in range(65_000))
    yield npz_shot("scaled_add", zip_file(members), expect=refused, note="65,000 members of an .npz")
    parts = {f"n{number}": (b"1", JSON) for number in range(5_000)}
    yield form("scaled_add", parts, expect=refused_or_answered_or_closed, note="5,000 parts")


def refused_or_answered_or_closed(reply: Reply) -> str | None:
    """TorchServe itself may end the connection of a form that is not one."""
    return None if reply.status == 0 and reply.body != b"timed out" else refused_or_answered(reply)


def bombs(_: random.Random) -> Iterator[Shot]:
    """JSON of some kilobytes as gzip whose values would take gigabytes or minutes."""
    for place, items in {"x": (b"[]", b"0", b"1e9", b"null", b"[0]"), "z": (b"[]", b"{}", b'{"a":{}}', b'""')}.items():
        for item in items:
            values = repeated(b"[", item, (LARGEST_JSON - 64) // (len(item) + 1), b"]")
            others = b'"y":[1]' if place == "x" else b'"x":[1],"y":[1]'
            body = b'{"%s":%s,%s}' % (place.encode(), values, others)
            yield packed_shot("scaled_add", body, expect=refused, note=f"{place} of {item!r}")
    tensor = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":%s}]}'
    for item in (b"[]", b"0.5"):
        values = repeated(b"[", item, LARGEST_JSON // (len(item) + 1) - 64, b"]")
        yield packed_shot("scaled_add", tensor % values, expect=refused, note=f"tensor data of {item!r}")
        yield packed_shot("whole", values, expect=refused, note=f"a bare list of {item!r}")
    for count in (1_000, 100_000, 30_000_000):
        yield packed_shot("scaled_add", b'{"x":%s' % (b"[" * count), expect=refused, note=f"{count} deep, open")
        yield packed_shot("scaled_add", b'{"x":%s%s}' % (b"[" * count, b"]" * count), expect=refused, note="deep")
    yield packed_shot("scaled_add", b" " * (LARGEST_JSON - 100) + b'{"x":[1],"y":[2]}', note="spaces")
    lists = repeated(b'{"x":[', b"[]", (LARGEST - 64) // 3, b"]}")
    yield packed_shot("scaled_add", lists, expect=refused, note="256 MiB of b'[]'")
    yield packed_shot("scaled_add", b'{"x":[1],"y":[2],"z":"%s"}' % (b"\\u0000" * (40 * MIB)), expect=refused)
    yield packed_shot("scaled_add", b'{"x":[1],"y":[2],"%s":0}' % (b"k" * (40 * MIB)), expect=refused, note="a key")
    yield packed_shot("scaled_add", b'{"x":[%s],"y":[2]}' % (b"9" * (40 * MIB)), expect=refused, note="a number")
    yield packed_shot("scaled_add", bytes(LARGEST + 1), expect=refused, note="one byte too many")
    yield packed_shot("scaled_add", bytes(2 * LARGEST), expect=refused, note="twice too many")


def text_for_numbers(_: random.Random) -> Iterator[Shot]:
    """One long text among many short ones: an array of texts is as wide as its longest."""
    for count, length in ((5_000, 100_000), (100_000, 50_000), (1_000, 4 * MIB)):
        texts = repeated(b'["%s",' % (b"b" * length), b'"a"', count, b"]")
        yield packed_shot("scaled_add", b'{"x":%s,"y":[1]}' % texts, expect=refused, note=f"{count} x {length}")
        yield packed_shot("whole", texts, expect=refused, note=f"{count} x {length}, bare")
        mixed = repeated(b'["%s",' % (b"b" * length), b"1.5", count, b"]")
        yield packed_shot("scaled_add", b'{"x":%s,"y":[1]}' % mixed, expect=refused, note="among numbers")
        tensor = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"BYTES","data":%s}]}' % (count + 1, texts)
        yield packed_shot("scaled_add", tensor, expect=refused, note="BYTES")
        tensor = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":%s}]}' % (count + 1, texts)
        yield packed_shot("scaled_add", tensor, expect=refused, note="FP32")


SURROGATES = ("\ud800", "\udfff", "a\udc00b", "\ud83d", "\udc00\ud800")


def surrogates(_: random.Random) -> Iterator[Shot]:
    """Texts that no UTF-8 can hold, wherever a text may stand that an answer could repeat."""
    for text in SURROGATES:
        for _ in range(12):
            yield json_shot("scaled_add", {"x": [1], "y": [2], text: 1}, expect=refused)
            yield json_shot("scaled_add", {"x": text, "y": [2]}, expect=refused)
            yield json_shot("scaled_add", {"x": [text], "y": [2]}, expect=refused)
            yield json_shot("scaled_add", oip_call(id=text))
            yield json_shot("scaled_add", oip_call(outputs=[{"name": text}]), expect=refused)
            yield json_shot("scaled_add", oip_call(outputs=[{"name": "z", "parameters": {text: text}}]))
            yield json_shot("scaled_add", oip_call(parameters={text: text}))
            yield json_shot("scaled_add", oip_call(oip_tensor(text, [1])), expect=refused)
            yield json_shot("scaled_add", oip_call(oip_tensor("x", [1], datatype=text)), expect=refused)
            yield json_shot("scaled_add", oip_call(oip_tensor("x", [1], parameters={"shared_memory_region": text})))
            padding = {"pad": "p" * 2000}  # the parser of large texts is another
            yield json_shot("scaled_add", {"x": [1], "y": [2], text: 1} | padding, expect=refused)
            yield json_shot("scaled_add", oip_call(id=text, parameters=padding))
            yield form("scaled_add", {"x": (b"[1]", JSON), "y": (b"[2]", JSON), text: (b"1", JSON)}, expect=refused)
    for name in (b"\xff\xfe.npy", b"\xed\xa0\x80.npy", b"\xc3.npy"):
        for _ in range(10):
            yield npz_shot("scaled_add", zip_file([(name, b"", 0, 0)]), expect=refused)


def exact_numbers(_: random.Random) -> Iterator[Shot]:
    """Numbers that a detour through another type would change: the exact ones come back, or a refusal."""
    lists = {
        "[9007199254740993, 1.0]": [9007199254740993, 1],
        "[9007199254740993.0]": [9007199254740993],
        "[1.0, 9007199254740993]": [1, 9007199254740993],
        "[-9223372036854775809]": None,
        "[-9223372036854775808]": [-(2**63)],
        "[9223372036854775807]": [2**63 - 1],
        "[9223372036854775808]": None,
        "[18446744073709551615]": None,
        "[18446744073709551616]": None,
        "[1, true]": None,
        "[true]": None,
        "[false, 0]": None,
        "[1.5]": None,
        "[1e999]": None,
        "[-1e999]": None,
        "[1e19]": None,
        "[9223372036854775807.0]": None,
        "[1e-999]": [0],
        "[NaN]": None,
        "[Infinity]": None,
        "[null]": None,
        '["1"]': None,
        "[1, [2]]": None,
        "[0.1e1, -0.0]": [1, 0],
    }
    for text, value in lists.items():
        # Texts of more than 1,024 bytes are parsed by another parser.
        for padding in ("", " " * 1500):
            expect = refused if value is None else exactly({"m": value})
            yield Shot("whole", f'{{"n": {text}{padding}}}'.encode(), expect=expect, note=f"n: {text}")
            yield Shot("whole", (text + padding).encode(), expect=expect, note=f"bare {text}")
            count = 1 if value is None else len(value)
            tensor = f'{{"inputs":[{{"name":"n","shape":[{count}],"datatype":"INT64","data":{text}}}]{padding}}}'
            outputs = [{"name": "m", "datatype": "INT64", "shape": [count], "data": value}]
            expected = refused if value is None else outputs_are(outputs)
            yield Shot("whole", tensor.encode(), expect=expected, note=f"a tensor of {text}")
    for text in ("1e999", "-1e999", "1e39", "3.5e38"):
        for padding in ("", " " * 1500):
            body = f'{{"x": [{text}], "y": [0]{padding}}}'.encode()
            yield Shot("scaled_add", body, expect=refused, note=text)


def outputs_are(expected: list) -> object:
    """An answer of the Open Inference Protocol with these outputs, or a refusal."""

    def expect(reply: Reply) -> str | None:
        if reply.status != 200:
            return refused(reply)
        got = reply.json()["outputs"]
        return None if document(got) == document(expected) else f"answered {got}"

    return expect


def long_texts(_: random.Random) -> Iterator[Shot]:
    """Names and ids of some kilobytes to megabytes: what an error repeats of them is bounded."""
    for length in (1_000, 1_025, 20_000, 140_000, 4 * MIB):
        long = "i" * length
        echoed = {} if length <= 1_000 else {"expect": refused}
        yield json_shot("scaled_add", oip_call(id=long), **echoed)
        yield json_shot("scaled_add", oip_call(outputs=[{"name": long}]), expect=refused)
        yield json_shot("scaled_add", oip_call(oip_tensor(long, [1])), expect=refused)
        yield json_shot("scaled_add", oip_call(oip_tensor("x", [1], datatype=long)), expect=refused)
        yield json_shot("scaled_add", oip_call(oip_tensor("x", [1], shape=[1] * min(length, 20_000))), expect=refused)
        yield json_shot("scaled_add", {"x": [1], "y": [2], long: 1}, expect=refused)
        yield json_shot("scaled_add", {"x": long, "y": [2]}, expect=refused)
        yield json_shot("scaled_add", {"x": {long: long}, "y": [2]}, expect=refused)
        if length < 60_000:
            yield npz_shot("scaled_add", zip_file([(long.encode() + b".npy", b"", 0, 0)]), expect=refused)
            yield form("scaled_add", {"x": (b"[1]", JSON), "y": (b"[2]", JSON), long: (b"1", JSON)}, expect=refused)
    for body in (document(oip_call(id=7)), document(oip_call(outputs=3)), b'{"inputs":[{"name":"x"}]}'):
        yield Shot("scaled_add", body, expect=error_is_text, note="an error of the Open Inference Protocol")


def error_is_text(reply: Reply) -> str | None:
    """`{"error": "…"}`, as the Open Inference Protocol has it."""
    if wrong := refused(reply):
        return wrong
    return (
        None if isinstance(reply.json().get("error"), str) else f"{reply.body[:200]!r} is not an error of the protocol"
    )


def forged_lines(_: random.Random) -> Iterator[Shot]:
    """Line breaks before what would be a line of a log, a metric or a worker's report."""
    lines = (
        f"\n{FORGERY} a line",
        f"\r\n{FORGERY} a line",
        f"\r{FORGERY} a line",
        f"\u2028{FORGERY} a line",
        f"\n[METRICS]{FORGERY}.Count:1|#Level:Host|#hostname:here,1",
        f"\n[METRICS]opserve_requests_total.Counter:9|#model_name:{FORGERY},Level:Model|#hostname:here,1",
        "\n[PID]1",
        "\nTorch worker started.",
        f"\x00{FORGERY}",
        f"\x1b[2J{FORGERY}",
    )
    for line in lines:
        for name in ("x", "y"):
            yield json_shot("scaled_add", {"x": [1], "y": [2]} | {name: f"no{line}"}, expect=refused)
        yield json_shot("scaled_add", {"x": [1], "y": [2], f"n{line}": 1}, expect=refused)
        yield json_shot("scaled_add", oip_call(id=line), expect=refused_or_outputs)
        yield json_shot("scaled_add", oip_call(outputs=[{"name": line}]), expect=refused)
        yield json_shot("scaled_add", oip_call(oip_tensor("x", [1], datatype=line)), expect=refused)
        yield npz_shot("scaled_add", zip_file([(line.encode() + b".npy", b"", 0, 0)]), expect=refused)


def refused_or_outputs(reply: Reply) -> str | None:
    """The right outputs, or a refusal."""
    if reply.status != 200:
        return refused(reply)
    return None if reply.json()["outputs"] == OIP_OUTPUTS else f"answered {reply.body[:200]!r}"


ATTACKS = [
    Attack(
        "long-lists",
        "lists and texts around 2^8, 2^16 and 2^24 elements",
        ("scaled_add", "whole"),
        long_lists,
        together=1,
    ),
    Attack("many-names", "a quarter of a million names", ("scaled_add",), many_names, together=1),
    Attack("json-bombs", "64 to 512 MiB of JSON as some kilobytes", ("scaled_add", "whole"), bombs, together=1),
    Attack("text-for-numbers", "one long text among many", ("scaled_add", "whole"), text_for_numbers, together=1),
    Attack("surrogates", "texts that no UTF-8 can hold", ("scaled_add",), surrogates),
    Attack("exact-numbers", "numbers that another type would change", ("whole", "scaled_add"), exact_numbers),
    Attack("long-texts", "long ids and names in errors", ("scaled_add",), long_texts),
    Attack("forged-lines", "line breaks before what looks like a log line or a metric", ("scaled_add",), forged_lines),
]
