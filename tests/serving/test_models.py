"""Every shipped model over HTTP, in each of its formats."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
import pytest

from archive.karate.graph import load_karate_graph
from archive.repository import BUILD, find_models
from handlers.sample import difference

pytestmark = pytest.mark.server

MODELS = find_models()


@pytest.fixture
def server(shipped):
    return shipped


def load_sample(name: str) -> tuple[dict, object]:
    folder = BUILD / "models" / name / "sample"
    files = {path.stem: (path.name, path.read_bytes()) for path in (folder / "request").iterdir()}
    return files, json.loads((folder / "answer.json").read_text())


def send_sample(server, name: str):
    files, expected = load_sample(name)
    if set(files) == {"body"}:
        headers = {"Content-Type": "application/json"}
        return server.predict(name, data=files["body"][1], headers=headers), expected
    return server.predict(name, files=files), expected


@pytest.mark.parametrize("name", MODELS)
def test_the_sample_is_answered(server, name):
    response, expected = send_sample(server, name)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    assert difference(response.json(), expected) is None


@pytest.mark.parametrize("pair", [("digits", "digits_onnx"), ("karate", "karate_onnx")])
def test_torchscript_and_onnx_answer_alike(server, pair):
    (first, _), (second, _) = (send_sample(server, name) for name in pair)
    assert difference(first.json(), second.json(), 1e-5) is None


@pytest.mark.parametrize("name", MODELS)
def test_a_description_has_tensors_artifact_device_and_libraries(server, name):
    described = server.describe_by_worker(name)
    assert described["device"] == "cpu" and described["threads"] >= 1
    assert Path(described["artifact"]).suffix in (".pt", ".onnx")
    assert all({"name", "dtype", "shape"} <= spec.keys() for spec in described["inputs"] + described["outputs"])
    assert all(len(digest) == 64 for digest in described["op_libraries"].values()) and described["op_libraries"]


def karate_subgraph(members: list[int]) -> dict:
    """The karate club's graph, restricted to these members."""
    graph = load_karate_graph()
    place = {member: index for index, member in enumerate(members)}
    rows = [[place[c] for c in graph.col[graph.rowptr[m] : graph.rowptr[m + 1]] if c in place] for m in members]
    return {
        "rowptr": numpy.cumsum([0, *map(len, rows)]).tolist(),
        "col": [column for row in rows for column in row],
        "x": graph.features[members].tolist(),
    }


@pytest.mark.parametrize("name", ["karate", "karate_onnx"])
def test_graphs_of_different_sizes_in_one_batch(server, name):
    """Sent at once they share a batch; each gets the same answer as alone, and a broken one gets a 400."""
    sizes = [34, 1, 5, 20, 0, 12, 33]
    graphs = [karate_subgraph(list(range(size))) for size in sizes]
    graphs[4]["x"] = numpy.zeros((0, 34)).tolist()
    broken = karate_subgraph([0, 1, 2]) | {"col": [0, 1, 7, 0, 1, 2]}
    alone = [server.predict(name, json=graph) for graph in graphs]
    assert [response.status_code for response in alone if response.status_code != 200] in ([], [400])
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            together = list(pool.map(lambda graph: server.predict(name, json=graph), [*graphs, broken]))
            refused = together.pop()
            assert (refused.status_code, refused.json()["error"]["field"]) == (400, "col")
            for got, want in zip(together, alone, strict=True):
                assert got.status_code == want.status_code
                assert difference(got.json(), want.json(), 1e-5) is None


def test_edge_weights_may_be_left_out_and_change_the_answer(server):
    graph = karate_subgraph(list(range(34)))
    plain = server.predict("karate", json=graph).json()
    ones = server.predict("karate", json=graph | {"value": [1] * len(graph["col"])}).json()
    heavy = server.predict("karate", json=graph | {"value": list(range(len(graph["col"])))}).json()
    assert plain == ones and plain != heavy
    response = server.predict("karate", json=graph | {"value": [-1] * len(graph["col"])})
    assert (response.status_code, response.json()["error"]["field"]) == (400, "value")


def test_npz_in_and_out(server):
    graph = load_karate_graph()
    body = io.BytesIO()
    numpy.savez(
        body,
        rowptr=graph.rowptr.astype(numpy.int32),
        col=graph.col,
        x=graph.features.astype(numpy.float16),
    )
    headers = {"Content-Type": "application/x-npz", "Accept": "application/x-npz"}
    response = server.predict("karate", data=body.getvalue(), headers=headers)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/x-npz"), response.text
    answer = numpy.load(io.BytesIO(response.content))
    expected = load_sample("karate")[1]
    assert answer["label"].tolist() == expected["label"]
    numpy.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)


def test_open_inference_protocol(server):
    x = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    y = {"name": "y", "shape": [2], "datatype": "FP32", "data": [0.5, 0.25]}
    answer = server.predict("scaled_add", json={"id": "a-7", "inputs": [x, y]}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("scaled_add", "1.0", "a-7")
    assert answer["outputs"] == [{"name": "z", "shape": [2], "datatype": "FP32", "data": [2.5, 4.25]}]
