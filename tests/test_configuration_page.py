"""docs/configuration.md has every key and every environment variable that the code knows, and no others."""

import dataclasses
import re
from collections.abc import Iterator

import pytest
import yaml

from archive.repository import ROOT
from handlers.config import FORMAT_KEYS, ModelConfig
from handlers.errors import ModelError
from handlers.torchserve.configuration import MODEL_CONFIG_KEYS
from scripts.torchserve.configuration import read_properties

PAGE = (ROOT / "docs" / "configuration.md").read_text()
VARIABLE = r"\bOPSERVE_[A-Z]+(?:_[A-Z]+)*\b"


def section(title: str) -> str:
    """The text of the page from a heading to the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(title)}$(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return found


def rows(title: str) -> Iterator[tuple[list[str], list[str]]]:
    """The names in the first cell, and the other cells, of each row of a section's table."""
    for line in re.findall(r"^\| (`.*) \|$", section(title), re.MULTILINE):
        first, *others = line.split(" | ")
        yield re.findall(r"`([^`]+)`", first), others


def names(title: str) -> list[str]:
    return [name for found, _ in rows(title) for name in found]


def test_every_key_of_a_model_is_on_the_page_with_its_default():
    fields = {each.name: each for each in dataclasses.fields(ModelConfig)}
    assert sorted(names("The section opserve:")) == sorted([*fields, "profiles"])
    for (name,), (_, written, meaning) in rows("The section opserve:"):
        if name == "profiles":  # the packer's, for which its archives have the chosen one's settings
            continue
        field = fields[name]
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is dataclasses.MISSING:
            assert written == "required", name
        else:
            value = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(written.strip("`")) == value, name
        assert (f"`{FORMAT_KEYS.get(name)}` only" in meaning) == (name in FORMAT_KEYS), name


def test_every_key_of_a_tensor_is_on_the_page():
    with pytest.raises(ModelError, match="unknown key size; known are ") as refused:
        ModelConfig.parse({"opserve": {"artifact": "m.pt", "inputs": [{"size": 1}]}})
    assert str(refused.value).partition("known are ")[2].split(", ") == sorted(names("Inputs and outputs"))


def test_every_key_of_torchserve_that_a_model_may_have_is_on_the_page():
    assert sorted(names("TorchServe's keys")) == sorted(MODEL_CONFIG_KEYS)


def test_every_key_of_the_servers_configuration_is_on_the_page():
    properties = read_properties(ROOT / "config.properties")
    assert sorted(names("The server: config.properties")[: len(properties)]) == sorted(properties)
    for flag in properties["vmargs"].split():
        assert f"`{flag}`" in PAGE or f"`{flag.partition('=')[0]}=`" in PAGE, flag


def test_every_environment_variable_is_on_the_page():
    assert sorted(names("The environment")) == sorted(variables())
    assert set(re.findall(VARIABLE, PAGE)) == variables()


def variables() -> set[str]:
    """The environment variables in the code: texts that are only a name, in Python, C++ and Log4j's configuration."""
    found = set(re.findall(rf"\$\{{env:({VARIABLE})", (ROOT / "log4j2.properties").read_text()))
    for folder in ("archive", "benchmarks", "extensions", "handlers", "scripts"):
        for suffix, pattern in (("py", rf"""["']({VARIABLE})["']"""), ("cpp", rf'getenv\("({VARIABLE})"\)')):
            for path in (ROOT / folder).rglob(f"*.{suffix}"):
                found |= set(re.findall(pattern, path.read_text()))
    return found
