"""Copies of the shipped configuration for servers that run side by side, and their ports."""

import socket
from pathlib import Path

import pytest

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve.configuration import (
    FILE_NAME,
    parse_addresses,
    parse_properties,
    read_properties,
    replace_properties,
    write_config,
)
from scripts.torchserve.ports import bind_error, free_ports


def test_properties_are_read_as_torchserve_reads_them(tmp_path: Path) -> None:
    assert parse_properties("# a=b\n\n key = value=1 \nnot a property\n") == {"key": "value=1"}
    with pytest.raises(OpserveError, match=r"cannot read the configuration .*none: No such file or directory"):
        read_properties(tmp_path / "none")


def test_values_are_replaced_or_added() -> None:
    assert replace_properties("# c\na=1\nb =2\n", {"b": "3", "d": "4"}) == "# c\na=1\nb=3\nd=4\n"


def test_a_copy_has_its_own_ports_and_absolute_paths(tmp_path: Path) -> None:
    shipped = read_properties(ROOT / FILE_NAME)
    copies = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        copies.append(read_properties(write_config(tmp_path / name, job_queue_size="7")))
    ports = [port for copy in copies for _, port in parse_addresses(copy).values()]
    assert len(set(ports)) == len(ports) == 10
    for copy in copies:
        assert copy["job_queue_size"] == "7" and copy["metrics_config"] == str(ROOT / "metrics.yaml")
        assert f"{ROOT}/log4j2.properties" in copy["vmargs"]
        assert copy.keys() - shipped.keys() <= {"initial_worker_port"}


def test_addresses_have_torchserves_defaults() -> None:
    assert parse_addresses({"metrics_address": "http://10.0.0.1", "grpc_management_port": "9"}) == {
        "inference_address": ("127.0.0.1", 8080),
        "management_address": ("127.0.0.1", 8081),
        "metrics_address": ("10.0.0.1", 8082),
        "grpc_inference_port": ("127.0.0.1", 7070),
        "grpc_management_port": ("127.0.0.1", 9),
    }


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        error = bind_error(port)
        assert error is not None and error.strerror == "Address already in use"
    first, second = free_ports(3), free_ports(3)
    assert first == list(range(first[0], first[0] + 3)) and not set(first) & set(second)
