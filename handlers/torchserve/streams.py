"""Responses to gRPC's streaming call, of which there is one per stream."""

from __future__ import annotations

from typing import Any

STREAM_NEXT = "ts_stream_next"


def end_stream(context: Any, index: int) -> None:
    """Marks a response as the last of its stream if the request came by gRPC.

    TorchServe ends the worker of a stream whose response is not marked; over HTTP it would wait for more.
    """
    headers = context.get_all_request_header(index)
    # By gRPC there are none. The media types of parts, which are no text, are kept among them under the parts' names.
    if not isinstance(headers.get("Host"), str) and not any(isinstance(value, str) for value in headers.values()):
        context.set_response_header(index, STREAM_NEXT, "false")
