"""Checks of what the gateway answers to anybody."""

from __future__ import annotations

from collections.abc import Mapping

from tests.smoke.api import Api
from tests.smoke.outcome import Unexpected
from tests.smoke.target import Target

STRANGER = "https://smoke.invalid"
"""An origin that no deployment lets in."""
_CLOSED = (None, "closed")
_ASKED_HEADERS = ("authorization", "content-type", "idempotency-key")
_FORGED = "Bearer eyJhbGciOiJSUzI1NiJ9.e30.AAAA"


def health(api: Api) -> str:
    """The service answers."""
    reply = api.ask_without_token("GET", "/health")
    reply.require(200)
    return f"{reply} in {reply.took_ms} ms, version {reply.text('version')}"


def preflight(api: Api, target: Target) -> str:
    """A browser learns whether a page may call the API: those of `origin` may, a stranger's may not."""
    # The guard of a local stack refuses every page, its own excepted.
    stranger = target.own_origin if target.is_local else STRANGER
    seen = _preflight(api, stranger, expects_in=False)
    return _preflight(api, target.origin, expects_in=True) if target.origin else seen


def _preflight(api: Api, origin: str, *, expects_in: bool) -> str:
    asked = ", ".join(_ASKED_HEADERS)
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": asked}
    reply = api.ask_without_token("OPTIONS", "/sessions", headers=headers)
    if reply.status >= 300:
        raise Unexpected(f"{reply}, not 200 or 204: no browser sends the request after that")
    allowed = reply.headers.get("access-control-allow-origin")
    if allowed in ("*", origin) and not expects_in:
        raise Unexpected(f"{reply} lets in {allowed}, of which nobody said so: is CorsOrigin right?")
    if expects_in and allowed != origin:
        raise Unexpected(f"{reply} lets in {allowed or 'no origin'}, not {origin}: is CorsOrigin right?")
    if allowed in _CLOSED:
        return f"{reply}, pages of {origin} may not call the API"
    methods, names = (
        {each.strip().lower() for each in reply.headers.get(f"access-control-allow-{kind}", "").split(",")}
        for kind in ("methods", "headers")
    )
    if missing := [each for each in ("post", *_ASKED_HEADERS) if each not in methods | names]:
        raise Unexpected(f"{reply} lets in {allowed}, but not its {', '.join(missing)}: no page can take a turn")
    return f"{reply}, pages of {allowed} may call the API"


def no_token(api: Api) -> str:
    """Nobody is served without a token, or with a forged one."""
    challenge = ""
    for headers in {}, {"Authorization": _FORGED}:
        reply = api.ask_without_token("POST", "/query", {"message": "Say ok."}, headers=headers)
        reply.require_problem(401, "unauthorized")
        challenge = reply.headers.get("www-authenticate", "")
        if "Bearer" not in challenge:
            raise Unexpected(f"{reply} with WWW-Authenticate {challenge or 'missing'}, not Bearer")
    return f"401 without a token and with a forged one, WWW-Authenticate: {challenge}"


def unknown_route(api: Api) -> str:
    """A route that does not exist is a 404, also with a token, which the gateway takes for a signature of AWS's."""
    _not_found(api, "GET", "/no-such-route", {"Authorization": _FORGED})
    return _not_found(api, "GET", "/no-such-route")


def unknown_method(api: Api) -> str:
    """A method that a route does not have is a 404."""
    return _not_found(api, "PUT", "/sessions")


def _not_found(api: Api, method: str, path: str, headers: Mapping[str, str] | None = None) -> str:
    reply = api.ask_without_token(method, path, headers=headers or {})
    reply.require_problem(404, "route_not_found")
    return f"{method} {path} is {reply}"
