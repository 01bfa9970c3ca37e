"""JSON texts: sound ones in many spellings, and ones with something wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy

from handlers.codecs.datatypes import DATATYPES
from handlers.signature import TensorSpec
from tests.native import numbers
from tests.native.chances import Chances
from tests.support.mutations import ODD_VALUES, changed_bytes

ODD_NAMES = [
    "",
    "x",
    "n",
    "image",
    "inputs",
    "body",
    "a\0b",
    "x\0",
    "é",
    "\U0001f600",
    "k" * 130,
    "k" * 2000,
    "\ud800",
    "CUDA error\n[METRICS]",
    "X",
    " x",
    "'",
    "a\u2028b",
]
TOKENS = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    '"x"',
    '"n"',
    '"inputs"',
    "1",
    "-2.5",
    "true",
    "null",
    '"',
    "\\",
    " ",
    "\n",
    "NaN",
    '"\\ud83d\\ude00"',
    '"\\ud800"',
    "\ufeff",
    "//",
    "/**/",
    "'x'",
    "\0",
    "\x7f",
    "\\u0041",
]
ODD_STRINGS = [
    r'"\u0078"',
    r'"\x"',
    r'"\ud800"',
    r'"\udc00\ud800"',
    r'"\ud83d\ude00"',
    r'"\u00zz"',
    r'"\u12"',
    '"\t"',
    '"\x1f"',
    '"\x7f"',
    '"unclosed',
    r'"\"',
    r'"\/\b\f\n\r\t\\\""',
    '"\U0001f600é"',
    r'"\uFFFF"',
    r'"\u0000"',
]
ODD_UTF8 = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xc3",
    b"\x80",
    b"\xef\xbb\xbf",
    b"\xfe\xff",
    b"\0",
]


class Writer:
    """Writes documents of dictionaries, lists, numbers and texts, in one of many layouts."""

    def __init__(self, generator: Chances) -> None:
        self.generator = generator
        self.comma, self.colon = generator.choice(
            [(",", ":")] * 4 + [(", ", ": "), (" ,\n", " : "), (",\t\r\n  ", ":\n")]
        )
        self.raw = generator.random() < 0.5  # letters beyond ASCII as they are

    def write(self, value: Any) -> str:
        """The text of a value; a `Raw` is written as it is."""
        if isinstance(value, Raw):
            return value.text
        if isinstance(value, dict):
            return (
                "{"
                + self.comma.join(f"{self.text(key)}{self.colon}{self.write(item)}" for key, item in value.items())
                + "}"
            )
        if isinstance(value, list | tuple):
            return "[" + self.comma.join(map(self.write, value)) + "]"
        if isinstance(value, str):
            return self.text(value)
        return "null" if value is None else numbers.plainly(value)

    def text(self, value: str) -> str:
        """A string; sometimes with escapes that it does not need."""
        if value and self.generator.random() < 0.03:
            at = self.generator.randrange(len(value))
            if ord(value[at]) < 0xD800:
                inner = json.dumps(value[:at])[:-1], f"\\u{ord(value[at]):04X}", json.dumps(value[at + 1 :])[1:]
                return "".join(inner)
        plain = not (self.raw and value.isprintable())
        return json.dumps(value, ensure_ascii=plain)


class Raw:
    """A piece of text that stands for a value."""

    def __init__(self, text: str) -> None:
        self.text = text


def size(generator: Chances) -> int:
    """The length of an array: mostly small, sometimes such that a text is no short one."""
    chance = generator.random()
    if chance < 0.1:
        return 0
    return (
        generator.randrange(1, 6)
        if chance < 0.8
        else generator.randrange(6, 60)
        if chance < 0.95
        else generator.randrange(60, 900)
    )


def shape(generator: Chances, spec: TensorSpec, *, largest: int = 4000) -> list[int]:
    """Sizes that an input takes; some are wrong."""
    sizes = [size(generator) if each < 0 else each for each in spec.shape]
    if generator.errs(0.08):
        action = generator.randrange(3)
        if action == 0:
            sizes.insert(generator.randrange(len(sizes) + 1), generator.choice((0, 1, 1, 2)))
        elif action == 1 and sizes:
            sizes.pop()
        elif sizes:
            sizes[generator.randrange(len(sizes))] += 1
    while (total := int(numpy.prod(sizes, dtype=object))) > largest:
        sizes[sizes.index(max(sizes))] //= 1 + total // largest
    return sizes


def lists(generator: Chances, spec: TensorSpec, sizes: Sequence[int]) -> Any:
    """Nested lists of numbers; some are ragged or contain something else."""
    odd = generator.choice((0.0, 0.0, 0.0, 0.05, 0.4)) if generator.errs(1) else 0.0

    def make(level: int) -> Any:
        if level == len(sizes):
            made = numbers.number(generator, spec.dtype, odd=odd, minimum=spec.minimum)
            return Raw(numbers.spelled(made, generator)) if generator.random() < 0.1 else made
        return [make(level + 1) for _ in range(sizes[level])]

    value = make(0)
    if generator.errs(0.15):
        replace_somewhere(generator, value)
    return value


def replace_somewhere(generator: Chances, value: Any) -> None:
    """Replaces, adds or removes an element of a list, at any depth."""
    while isinstance(value, list) and value:
        at = generator.randrange(len(value))
        if not isinstance(value[at], list) or generator.random() < 0.3:
            action = generator.randrange(6)
            if action == 0:
                del value[at]
            elif action == 1:
                value.append(value[at])
            elif action == 2:
                value[at] = generator.choice(ODD_VALUES)
            elif action == 3:
                value[at] = [value[at]]
            elif action == 4:
                value[at] = Raw(generator.choice(ODD_STRINGS))
            else:
                value[at] = Raw(
                    generator.choice(numbers.ODD_NUMBERS) if generator.random() < 0.8 else numbers.halfway(generator)
                )
            return
        value = value[at]


def plain(generator: Chances, specs: Sequence[TensorSpec]) -> Any:
    """The inputs by name, or the only one alone."""
    if len(specs) == 1 and generator.random() < 0.5:
        return lists(generator, specs[0], shape(generator, specs[0]))
    chosen = [spec for spec in specs if not spec.optional or generator.random() < 0.6]
    document = {spec.name: lists(generator, spec, shape(generator, spec)) for spec in chosen}
    while generator.errs(0.1):
        change_members(generator, document)
    return document


def change_members(generator: Chances, document: dict[str, Any]) -> None:
    """Adds, removes, renames or replaces a member."""
    name = generator.choice([*document, ""])
    action = generator.randrange(4)
    if action == 0:
        document[generator.choice(ODD_NAMES)] = generator.choice(ODD_VALUES)
    elif name in document and action == 1:
        del document[name]
    elif name in document and action == 2:
        document[generator.choice(ODD_NAMES)] = document.pop(name)
    elif name in document:
        document[name] = generator.choice(ODD_VALUES)


def encoded(generator: Chances, document: Any) -> bytes:
    """The text of a document, sometimes with a mistake, padded or marked."""
    text = Writer(generator).write(document)
    if generator.errs(0.12):
        text = misspelled(generator, text)
    if isinstance(document, dict) and document and generator.random() < 0.03:
        # The same name twice, maybe in another spelling.
        name = generator.choice(list(document))
        value = generator.choice([document[name], generator.choice(ODD_VALUES)])
        twice = f"{Writer(generator).text(name)}:{Writer(generator).write(value)}"
        text = text.rstrip()[:-1] + "," + twice + "}"
    content = text.encode("utf-8", "surrogatepass")
    if generator.random() < 0.1:
        # Longer texts have another parser.
        padding = generator.choice((b" ", b"\n", b"\t ")) * generator.randrange(400, 700)
        content = content + padding if generator.random() < 0.5 else padding + content
    if generator.random() < 0.02:
        content = b"\xef\xbb\xbf" + content
    if generator.errs(0.05):
        at = generator.randrange(len(content) + 1)
        content = content[:at] + generator.choice(ODD_UTF8) + content[at:]
    if generator.errs(0.08):
        content = changed_bytes(content, generator)
    return content


def misspelled(generator: Chances, text: str) -> str:
    """A text with a token replaced, added or lost."""
    at = generator.randrange(len(text) + 1)
    if generator.random() < 0.5:
        places = [index for index, char in enumerate(text) if char in "[]{},:"]
        at = generator.choice(places) if places else at
    lost = generator.choice((0, 0, 1, 1, 2))
    added = generator.choice(
        ("", generator.choice(TOKENS), generator.choice(TOKENS), generator.choice(numbers.ODD_NUMBERS))
    )
    return text[:at] + added + text[at + lost :]


def soup(generator: Chances) -> bytes:
    """Tokens in any order."""
    tokens = [
        generator.choice(TOKENS) if generator.random() < 0.8 else generator.choice(numbers.ODD_NUMBERS)
        for _ in range(generator.randrange(1, 12))
    ]
    return "".join(tokens).encode("utf-8", "surrogatepass")


def nested(generator: Chances) -> bytes:
    """Brackets around the depths that parsers stop at."""
    depth = generator.choice(
        (2, 31, 32, 33, 34, 200, 511, 512, 513, 990, 1000, 1020, 1022, 1023, 1024, 1025, 1026, 2000, 5000)
    )
    opened, closed = generator.choice((("[", "]"), ('{"x":', "}"), ('{"n":[', "]}")))
    inner = generator.choice(("", "1", "null", "1.5", "NaN"))
    missing = generator.choice((0, 0, 0, 1))
    text = opened * depth + (inner or ("" if opened == "[" else "1")) + closed * (depth - missing)
    name = generator.choice(("x", "n", "z", "inputs"))
    return generator.choice((text, f'{{"{name}":{text}}}', f'{{"x":[1],"y":[2],"{name}":{text}}}')).encode()


# -- the Open Inference Protocol ---------------------------------------------------------------------------------------


def datatype(dtype: numpy.dtype, generator: Chances) -> str:
    """The name of a dtype in the protocol; sometimes that of another one."""
    if generator.errs(0.15):
        return generator.choice([*DATATYPES, "BYTES", "fp32", "", "FP32 ", "\ud800", "F" * 100])
    return next(name for name, each in DATATYPES.items() if each == dtype)


def place(generator: Chances, prefix: str, nbytes: int) -> dict[str, Any]:
    """The parameters of a tensor in shared memory: the region `in` or `out`, or one that cannot be used."""
    right = f"{prefix}{generator.choice(('in', 'in', 'out'))}"
    odd = [prefix + name for name in ("none", "link", "hard", "short", "folder", "a/b", "..", "in\0", "")]
    key = generator.choice([*odd, "other", "", "../x", 7, None, "é"]) if generator.errs(0.3) else right
    sizes = [nbytes + 1, nbytes - 1, 0, -1, 4096, 2**31, 2**62, 2**63, True, 1.0, "8", None]
    found: dict[str, Any] = {"shared_memory_region": key}
    if not generator.errs(0.05):
        found["shared_memory_byte_size"] = generator.choice(sizes) if generator.errs(0.2) else nbytes
    if generator.random() < 0.7:
        offsets = [4095, 4096, -1, 2**62 - 1, 2**62, 2**64, 1.5, None, False]
        found["shared_memory_offset"] = generator.choice(offsets if generator.errs(0.3) else [0, 0, 4, 64, 1])
    return found


def infer_request(
    generator: Chances,
    specs: Sequence[TensorSpec],
    outputs: Sequence[str],
    prefix: str,
    *,
    binary: float,
    shared: float,
) -> tuple[dict[str, Any], bytes]:
    """A request of the protocol, and the binary data that follow it."""
    inputs: list[Any] = []
    tail = b""
    for spec in specs:
        if spec.optional and generator.random() < 0.4:
            continue
        sizes = shape(generator, spec)
        kind = datatype(spec.dtype, generator)
        dtype = DATATYPES.get(kind, spec.dtype)
        item: dict[str, Any] = {"name": spec.name, "shape": sizes, "datatype": kind}
        count = int(numpy.prod(sizes, dtype=object))
        chance = generator.random()
        if chance < shared:
            item["parameters"] = place(generator, prefix, count * (2 if kind == "BF16" else dtype.itemsize))
        elif chance < shared + binary:
            data = tensor_bytes(generator, replace(spec, dtype=dtype), count, kind)
            item["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            flat = generator.random() < 0.6
            item["data"] = lists(generator, replace(spec, dtype=dtype), [count] if flat else sizes)
        if generator.errs(0.06):
            change_members(generator, item)
        if generator.errs(0.05):
            item["shape"] = generator.choice(
                (
                    sizes[::-1],
                    [*sizes, 1],
                    [-1],
                    [2**31, 2**31],
                    [2**63],
                    [0, 2**62, 4],
                    [True],
                    [1.0],
                    "3",
                    None,
                    [[1]],
                    {},
                    [1] * 33,
                    [2**64 - 1, 1],
                )
            )
        inputs.append(item)
    if generator.random() < 0.1:
        generator.shuffle(inputs)
    if inputs and generator.errs(0.06):
        inputs.append(
            generator.choice(
                [
                    inputs[0],
                    generator.choice(ODD_VALUES),
                    {"name": "other", "shape": [0], "datatype": "FP32", "data": []},
                ]
            )
        )
    document: dict[str, Any] = {"inputs": inputs}
    wishes(generator, document, outputs, prefix)
    if generator.errs(0.06):
        change_members(generator, document)
    if generator.random() < 0.1:
        document = dict(sorted(document.items(), key=lambda _: generator.random()))
    return document, tail


def tensor_bytes(generator: Chances, spec: TensorSpec, count: int, kind: str) -> bytes:
    """The bytes of a tensor; calm numbers or any bits."""
    if kind == "BF16":
        return generator.randbytes(2 * count)
    if generator.errs(0.4):
        return numbers.bits(generator, spec.dtype, count).tobytes()
    values = [numbers.number(generator, spec.dtype, odd=0, minimum=spec.minimum) for _ in range(count)]
    with numpy.errstate(all="ignore"):
        return numpy.array(values, spec.dtype).tobytes()


def wishes(generator: Chances, document: dict[str, Any], outputs: Sequence[str], prefix: str) -> None:
    """Adds what the request wants of its answer."""
    if generator.random() < 0.3:
        odd = ["é" * 513, "i" * 1025, "\ud800", 7, []]
        document["id"] = generator.choice(
            odd if generator.errs(0.4) else ["a-7", "", "é" * 512, "i" * 1024, "\n\0", None, '"\\/']
        )
    if generator.random() < 0.2:
        odd = [{"binary_data_output": 1}, {"binary_data_output": None}, []]
        right = [{"binary_data_output": True}, {"binary_data_output": False}, {}, None, {"a": [1, [2]], "b": "x"}]
        document["parameters"] = generator.choice(odd if generator.errs(0.4) else right)
    if generator.random() < 0.35:
        wanted = [wish(generator, name, prefix) for name in outputs if generator.random() < 0.8]
        if generator.errs(0.15):
            odd = [{"name": "none"}, {}, {"name": 1}, "x", {"name": "k" * 1025}, {"name": "\ud83d"}, *wanted[:1]]
            wanted.append(generator.choice(odd))
        document["outputs"] = wanted
        if generator.errs(0.06):
            many = [{"name": str(number)} for number in range(generator.choice((1024, 1025)))]
            document["outputs"] = generator.choice([None, {}, "z", 1, [[]], many])


def wish(generator: Chances, name: str, prefix: str) -> dict[str, Any]:
    """An output that is wanted: as binary data, in shared memory, or as it comes."""
    item: dict[str, Any] = {"name": name}
    chance = generator.random()
    if chance < 0.4:
        odd = [{"binary_data": 0}, {"binary_data": None}, 3]
        item["parameters"] = generator.choice(
            odd if generator.errs(0.2) else [{"binary_data": True}, {"binary_data": False}, {}, None]
        )
    elif chance < 0.55:
        item["parameters"] = place(generator, prefix, generator.choice((8, 64, 400, 4000)))
    return item
