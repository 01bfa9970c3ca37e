"""The bytes between client and worker: gzip, small dtypes, shared memory, and the worker's socket."""

import gzip
import io
import uuid
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy
import pytest

from archive.packer.contents import ArchiveContents
from archive.packer.mar_manifest import PYTHON
from archive.packer.pack import pack
from archive.repository import ROOT
from handlers.codecs.npy import NPZ_TYPE
from handlers.config import ModelConfig
from tests.support.runtimes import packed_for
from tests.support.torchserve import TorchServe
from tests.test_readme import blocks

pytestmark = pytest.mark.server

COUNT = 5000
X = numpy.arange(COUNT, dtype=numpy.float32)
Y = numpy.full(COUNT, 0.5, numpy.float32)
Z = 2 * X + Y
NAMES = ("input-0", "layer/in.1", "out:0")


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"opserve-test-{uuid.uuid4().hex}-"


@pytest.fixture(scope="module")
def server(serve, runtime, tmp_path_factory, prefix) -> TorchServe:
    """`scaled_add` with shared memory and at most a million bytes; and one whose tensors have names as in KServe."""
    contents = ArchiveContents.from_model("scaled_add")
    section = contents.document["opserve"]
    vectors = [{"dtype": "float32", "shape": [-1]}] * 3
    names = [{"name": name} | vector for name, vector in zip(NAMES, vectors, strict=True)]
    changes = {
        "sharing": ({"shared_memory": prefix, "max_npz_bytes": 1_000_000}, contents.sample),
        "named": ({"inputs": names[:2], "outputs": names[2:]}, None),
    }
    archives = []
    for name, (changed, sample) in changes.items():
        document = contents.document | {"opserve": section | changed}
        config = ModelConfig.parse(document)
        made = replace(contents, name=name, document=document, config=config, sample=sample)
        archives.append(pack(made, tmp_path_factory.mktemp("wire"), runtime=runtime)[0])
    return serve(archives)


def test_a_gzip_body(server):
    headers = {"Content-Type": NPZ_TYPE, "Content-Encoding": "gzip", "Accept": NPZ_TYPE}
    response = server.predict("sharing", data=gzip.compress(npz(x=X, y=Y)), headers=headers)
    assert response.status_code == 200, response.text
    numpy.testing.assert_array_equal(numpy.load(io.BytesIO(response.content))["z"], Z)


def test_names_that_are_not_identifiers(server):
    first, second, out = NAMES
    x, y = X[:2], Y[:2]
    tensors = [
        {"name": name, "shape": [2], "datatype": "FP32", "data": values.tolist()}
        for name, values in ((first, x), (second, y))
    ]
    answers = [
        server.predict("named", json={first: x.tolist(), second: y.tolist()}),
        server.predict("named", files={first: ("a", b"[0, 1]"), second: ("b", b"[0.5, 0.5]")}),
        server.predict("named", data=npz(**{first: x, second: y}), headers={"Content-Type": NPZ_TYPE}),
    ]
    assert [answer.json() for answer in answers] == [{out: [0.5, 2.5]}] * 3
    called = server.predict("named", json={"id": "é" * 512, "inputs": tensors, "outputs": [{"name": out}]}).json()
    assert (called["id"], called["outputs"][0]["name"], called["outputs"][0]["data"]) == ("é" * 512, out, [0.5, 2.5])
    packed = server.predict("named", json={"inputs": tensors}, headers={"Accept": NPZ_TYPE})
    assert numpy.load(io.BytesIO(packed.content))[out].tolist() == [0.5, 2.5]
    refused = server.predict("named", json={first: "a", second: [1]})
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, first)


def test_a_gzip_body_of_json(server):
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    response = server.predict("sharing", data=gzip.compress(b'{"x": [1], "y": [2]}'), headers=headers)
    assert (response.status_code, response.json()) == (200, {"z": [4]})


def test_a_bomb_and_an_unknown_encoding_are_refused(server):
    bomb = gzip.compress(bytes(50_000_000))
    for encoding, content, status in (("gzip", bomb, 413), ("zstd", bomb, 415), ("gzip", bomb[:100], 400)):
        headers = {"Content-Type": NPZ_TYPE, "Content-Encoding": encoding}
        response = server.predict("sharing", data=content, headers=headers)
        assert response.status_code == response.json()["error"]["code"] == status


@pytest.mark.parametrize(("dtype", "status"), [("float16", 200), ("int16", 200), ("uint8", 200), ("int32", 400)])
def test_small_dtypes_are_widened_and_nothing_is_rounded(server, dtype, status):
    x = numpy.array([1, 2, 2**24 + 1 if dtype == "int32" else 3]).astype(dtype)
    response = server.predict("sharing", data=npz(x=x, y=Y[:3]), headers={"Content-Type": NPZ_TYPE})
    assert response.status_code == status, response.text
    if status == 200:
        assert response.json() == {"z": [2.5, 4.5, 6.5]}
    else:
        assert response.json()["error"]["field"] == "x"


