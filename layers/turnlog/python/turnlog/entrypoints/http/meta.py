"""/health and /openapi.json: public, and answered without reading anything."""

from __future__ import annotations

import turnlog
from turnlog.entrypoints.http.api import Invocation, Response
from turnlog.entrypoints.http.openapi import document
from turnlog.entrypoints.http.replies import Document, Health
from turnlog.entrypoints.http.request import Request

_DOCUMENT = Document(**document())  # while the function is loaded, so that no request waits for it


def health(request: Request, _: Invocation) -> Response:
    """A sign that the service answers, which says nothing of its dependencies."""
    request.query()
    return Response(200, Health(status="ok", version=turnlog.__version__))


def openapi(request: Request, _: Invocation) -> Response:
    """This API as an OpenAPI document."""
    request.query()
    return Response(200, _DOCUMENT)
