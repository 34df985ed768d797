"""An OpenID Connect issuer as it describes itself, read before a deploy that will believe it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

_TIMEOUT_S = 10
_MOST_BYTES = 1024 * 1024


class IssuerUnusable(Exception):
    """Nobody could sign in with this issuer. The message says why; `mend` is the line that helps."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(reason)
        self.mend = mend


def keys_url(issuer: str) -> str:
    """Returns where the issuer publishes its keys, by its own description. Raises IssuerUnusable.

    The issuer's own name must be `issuer` to the letter, since that is what a token will say; a slash at the end is
    the usual difference.
    """
    if not issuer.startswith("https://"):
        raise IssuerUnusable(f"The issuer {issuer!r} does not begin with https://.", "ISSUER=https://…")
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    described = read_json(url)
    named = described.get("issuer") if isinstance(described, dict) else None
    if named != issuer:
        raise IssuerUnusable(f"The issuer calls itself {named!r}, not {issuer!r}.", f"ISSUER={named}")
    found = described.get("jwks_uri")
    if not isinstance(found, str) or not found.startswith("https://"):
        raise IssuerUnusable(f"{url} names no jwks_uri with https://.", "JWKS_URL=https://…")
    return found


def read_json(url: str) -> Any:
    """Returns the JSON at the address. Raises IssuerUnusable when there is none, or more than 1 MB of it."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            raw = answer.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise IssuerUnusable(f"{url} gives no answer: {error}", "check ISSUER and JWKS_URL") from error
    if len(raw) > _MOST_BYTES:
        raise IssuerUnusable(f"{url} has more than {_MOST_BYTES} bytes.", "check ISSUER and JWKS_URL")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IssuerUnusable(f"{url} is no JSON.", "check ISSUER and JWKS_URL") from error
