"""Attacks by gRPC."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc

from scripts import grpc_client
from tests.attack.campaign import ANSWER, Attack, AttackRun
from tests.attack.payloads import document

SERVICE = f"/{grpc_client.PACKAGE}.InferenceAPIsService"
SOUND = {"x": b"[1, 2]", "y": b"[0.5, 0.25]"}
CALLS = {
    "sound parts": SOUND,
    "a sound body": {"body": document({"x": [1, 2], "y": [0.5, 0.25]})},
    "no part": {},
    "not JSON": {"body": b"{"},
    "a missing input": {"x": b"[1]"},
    "a message about a GPU": SOUND | {"CUDA error": b"1"},
    "an empty name": {"": b"1"},
    "a long name": {"n" * 100_000: b"1"},
    "binary": {"body": bytes(range(256)) * 100},
}
ROUNDS = 6
TIMEOUT_S = 10.0


def send_calls(attack_run: AttackRun) -> None:
    """Sends every call for a single response and for a stream, several at a time; each must end in time."""
    host, port = attack_run.target.torchserve.server.ports()["grpc_inference_port"]
    metadata = [("authorization", f"Bearer {attack_run.target.token()}")]
    marks = [[], [("describe", "True")], [("ts_stream_next", "true")], [("accept", "CUDA error")]]

    def call(channel: grpc.Channel, stream: bool, name: str, extra: list) -> None:
        request = grpc_client.PredictionsRequest(model_name="scaled_add", input=CALLS[name])
        kind = channel.unary_stream if stream else channel.unary_unary
        ask = kind(
            f"{SERVICE}/{'StreamPredictions' if stream else 'Predictions'}",
            request_serializer=grpc_client.PredictionsRequest.SerializeToString,
            response_deserializer=grpc_client.PredictionResponse.FromString,
        )
        status, answers = grpc.StatusCode.OK, []
        try:
            replied = ask(request, timeout=TIMEOUT_S, metadata=[*metadata, *extra])
            answers = [each.prediction for each in replied] if stream else [replied.prediction]
        except grpc.RpcError as error:
            status = error.code()
        attack_run.count(f"gRPC {status.name}")
        note = f"gRPC, {'stream of ' if stream else ''}{name} {extra}"
        if status == grpc.StatusCode.DEADLINE_EXCEEDED:
            attack_run.report_violation(ANSWER, f"{note}: no response")
        elif status in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE) and name.startswith(
            ("a sound", "sound")
        ):
            attack_run.report_violation(ANSWER, f"{note}: {status.name}")
        elif name.startswith(("a sound", "sound")) and answers[:1] != [b'{"z":[2.5,4.25]}'] and not extra:
            attack_run.report_violation(ANSWER, f"{note}: answered {answers[:2]}")

    with grpc.insecure_channel(f"{host}:{port}", grpc_client.OPTIONS) as channel, ThreadPoolExecutor(4) as pool:
        for _ in range(ROUNDS):
            if attack_run.over:
                break
            todo = [(stream, name, extra) for name in CALLS for extra in marks for stream in (True, False)]
            with attack_run.measured("gRPC calls"), contextlib.suppress(RuntimeError):
                list(pool.map(lambda each: None if attack_run.over else call(channel, *each), todo))


ATTACKS = [
    Attack("grpc-streams", "StreamPredictions, and Predictions of odd parts", ("scaled_add",), action=send_calls)
]
