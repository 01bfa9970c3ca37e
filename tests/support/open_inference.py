"""The Open Inference Protocol's `ModelInfer` by gRPC, with as much of its messages as the tests need."""

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from scripts.grpc_client import OPTIONS
from scripts.torchserve.server import Server

PACKAGE = "org.pytorch.serve.grpc.openinference"
METHOD = f"/{PACKAGE}.GRPCInferenceService/ModelInfer"


def _messages() -> tuple[type, type]:
    file = FileDescriptorProto(name="opserve/open_inference.proto", package=PACKAGE, syntax="proto3")

    def message(name: str, /, **fields: tuple[int, int | str, bool]) -> None:
        made = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            added = made.field.add(name=field, number=number, label=3 if repeated else 1)
            if isinstance(kind, str):
                added.type, added.type_name = Field.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = kind

    message("Contents", fp32_contents=(6, Field.TYPE_FLOAT, True), bytes_contents=(8, Field.TYPE_BYTES, True))
    text = Field.TYPE_STRING
    tensor = {"name": (1, text, False), "datatype": (2, text, False), "shape": (3, Field.TYPE_INT64, True)}
    message("Tensor", **tensor, contents=(5, "Contents", False))
    message("ModelInferRequest", model_name=(1, text, False), id=(3, text, False), inputs=(5, "Tensor", True))
    names = {"model_name": (1, text, False), "model_version": (2, text, False), "id": (3, text, False)}
    message("ModelInferResponse", **names, outputs=(5, "Tensor", True))
    pool = DescriptorPool()
    found = pool.AddSerializedFile(file.SerializeToString())
    return tuple(
        GetMessageClass(found.message_types_by_name[name]) for name in ("ModelInferRequest", "ModelInferResponse")
    )


ModelInferRequest, ModelInferResponse = _messages()


def infer(server: Server, model: str, inputs: dict[str, list[float]], timeout: float, request_id: str = ""):
    """The response to one-dimensional FP32 inputs."""
    host, port = server.ports()["grpc_inference_port"]
    request = ModelInferRequest(model_name=model, id=request_id)
    for name, values in inputs.items():
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[len(values)])
        tensor.contents.fp32_contents.extend(values)
    metadata = [("authorization", f"Bearer {server.token('inference')}")]
    with grpc.insecure_channel(f"{host}:{port}", OPTIONS) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        return call(request, timeout=timeout, metadata=metadata)
