"""Ray Serve, one replica."""

import signal

from common import PORT, encode, load_models, respond, run
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Predict:
    """All served models."""

    def __init__(self):
        self.models = load_models()

    async def __call__(self, request: Request):
        """Responds to the parts of a form, or to a body."""
        model, kind = self.models[request.url.path.strip("/")], request.headers["content-type"]
        if kind.startswith("multipart/"):
            async with request.form() as form:
                parts = {key: await file.read() for key, file in form.items()}
            body, kind = encode(run(model, parts), "")
        else:
            body, kind = respond(model, await request.body(), kind)
        return Response(body, media_type=kind)


if __name__ == "__main__":
    import ray

    ray.init(include_dashboard=False, num_cpus=4, object_store_memory=100 * 2**20, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Predict.bind(), route_prefix="/")
    signal.pause()
