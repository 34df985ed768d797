"""The gateway's authorizer: a verified token, or a secret, becomes the caller of every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnlog import runtime, telemetry
from turnlog.errors import Unauthorized
from turnlog.sessions import anonymous_owner_of, is_secret, owner_hash

_LONGER_THAN_ANY_CACHE_S = 3600  # what the gateway keeps an authorizer's answer at most (API Gateway quota)
_ANONYMOUS_METHODS = ("GET", "POST", "PATCH", "DELETE")


def authorize(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answers a TOKEN authorizer's request with a policy for the whole stage and the caller as its context.

    `Bearer` brings a JWT. `Session` brings the secret of an anonymous session, which is checked by nothing but its
    form: its hash is the owner's name, so a wrong one finds no session. Such a caller's policy is for sessions' routes.

    The policy is cached for the credential's next requests, to any route, so it must not name only this one. The
    context says when the token expires, since the cache does not know.

    Raises Exception("Unauthorized"), which is the gateway's word for 401; any other exception means 5xx.
    """
    scheme, _, credential = str(event.get("authorizationToken", "")).partition(" ")
    stage = "/".join(str(event["methodArn"]).split("/")[:2])
    try:
        if scheme.lower() == "session":
            return _anonymous(credential.strip(), stage)
        if scheme.lower() != "bearer":
            raise Unauthorized
        caller = runtime.token_verifier().verify(credential.strip())
    except Unauthorized:
        runtime.audit_trail().note("denied", request_id=context.aws_request_id, reason="unauthorized")
        telemetry.note("token refused")
        raise Exception("Unauthorized") from None  # the gateway looks at this very text
    return _allowed(caller.owner, "user", caller.expires_s, f"{stage}/*/*")


def _anonymous(secret: str, stage: str) -> dict[str, Any]:
    if not is_secret(secret):
        raise Unauthorized
    expires_s = runtime.now_ms() // 1000 + _LONGER_THAN_ANY_CACHE_S
    routes = [f"{stage}/{method}/sessions/*" for method in _ANONYMOUS_METHODS]
    return _allowed(anonymous_owner_of(secret), "anonymous", expires_s, routes)


def _allowed(owner: str, kind: str, expires_s: int, routes: str | list[str]) -> dict[str, Any]:
    allow = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": routes}
    return {
        "principalId": owner_hash(owner),
        "policyDocument": {"Version": "2012-10-17", "Statement": [allow]},
        "context": {"owner": owner, "kind": kind, "expires": str(expires_s)},
    }
