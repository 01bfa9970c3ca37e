"""FastAPI; run by uvicorn."""

from common import encode, load_models, respond, run
from fastapi import FastAPI, Request, Response

app = FastAPI()
models = load_models()


@app.post("/{name}")
async def predict(name: str, request: Request):
    """Responds to the parts of a form, or to a body."""
    kind = request.headers["content-type"]
    if kind.startswith("multipart/"):
        async with request.form() as form:
            parts = {key: await file.read() for key, file in form.items()}
        body, kind = encode(run(models[name], parts), "")
    else:
        body, kind = respond(models[name], await request.body(), kind)
    return Response(body, media_type=kind)
