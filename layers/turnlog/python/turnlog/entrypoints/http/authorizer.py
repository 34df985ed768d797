"""The gateway's authorizer: a verified token, or a secret, becomes the caller of every route."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.domain.owners import anonymous_owner_of, is_secret, owner_hash
from turnlog.errors import Forbidden, Unauthorized

if TYPE_CHECKING:
    from turnlog.domain.owners import VerifiedToken

_LONGER_THAN_ANY_CACHE_S = 3600  # what the gateway keeps an authorizer's answer at most (API Gateway quota)
_ANONYMOUS_METHODS = ("GET", "POST", "PATCH", "DELETE")
_ROLES = ("admin", "admin:content", "delegate")


def authorize(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answers a TOKEN authorizer's request with a policy for the whole stage and the caller as its context.

    `Bearer` brings a JWT. `Session` brings the secret of an anonymous session, which is checked by nothing but its
    form: its hash is the owner's name, so a wrong one finds no session. Such a caller's policy is for the routes of
    sessions and models.

    The policy is cached for the credential's next requests, to any route, so it must not name only this one. The
    context says when the token expires, since the cache does not know, and which roles it brings. Whom a back end acts
    for is no part of it: a TOKEN authorizer is not shown that header, and the function looks at it in each request.

    Raises Exception("Unauthorized"), which is the gateway's word for 401; any other exception means 5xx.
    """
    try:
        return _decided(str(event.get("authorizationToken", "")), str(event["methodArn"]), context.aws_request_id)
    except Unauthorized:
        raise Exception("Unauthorized") from None  # the gateway looks at this very text


def verified_caller(authorization: str, method: str, path: str, request_id: str) -> Mapping[str, str]:
    """Returns the verified caller as `authorize` does, for an entry point that no gateway stands before.

    Raises Unauthorized, Forbidden for a route that is not for such a caller, and IssuerUnavailable.
    """
    arn = f"arn:aws:execute-api:::none/v1/{method}{path}"
    answer = _decided(authorization, arn, request_id)
    if not _lets_in(answer["policyDocument"], arn):
        raise Forbidden
    caller: Mapping[str, str] = answer["context"]
    return caller


def _decided(authorization: str, arn: str, request_id: str) -> dict[str, Any]:
    """Returns the answer for this credential and request; what is refused is noted."""
    scheme, _, credential = authorization.partition(" ")
    stage = "/".join(arn.split("/")[:2])
    try:
        if scheme.lower() == "session":
            answer = _anonymous(credential.strip(), stage)
        elif scheme.lower() == "bearer":
            answer = _signed_in(runtime.token_verifier().verify(credential.strip()), stage)
        else:
            raise Unauthorized
    except Unauthorized:
        runtime.audit_trail().note("denied", request_id=request_id, reason="unauthorized")
        telemetry.note("token refused")
        raise
    if not _lets_in(answer["policyDocument"], arn):  # nothing that comes after it could note it
        who, what = answer["principalId"], _area(arn)
        runtime.audit_trail().note("denied", request_id=request_id, route=what, owner=who, reason="forbidden")
    return answer


def _anonymous(secret: str, stage: str) -> dict[str, Any]:
    if not is_secret(secret):
        raise Unauthorized
    expires_s = runtime.now_ms() // 1000 + _LONGER_THAN_ANY_CACHE_S
    routes = [f"{stage}/{method}/sessions/*" for method in _ANONYMOUS_METHODS]
    routes += [f"{stage}/GET/models", f"{stage}/GET/models/*"]
    return _answer(anonymous_owner_of(secret), "anonymous", expires_s, [], routes, [])


def _signed_in(token: VerifiedToken, stage: str) -> dict[str, Any]:
    roles, denied = [role for role in _ROLES if role in token.roles], []
    if "admin" not in roles:
        denied.append(f"{stage}/*/admin/*")
    if "admin:content" not in roles:
        denied.append(f"{stage}/*/admin/sessions/*/content")
    return _answer(token.owner, "user", token.expires_s, roles, [f"{stage}/*/*"], denied)


def _answer(
    owner: str, kind: str, expires_s: int, roles: list[str], allowed: list[str], denied: list[str]
) -> dict[str, Any]:
    statements = [{"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": allowed}]
    if denied:
        statements.append({"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": denied})
    return {
        "principalId": owner_hash(owner),
        "policyDocument": {"Version": "2012-10-17", "Statement": statements},
        "context": {"owner": owner, "kind": kind, "expires": str(expires_s), "roles": " ".join(roles)},
    }


def _lets_in(policy: Mapping[str, Any], arn: str) -> bool:
    """True if the gateway will let this very request in by the policy."""
    effects = {
        statement["Effect"]
        for statement in policy["Statement"]
        if any(fnmatchcase(arn, resource) for resource in statement["Resource"])
    }
    return effects == {"Allow"}


def _area(arn: str) -> str:
    """The method and the first word of the path: the rest may name somebody."""
    method, _, path = arn.split("/", 2)[2].partition("/")
    word = path.partition("/")[0]
    return f"{method} /{word}" if word.isascii() and word.isalpha() else method
