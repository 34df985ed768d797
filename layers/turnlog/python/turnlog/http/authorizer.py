"""The gateway's authorizer: a verified token becomes the caller of every route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnlog import runtime, telemetry
from turnlog.errors import Unauthorized
from turnlog.sessions import owner_hash


def authorize(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    """Answers a TOKEN authorizer's request with a policy for the whole stage and the caller as its context.

    The policy is cached for the token's next requests, to any route, so it must not name only this one. The context
    says when the token expires, since the cache does not know.

    Raises Exception("Unauthorized"), which is the gateway's word for 401; any other exception means 5xx.
    """
    scheme, _, token = str(event.get("authorizationToken", "")).partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise Unauthorized
        caller = runtime.token_verifier().verify(token.strip())
    except Unauthorized:
        telemetry.note("token refused")
        raise Exception("Unauthorized") from None  # the gateway looks at this very text
    api, stage = str(event["methodArn"]).split("/")[:2]
    allow = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{api}/{stage}/*/*"}
    return {
        "principalId": owner_hash(caller.owner),
        "policyDocument": {"Version": "2012-10-17", "Statement": [allow]},
        "context": {"owner": caller.owner, "expires": str(caller.expires_s)},
    }
