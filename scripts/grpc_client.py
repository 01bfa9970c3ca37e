"""A client of TorchServe's gRPC API: the messages of its `inference.proto`, without generated code."""

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from archive.errors import OpserveError
from scripts.torchserve.server import Server

PACKAGE = "org.pytorch.serve.grpc.inference"
METHOD = f"/{PACKAGE}.InferenceAPIsService/Predictions"
OPTIONS = (
    # Requests to loopback must neither reach nor depend on a proxy for the outside world.
    ("grpc.enable_http_proxy", 0),
    # The server has its own limit: max_request_size.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


def _make_messages() -> tuple[type[Message], type[Message]]:
    """Defines `PredictionsRequest` (model_name, model_version, input: part name -> bytes) and `PredictionResponse`."""
    file = FileDescriptorProto(name="opserve/inference.proto", package=PACKAGE, syntax="proto3")
    request = file.message_type.add(name="PredictionsRequest")
    request.field.add(name="model_name", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
    request.field.add(name="model_version", number=2, type=FieldDescriptorProto.TYPE_STRING, label=1)
    kind = f".{PACKAGE}.PredictionsRequest.InputEntry"
    request.field.add(name="input", number=3, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=kind, label=3)
    entry = request.nested_type.add(name="InputEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
    entry.field.add(name="value", number=2, type=FieldDescriptorProto.TYPE_BYTES, label=1)
    response = file.message_type.add(name="PredictionResponse")
    response.field.add(name="prediction", number=1, type=FieldDescriptorProto.TYPE_BYTES, label=1)
    pool = DescriptorPool()
    found = pool.AddSerializedFile(file.SerializeToString())
    types = found.message_types_by_name
    return GetMessageClass(types[request.name]), GetMessageClass(types[response.name])


PredictionsRequest, PredictionResponse = _make_messages()


def predict(server: Server, model: str, parts: dict[str, bytes], timeout: float, version: str = "") -> bytes:
    """Sends a request and returns the body of the answer.

    A request that the handler refuses also gets an answer: `{"error": …}` in JSON, without a gRPC status.

    Args:
        server: a running server.
        model: a served model.
        parts: part name -> content; a request that is one body is the part `body`.
        timeout: seconds.
        version: a version of the model; its default one if empty.

    Raises:
        OpserveError: TorchServe itself refuses the call (an unknown model, a wrong token), or does not answer.
    """
    host, port = server.ports()["grpc_inference_port"]
    request = PredictionsRequest(model_name=model, model_version=version, input=parts)
    token = server.token("inference")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"{host}:{port}", OPTIONS) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        try:
            return call(request, timeout=timeout, metadata=metadata).prediction
        except grpc.RpcError as error:
            reason = (error.details() or "no reason given").splitlines()[0]  # the rest is Java's stack trace
            raise OpserveError(f"{model} at {host}:{port}: {error.code().name}: {reason}") from None
