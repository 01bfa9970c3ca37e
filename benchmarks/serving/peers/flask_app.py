"""Flask; run by gunicorn."""

from common import answer, encode, load_models, run
from flask import Flask, Response, request

app = Flask(__name__)
models = load_models()


@app.post("/<name>")
def predict(name):
    """A form's parts or a whole body."""
    if request.files:
        parts = {key: file.read() for key, file in request.files.items()}
        body, kind = encode(run(models[name], parts), "")
    else:
        body, kind = answer(models[name], request.get_data(), request.content_type)
    return Response(body, content_type=kind)
