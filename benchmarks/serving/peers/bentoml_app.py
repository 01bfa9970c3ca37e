"""BentoML, one worker: JSON as a root input, an `.npz` or a photograph as files of a form."""

from pathlib import Path
from typing import Any

import bentoml
from common import NPZ_TYPE, encode, jsonable, load_models, parse_body, run


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60, "max_concurrency": 1000})
class Predict:
    """All served models; each has one route for forms and one for JSON, since a route is a method."""

    def __init__(self):
        self.models = load_models()

    def json(self, name: str, document: dict[str, Any]) -> dict[str, Any]:
        values, is_oip = parse_body(document, "application/json")
        return jsonable(run(self.models[name], values), is_oip=is_oip)

    @bentoml.api(route="/scaled_add")
    def scaled_add(self, document: dict[str, Any], /) -> dict[str, Any]:
        return self.json("scaled_add", document)

    @bentoml.api(route="/graph_plain")
    def graph_plain(self, document: dict[str, Any], /) -> dict[str, Any]:
        return self.json("graph_plain", document)

    @bentoml.api(route="/graph_op")
    def graph_op(self, document: dict[str, Any], /) -> dict[str, Any]:
        return self.json("graph_op", document)

    @bentoml.api(route="/digits")
    def digits(self, image: Path, corners: list[list[float]]) -> dict[str, Any]:
        return jsonable(run(self.models["digits"], {"image": image.read_bytes(), "corners": corners}))

    def npz(self, name: str, file: Path) -> Path:
        values, _ = parse_body(file.read_bytes(), NPZ_TYPE)
        body, _ = encode(run(self.models[name], values), NPZ_TYPE)
        response = file.with_name("answer.npz")
        response.write_bytes(body)
        return response

    @bentoml.api(route="/graph_plain_npz")
    def graph_plain_npz(self, npz: Path) -> Path:
        return self.npz("graph_plain", npz)

    @bentoml.api(route="/graph_op_npz")
    def graph_op_npz(self, npz: Path) -> Path:
        return self.npz("graph_op", npz)
