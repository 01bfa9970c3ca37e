"""Tokens that several clients renew at the same time."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from archive.repository import ROOT
from scripts.torchserve.server import Server
from tests.support.torchserve import TorchServe

pytestmark = pytest.mark.server


@pytest.mark.parametrize("runtime", ["python"], indirect=True)
@pytest.mark.parametrize("kind", ["inference", "management"])
def test_a_token_is_renewed_once(shipped: TorchServe, kind: str) -> None:
    """TorchServe replaces the token at each renewal: a second one would make the first one invalid."""
    key_file = shipped.server.key_file
    keys = json.loads(key_file.read_text())
    keys[kind]["expiration time"] = "2020-01-01T00:00:00.000000Z"
    key_file.write_text(json.dumps(keys))
    threads = threading.Barrier(8)

    def renew(_: int) -> str | None:
        server = Server(shipped.home)
        threads.wait()
        return server.token(kind)

    command = [sys.executable, "-m", "scripts.tokens", kind, "--home", str(shipped.home)]
    others = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(renew, range(8)))
    tokens |= {other.communicate(timeout=60)[0].strip() for other in others}
    assert len(tokens) == 1 and tokens != {keys[kind]["key"]}
    assert shipped.server.request(kind, "GET", "/ping" if kind == "inference" else "/models").status_code == 200
    assert shipped.server.token(kind) in tokens
