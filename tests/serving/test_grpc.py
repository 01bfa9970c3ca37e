"""Inference over gRPC: the same answers as over HTTP, but without a status."""

import json
import re
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import grpc
import pytest

from archive.errors import OpserveError
from handlers.sample import difference
from scripts import grpc_client
from tests.support.torchserve import TIMEOUT_S

pytestmark = pytest.mark.server


def ask(server, parts: dict[str, bytes], model: str = "digits", version: str = "") -> dict:
    return json.loads(grpc_client.predict(server.server, model, parts, TIMEOUT_S, version))


@pytest.fixture
def parts(sample) -> dict[str, bytes]:
    return {"image": sample.png, "corners": json.dumps(sample.corners).encode()}


@pytest.mark.parametrize("version", ["", "1.0"])
def test_parts_are_answered_as_over_http(digits, sample, parts, version):
    answer = ask(digits, parts, version=version)
    assert answer == digits.predict("digits", files=sample.form()).json()
    assert difference(answer, sample.answer) is None


def test_a_whole_body_is_a_part_of_that_name(digits, sample):
    assert difference(ask(digits, {"body": json.dumps(sample.document()).encode()}), sample.answer) is None


def test_a_refusal_is_an_answer(digits, parts):
    """There cannot be a status: TorchServe passes on only the body of a gRPC answer."""
    error = ask(digits, parts | {"corners": b"[]"})["error"]
    assert (error["code"], error["field"]) == (400, "corners")


def test_bad_requests_do_not_affect_others(digits, sample, parts):
    batch = [parts, parts | {"image": b"junk"}] * 8
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: ask(digits, each), batch))
    assert [answer.get("label", "refused") for answer in answers] == [sample.answer["label"], "refused"] * 8


def test_an_unknown_model_and_a_wrong_token_have_a_status(digits, parts, monkeypatch):
    with pytest.raises(OpserveError, match=r"^digit at 127\.0\.0\.1:\d+: INTERNAL: Model not found: digit$"):
        ask(digits, parts, model="digit")
    monkeypatch.setattr(digits.server, "token", lambda kind: "wrong")
    with pytest.raises(OpserveError, match=r"PERMISSION_DENIED: .*[Tt]oken"):
        ask(digits, parts)


def test_the_messages_are_those_of_the_servers_own_file():
    jar = files("ts") / "frontend" / "model-server.jar"
    with zipfile.ZipFile(str(jar)) as archive:
        text = archive.read("inference.proto").decode()
    assert f"package {grpc_client.PACKAGE};" in text
    service, method = grpc_client.METHOD.removeprefix(f"/{grpc_client.PACKAGE}.").split("/")
    assert re.search(
        rf"service {service} {{.*rpc {method}\(PredictionsRequest\) returns \(PredictionResponse\)", text, re.S
    )
    for message in (grpc_client.PredictionsRequest, grpc_client.PredictionResponse):
        text_of_message = re.search(rf"message {message.DESCRIPTOR.name} {{(.*?)}}", text, re.S)[1]
        for field in message.DESCRIPTOR.fields:
            kind = "map<string, bytes>" if field.name == "input" else r"(string|bytes)"
            assert re.search(rf"{kind} {field.name} = {field.number};", text_of_message), field.name


def test_the_command_predicts_over_grpc(digits):
    shown = digits.script("predict", "digits", "--grpc")
    assert shown.returncode == 0, shown.stderr
    assert "\n  same\n" in shown.stdout


def test_the_command_reports_a_refusal(digits, tmp_path):
    request = tmp_path / "request.json"
    request.write_text("{}")
    failed = digits.script("predict", "digits", "--grpc", "--request", str(request))
    assert failed.returncode == 1
    assert failed.stderr.startswith('error: digits answered {"error": {"code": 400, "field": "image"')


def stream(server, parts: dict[str, bytes], model: str = "digits") -> list[bytes]:
    """Returns the answers of `StreamPredictions`."""
    host, port = server.server.ports()["grpc_inference_port"]
    request = grpc_client.PredictionsRequest(model_name=model, input=parts)
    metadata = [("authorization", f"Bearer {server.server.token('inference')}")]
    with grpc.insecure_channel(f"{host}:{port}", grpc_client.OPTIONS) as channel:
        call = channel.unary_stream(
            grpc_client.METHOD.replace("/Predictions", "/StreamPredictions"),
            request_serializer=grpc_client.PredictionsRequest.SerializeToString,
            response_deserializer=grpc_client.PredictionResponse.FromString,
        )
        return [each.prediction for each in call(request, timeout=TIMEOUT_S, metadata=metadata)]


def test_a_stream_is_one_answer_and_costs_no_worker(digits, sample, parts):
    before = [worker["pid"] for worker in digits.describe("digits")["workers"]]
    bad = parts | {"image": b"junk", "Host": b"127.0.0.1"}
    requests = [parts, bad, {"body": json.dumps(sample.document()).encode()}, {}, {"Host": b""}] * 2
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda each: stream(digits, each), requests))
    assert [len(each) for each in answers] == [1] * len(requests)
    documents = [json.loads(each) for (each,) in answers]
    assert [document.get("label", "refused") for document in documents[:5]] == [
        sample.answer["label"],
        "refused",
        sample.answer["label"],
        "refused",
        "refused",
    ]
    assert [worker["pid"] for worker in digits.describe("digits")["workers"]] == before
