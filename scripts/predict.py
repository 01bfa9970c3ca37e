"""Sends an archive's own sample to the running server and compares the answer with the expected one."""

import argparse
from pathlib import Path

from archive.errors import OpserveError
from archive.process.command import run
from scripts.torchserve import client
from scripts.torchserve.archives import Sample, find_archive
from scripts.torchserve.arguments import add_server_arguments
from scripts.torchserve.curl import predict_command
from scripts.torchserve.server import Server


def main(arguments: list[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a served model")
    parser.add_argument("--request", type=Path, help="a JSON body of your own instead of the archive's sample")
    parser.add_argument("--grpc", action="store_true", help="use gRPC instead of HTTP")
    add_server_arguments(parser)
    options = parser.parse_args(arguments)
    server, model = Server.from_arguments(options), options.model
    server.require_running()
    version = server.require_model(model)["modelVersion"]
    if options.request is None:
        sample = find_archive(server.model_store, model, version).require_sample()
    else:
        sample = Sample(body=_read(options.request))
    predict = _predict_by_grpc if options.grpc else client.predict
    outcome = client.compare(predict(server, model, sample), sample)
    print(outcome.describe(model))
    if not options.grpc:
        print(f"  {predict_command(server, model, sample)}")
    return 1 if outcome.difference else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpserveError(f"cannot read the request {path}: {error.strerror}") from None


def _predict_by_grpc(server: Server, model: str, sample: Sample) -> object:
    from scripts import grpc_client  # slow to import

    parts = {Path(name).stem: content for name, content in sample.files.items()}
    return client.parse_grpc_answer(model, grpc_client.predict(server, model, parts, client.TIMEOUT_S))


if __name__ == "__main__":
    run(main)
