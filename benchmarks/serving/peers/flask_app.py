"""Flask; run by gunicorn."""

from common import encode, load_models, respond, run
from flask import Flask, Response, request

app = Flask(__name__)
models = load_models()


@app.post("/<name>")
def predict(name):
    """Responds to the parts of a form, or to a body."""
    if request.files:
        parts = {key: file.read() for key, file in request.files.items()}
        body, kind = encode(run(models[name], parts), "")
    else:
        body, kind = respond(models[name], request.get_data(), request.content_type)
    return Response(body, content_type=kind)
