"""/health, /openapi.json and the preflights of browsers: public, and answered without reading anything."""

from __future__ import annotations

import turnlog
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation, Route
from turnlog.entrypoints.http.openapi import document
from turnlog.entrypoints.http.replies import Document, Health
from turnlog.entrypoints.http.request import Request

_DOCUMENT = Document(**document())  # while the function is loaded, so that no request waits for it
_HEADERS_OF_PAGES = ", ".join(
    [
        *("Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Turnlog-Session"),
        *("Anthropic-Version", "Anthropic-Beta", "Anthropic-Dangerous-Direct-Browser-Access", "User-Agent"),
        *(f"X-Stainless-{name}" for name in ("Arch", "Helper", "Helper-Method", "Lang", "OS", "Package-Version")),
        *(f"X-Stainless-{name}" for name in ("Poll-Helper", "Retry-Count", "Runtime", "Runtime-Version", "Timeout")),
    ]
)
"""The headers that a page may send: ours, and those with which Anthropic's SDK comes from a browser."""
_PREFLIGHT_KEPT_S = 600  # the least of what browsers keep at most (Chromium before 76)


def health(request: Request, _: Invocation) -> Response:
    """A sign that the service answers, which says nothing of its dependencies."""
    request.query()
    return Response(200, Health(status="ok", version=turnlog.__version__))


def openapi(request: Request, _: Invocation) -> Response:
    """This API as an OpenAPI document."""
    request.query()
    return Response(200, _DOCUMENT)


def preflights() -> dict[tuple[str, str], Route]:
    """The OPTIONS routes: for each path of the API, which methods and headers a page may use there.

    `Api` adds the origin that may call, if the deployment names one; without it a browser refuses the page.
    """
    return {("OPTIONS", path): _preflight(methods) for path, methods in _methods_of_paths().items()}


def _preflight(methods: str) -> Route:
    headers = {
        "Access-Control-Allow-Methods": methods,
        "Access-Control-Allow-Headers": _HEADERS_OF_PAGES,
        "Access-Control-Max-Age": str(_PREFLIGHT_KEPT_S),
    }
    return lambda _, __: Response(204, headers=headers)


def _methods_of_paths() -> dict[str, str]:
    return {path: ", ".join(method.upper() for method in methods) for path, methods in _DOCUMENT.paths.items()}
