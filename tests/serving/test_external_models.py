"""External models, packed by `make archive ARTIFACT=… OPS=…` and served."""

import os
import shutil
import subprocess

import pytest

from archive.repository import ROOT

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def served(serve, runtime, external, tmp_path_factory):
    """A scripted and a traced model with an external operator, on one server."""
    folder = tmp_path_factory.mktemp("archives")
    archives = []
    for artifact in (external.scripted, external.traced):
        name = f"test_{artifact.stem}"
        settings = [f"ARTIFACT={artifact}", f"OPS={external.library}", f"NAME={name}", f"CONFIG={external.config}"]
        settings += [f"RUNTIME={runtime}"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        subprocess.run(["make", "archive", *settings], cwd=ROOT, check=True, env=environment, timeout=300)
        packed = ROOT / "model_store" / f"{name}.mar"
        archives.append(shutil.move(packed, folder / packed.name))
    return serve(archives)


@pytest.mark.parametrize(
    ("model", "values", "expected"),
    [
        ("test_branching", [1, 2], [11, 12]),
        ("test_branching", [-1, -2], [-11, -12]),
        ("test_branching", [], []),
        ("test_straight", [-3, 4, 5, 6], [4, 5, 6, 7]),
    ],
)
def test_it_answers_as_the_module_would(served, model, values, expected):
    response = served.predict(model, json={"x": values})
    assert (response.status_code, response.json()) == (200, {"y": expected})


def test_its_bad_requests_name_the_field_too(served):
    response = served.predict("test_branching", json={"x": "no"})
    assert (response.status_code, response.json()["error"]["field"]) == (400, "x")
