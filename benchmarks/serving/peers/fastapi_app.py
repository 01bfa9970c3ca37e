"""FastAPI; run by uvicorn."""

from common import answer, encode, load_models, run
from fastapi import FastAPI, Request, Response

app = FastAPI()
models = load_models()


@app.post("/{name}")
async def predict(name: str, request: Request):
    """A form's parts or a whole body."""
    kind = request.headers["content-type"]
    if kind.startswith("multipart/"):
        async with request.form() as form:
            parts = {key: await file.read() for key, file in form.items()}
        body, kind = encode(run(models[name], parts), "")
    else:
        body, kind = answer(models[name], await request.body(), kind)
    return Response(body, media_type=kind)
