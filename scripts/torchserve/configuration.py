"""TorchServe's `config.properties`: reads it, and writes copies of it for servers that run side by side."""

from pathlib import Path
from urllib.parse import urlsplit

from archive.errors import OpserveError
from archive.repository import ROOT
from scripts.torchserve.ports import free_ports

FILE_NAME = "config.properties"
# The keys whose values two servers on one machine must not share.
ADDRESSES = ("inference_address", "management_address", "metrics_address")
# TorchServe names the sockets of its workers by numbers that begin with the last one.
PORTS = ("grpc_inference_port", "grpc_management_port", "initial_worker_port")
# TorchServe's own defaults.
DEFAULT_PORTS = {"inference": 8080, "management": 8081, "metrics": 8082}
DEFAULT_GRPC_PORTS = {"inference": 7070, "management": 7071}
LOOPBACK = "127.0.0.1"


def read_properties(path: Path) -> "dict[str, str]":
    """Reads the `key=value` lines of a configuration as TorchServe's own launcher does.

    Raises:
        OpserveError: the file cannot be read.
    """
    try:
        return parse_properties(path.read_text())
    except OSError as error:
        raise OpserveError(f"cannot read the configuration {path}: {error.strerror}") from None


def parse_properties(text: str) -> "dict[str, str]":
    """Reads the `key=value` lines of a configuration's text."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split("=", 1) for line in lines if not line.startswith("#") and "=" in line]
    return {key.strip(): value.strip() for key, value in pairs}


def base_url(properties: "dict[str, str]", kind: str) -> str:
    """The address of an API: inference, management or metrics."""
    return properties.get(f"{kind}_address", f"http://{LOOPBACK}:{DEFAULT_PORTS[kind]}").rstrip("/")


def parse_addresses(properties: "dict[str, str]") -> "dict[str, tuple[str, int]]":
    """Every address that a server listens on: key -> (host, port)."""
    found = {}
    for kind, default in DEFAULT_PORTS.items():
        url = urlsplit(base_url(properties, kind))
        found[f"{kind}_address"] = (url.hostname or LOOPBACK, url.port or default)
    for kind, default in DEFAULT_GRPC_PORTS.items():
        port = int(properties.get(f"grpc_{kind}_port", default))
        found[f"grpc_{kind}_port"] = (properties.get(f"grpc_{kind}_address", LOOPBACK), port)
    return found


def replace_properties(text: str, changes: "dict[str, str]") -> str:
    """The text of a configuration with some values replaced or added."""
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in changes]
    return "\n".join([*kept, *(f"{key}={value}" for key, value in changes.items())]) + "\n"


def shipped_config() -> str:
    """The text of the repository's configuration, with paths that are valid from any folder."""
    text = (ROOT / FILE_NAME).read_text()
    return text.replace("=metrics.yaml", f"={ROOT}/metrics.yaml").replace("=log4j2", f"={ROOT}/log4j2")


def write_config(home: Path, base: "str | None" = None, **changes: str) -> Path:
    """Writes a configuration with free ports, for a server that runs next to others.

    Args:
        home: the folder that the server runs in, and that the file is written to.
        base: the text to start from; the shipped configuration by default.
        changes: values to replace or add.
    """
    ports = free_ports(len(ADDRESSES) + len(PORTS))
    values = {key: f"http://{LOOPBACK}:{ports.pop()}" for key in ADDRESSES}
    values.update({key: str(ports.pop()) for key in PORTS}, **changes)
    path = home / FILE_NAME
    path.write_text(replace_properties(shipped_config() if base is None else base, values))
    return path
