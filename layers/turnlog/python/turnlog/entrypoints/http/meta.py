"""What anybody may know of the service: that it answers, and what it answers to. Nothing is read for it."""

from __future__ import annotations

import turnlog
from turnlog.entrypoints.http.api import Invocation, Response
from turnlog.entrypoints.http.openapi import document
from turnlog.entrypoints.http.request import Request

_DOCUMENT = document()  # while the function is loaded, so that no request waits for it


def health(request: Request, _: Invocation) -> Response:
    """That the service answers, which says nothing of what it depends on."""
    request.query()
    return Response(200, {"status": "ok", "version": turnlog.__version__})


def openapi(request: Request, _: Invocation) -> Response:
    """This API as an OpenAPI document."""
    request.query()
    return Response(200, _DOCUMENT)
