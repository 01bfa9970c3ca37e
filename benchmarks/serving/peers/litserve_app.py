"""LitServe, one worker for each model."""

import litserve
from common import NPZ_TYPE, PORT, SERVED, encode, load_models, parse_body, run
from fastapi import Response


class Predict(litserve.LitAPI):
    """A model; JSON as LitServe parses it, files as parts of a form."""

    def __init__(self, name):
        super().__init__(api_path=f"/{name}")
        self.name = name

    def setup(self, device):
        self.model = load_models()[self.name]

    def decode_request(self, request):
        """Reads the named values, the media type, and whether it is in the Open Inference Protocol."""
        if "npz" in request:
            return (parse_body(request["npz"].file.read(), NPZ_TYPE)[0], NPZ_TYPE, False)
        if "image" in request:
            return ({name: file.file.read() for name, file in request.items()}, "", False)
        values, is_oip = parse_body(request, "application/json")
        return (values, "", is_oip)

    def predict(self, request):
        values, kind, is_oip = request
        return encode(run(self.model, values), kind, is_oip=is_oip)

    def encode_response(self, output):
        body, kind = output
        return Response(body, media_type=kind)


if __name__ == "__main__":
    server = litserve.LitServer([Predict(name) for name in SERVED], accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="error")