@pytest.fixture
def region(prefix) -> Iterator[SharedMemory]:
    """Room for three vectors, made as a client would."""
    memory = SharedMemory(prefix + "client", create=True, size=3 * X.nbytes)
    yield memory
    memory.close()
    memory.unlink()


def place(index: int, key: str) -> dict:
    return {
        "shared_memory_region": key,
        "shared_memory_offset": index * X.nbytes,
        "shared_memory_byte_size": X.nbytes,
    }


def document(key: str) -> dict:
    """Both inputs and the output in one region."""
    tensors = [{"name": name, "shape": [COUNT], "datatype": "FP32"} for name in ("x", "y")]
    inputs = [tensor | {"parameters": place(index, key)} for index, tensor in enumerate(tensors)]
    return {"inputs": inputs, "outputs": [{"name": "z", "parameters": place(2, key)}]}


def test_tensors_in_shared_memory(server, region):
    arrays = numpy.frombuffer(region.buf, numpy.float32).reshape(3, COUNT)
    for _ in range(2):
        arrays[0], arrays[1], arrays[2] = X, Y, -1
        response = server.predict("sharing", json=document(region.name))
        assert response.status_code == 200, response.text
        (z,) = response.json()["outputs"]
        assert z == {"name": "z", "datatype": "FP32", "shape": [COUNT], "parameters": place(2, region.name)}
        numpy.testing.assert_array_equal(arrays[2], Z)
    del arrays


def test_the_client_of_the_readme(server, prefix):
    (client,) = (text for _, text in blocks("python", page=ROOT / "docs" / "requests.md"))
    names = {"url": f"{server.server.address('inference')}/predictions/sharing"}
    names["token"] = server.server.token("inference")
    try:
        exec(client.replace('"opserve-mine"', f'"{prefix}readme"'), names)
        assert names["answer"].status_code == 200, names["answer"].text
        assert names["z"].tolist() == [4] * 1000
    finally:
        memory = names["memory"]
        names.clear()  # arrays on it keep it open
        memory.close()
        memory.unlink()


def test_shared_memory_is_off_unless_it_is_configured(shipped, region):
    response = shipped.predict("scaled_add", json=document(region.name))
    assert response.status_code == 400
    message = response.json()["error"]
    assert message.startswith("'x' ") and "sets no shared_memory prefix" in message


def test_hostile_regions_are_refused_and_affect_no_other_request(server, prefix, region):
    pid = worker(server, "sharing")
    elsewhere = Path("/dev/shm", f"other-{prefix}")
    elsewhere.write_bytes(bytes(3 * X.nbytes))
    link = Path("/dev/shm", f"{prefix}link")
    link.symlink_to(elsewhere)
    short = Path("/dev/shm", f"{prefix}short")
    short.write_bytes(bytes(2 * X.nbytes + 1))  # enough for the inputs, not for the output
    try:
        keys = [elsewhere.name, link.name, short.name, prefix + "none", f"../shm/{region.name}", "../../etc/passwd"]
        for key in keys:
            response = server.predict("sharing", json=document(key))
            assert response.status_code == 400, key
            assert ("'z'" if key == short.name else "'x'") in response.json()["error"], key
        assert elsewhere.read_bytes() == bytes(3 * X.nbytes)
    finally:
        for path in (elsewhere, link, short):
            path.unlink()
    assert server.predict("sharing", json=document(region.name)).status_code == 200
    assert worker(server, "sharing") == pid


def worker(server: TorchServe, model: str) -> int:
    """The process id of a model's worker."""
    return server.describe_by_worker(model)["pid"]


def reads(pid: int) -> int:
    """How many read calls a process has made; `recv` does not count."""
    return int(Path(f"/proc/{pid}/io").read_text().split("syscr:")[1].split()[0])


def read_by_requests(server: TorchServe, count: int) -> int:
    """Returns the number of read calls that a worker makes for `count` small requests and a large one."""
    pid = worker(server, "scaled_add")
    before = reads(pid)
    for number in range(count):
        assert server.predict("scaled_add", json={"x": [number], "y": [1]}).json() == {"z": [2 * number + 1]}
    large = server.predict("scaled_add", data=npz(x=X, y=Y), headers={"Content-Type": NPZ_TYPE, "Accept": NPZ_TYPE})
    numpy.testing.assert_array_equal(numpy.load(io.BytesIO(large.content))["z"], Z)
    return reads(pid) - before


@pytest.mark.parametrize("runtime", ["python"], indirect=True)
def test_a_worker_reads_ahead(shipped):
    assert 10 <= read_by_requests(shipped, 10) < 30  # a request has some fifty fields


def test_a_worker_that_must_not_read_ahead_answers_the_same(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("OPSERVE_READ_AHEAD", "off")
    archive = packed_for(ROOT / "model_store" / "scaled_add.mar", PYTHON, tmp_path)
    plain = serve([archive], job_queue_size="98")  # not shared with other tests
    assert read_by_requests(plain, 10) == 0


def test_no_line_is_logged_for_a_request(shipped):
    shipped.predict("scaled_add", json={"x": [1], "y": [1]})
    assert "Backend received inference at" not in shipped.model_log()
