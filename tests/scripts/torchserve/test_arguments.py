"""What a start was asked for reaches its supervisor, and the starts after it, unchanged."""

import argparse
from pathlib import Path

import pytest

from scripts.torchserve.arguments import StartOptions, add_start_arguments


def parse(arguments: list[str]) -> StartOptions:
    parser = argparse.ArgumentParser()
    add_start_arguments(parser)
    return StartOptions.from_arguments(parser.parse_args(arguments))


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--home", "there", "--config", "my.properties", "--model-store", "archives"],
        ["--model-api", "--quiet", "--timeout", "7.5", "--models", "one", "two.mar"],
    ],
)
def test_a_start_is_repeated_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    options = parse(given)
    arguments, named = options.start_arguments(), options.server_arguments()
    monkeypatch.chdir("/")
    absolute = [path and tmp_path / path for path in options[:3]]
    assert list(parse(arguments)) == [*absolute, *options[3:]]
    assert list(parse(named)[:3]) == absolute
