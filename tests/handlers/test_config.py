"""The keys and values that `model-config.yaml` may have."""

import pytest

from archive.repository import ROOT
from handlers.config import ModelConfig
from handlers.errors import ModelError


def document(**changes) -> dict:
    section = {
        "artifact": "m.pt",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": []}],
    }
    return {"minWorkers": 1, "maxWorkers": 2, "opserve": section | changes}


def test_the_smallest_configuration_gets_the_defaults():
    config = ModelConfig.parse(document())
    assert (config.device, config.threads, config.batching) == ("auto", 1, "none")
    assert (config.max_image_pixels, config.max_npz_bytes) == (50_000_000, 268_435_456)
    assert (config.shared_memory, config.max_json_bytes) == (None, 67_108_864)
    assert config.op_libraries == () and config.hooks is None
    assert config.inputs[0].describe() == "float32 [?]"


def test_names_need_not_be_identifiers():
    names = [
        "x",
        "input-0",
        "input.0",
        "serving_default_x:0",
        "a/b",
        "0",
        "images[0]",
        "~!@#$%^&*()+=|;<>?,",
        "a" * 128,
    ]
    config = ModelConfig.parse(document(inputs=[{"name": name, "dtype": "float32", "shape": []} for name in names]))
    assert [spec.name for spec in config.inputs] == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"artefact": "m.pt"}, r"opserve: unknown key artefact; known are artifact"),
        ({"artifact": None}, r"opserve\.artifact: expected the name of a file"),
        ({"artifact": "../m.pt"}, r"opserve\.artifact: expected the name of a file"),
        ({"op_libraries": "a.so"}, r"opserve\.op_libraries: expected a list"),
        ({"op_libraries": ["a.so", "a.so"]}, "different file names"),
        ({"op_libraries": ["lib/a.so"]}, "next to the configuration"),
        ({"device": "gpu"}, r"opserve\.device: expected one of auto, cpu, cuda, got 'gpu'"),
        ({"threads": 0}, r"opserve\.threads: expected a whole number"),
        ({"threads": True}, r"opserve\.threads: expected a whole number"),
        ({"max_npz_bytes": "256M"}, r"opserve\.max_npz_bytes: expected a whole number of 1 or more, got '256M'"),
        ({"max_npz_bytes": 0}, r"opserve\.max_npz_bytes: expected a whole number"),
        ({"shared_memory": ""}, r"opserve\.shared_memory: expected a prefix of names"),
        ({"shared_memory": "../up"}, r"opserve\.shared_memory: expected a prefix of names"),
        ({"shared_memory": True}, r"opserve\.shared_memory: expected a prefix of names"),
        ({"tolerance": 1}, r"opserve\.tolerance: expected a number from 0 to below 1"),
        ({"batching": "sometimes"}, r"opserve\.batching: expected one of"),
        ({"inputs": []}, r"opserve\.inputs: expected a list"),
        ({"inputs": [{"name": "x", "dtype": "float31", "shape": []}]}, r"inputs\[0\]\.dtype: expected one of"),
        ({"inputs": [{"name": "x", "dtype": "float32", "shape": [-2]}]}, r"inputs\[0\]\.shape"),
        *[
            (
                {"inputs": [{"name": name, "dtype": "float32", "shape": []}]},
                r"inputs\[0\]\.name: expected 1 to 128 print",
            )
            for name in ("x y", "", "a'b", 'a"b', "a`b", "a\\b", "a\n", "\x7f", "é", "a" * 129, 7, None)
        ],
        ({"max_json_bytes": 0}, r"opserve\.max_json_bytes: expected a whole number of 1 or more"),
        ({"inputs": [{"name": "x", "dtype": "float32", "shape": [], "size": 1}]}, "unknown key size"),
        ({"inputs": [{"name": "x", "dtype": "float32", "shape": []}] * 2}, "the same name"),
        *[
            (
                {"inputs": [{"name": "x", "dtype": dtype, "shape": [], "minimum": minimum}]},
                r"inputs\[0\]\.minimum: expected",
            )
            for dtype, minimum in (("float32", "0"), ("float32", True), ("float32", float("inf")), ("bool", 0))
        ],
        ({"outputs": [{"name": "y", "dtype": "float32", "shape": [], "minimum": 0}]}, "unknown key minimum"),
    ],
)
def test_a_wrong_section_is_refused_by_key(changes, message):
    with pytest.raises(ModelError, match=message):
        ModelConfig.parse(document(**changes))


def test_an_input_may_have_a_minimum():
    inputs = [
        {"name": "x", "dtype": "float32", "shape": [-1], "minimum": 0},
        {"name": "y", "dtype": "int64", "shape": []},
    ]
    assert [spec.minimum for spec in ModelConfig.parse(document(inputs=inputs)).inputs] == [0, None]


def test_torchserve_keys_are_checked_too():
    with pytest.raises(ModelError, match="unknown key minWorker;"):
        ModelConfig.parse(document() | {"minWorker": 1})
    alone = document()
    del alone["maxWorkers"]
    with pytest.raises(ModelError, match="minWorkers and maxWorkers go together"):
        ModelConfig.parse(alone)
    with pytest.raises(ModelError, match="section 'opserve:' is missing"):
        ModelConfig.parse({})


def test_files_that_are_not_a_mapping_are_refused_by_name(tmp_path):
    path = tmp_path / "model-config.yaml"
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        ModelConfig.read(path)
    path.write_text("a: [")
    with pytest.raises(ModelError, match="not valid YAML"):
        ModelConfig.read(path)
    path.write_text("- 1")
    with pytest.raises(ModelError, match="expected a mapping"):
        ModelConfig.read(path)


def test_the_server_accepts_any_response_that_a_worker_sends_by_default():
    settings = dict(line.split("=", 1) for line in (ROOT / "config.properties").read_text().splitlines() if "=" in line)
    assert int(settings["max_response_size"]) >= ModelConfig.max_response_bytes
