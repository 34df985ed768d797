"""Owners: the verified callers that sessions belong to, and the names under which their things are filed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from turnlog.domain import base64url

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")

MAX_USER = 128
"""Characters of a user whom a back end names."""


def owner_hash(owner: str) -> str:
    """The name under which an owner's things are filed: 43 URL-safe characters, never reversed to the owner.

    It is part of DynamoDB keys and S3 prefixes, so it must not change between versions.
    """
    return base64url.encode(hashlib.sha256(b"v1|" + owner.encode()).digest())


def anonymous_owner(secret_sha256: str) -> str:
    """The owner of whoever holds the secret with this hash, 64 lower-case hexadecimal digits.

    No signed-in caller has such an owner: theirs is `iss|sub`, and this one has no bar.
    """
    return f"anonymous:{secret_sha256}"


def anonymous_owner_of(secret: str) -> str:
    """The owner of whoever holds this secret. The hash is that of its characters as they are sent."""
    return anonymous_owner(hashlib.sha256(secret.encode()).hexdigest())


def delegated_owner(delegate: str, user: str) -> str:
    """The owner of what belongs to `user`, one of the people of the back end whose owner is `delegate`.

    Nobody else has such an owner: a signed-in caller's begins with the issuer's address, an anonymous one has no space,
    and of two back ends or users each has another, since no user has a space. It must not change between versions.
    """
    if not is_user(user):
        raise ValueError("no user")
    return f"user:{user} {delegate}"


def is_user(text: str) -> bool:
    """True for 1 to MAX_USER visible ASCII characters, which no proxy trims, folds or takes for another encoding."""
    return 0 < len(text) <= MAX_USER and all("\x21" <= character <= "\x7e" for character in text)


def is_secret(text: str) -> bool:
    """True if the text has the form of an anonymous secret: 256 bits as base64url, without padding."""
    return _SECRET.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The part of a verified token that counts here. `owner` is `iss|sub`.

    The token is not believed from `expires_s` on, in epoch seconds: its own end plus the leeway of the check, so that
    a later look decides as the verifier did. `roles` are all that the issuer gives, known here or not.
    """

    owner: str
    expires_s: int
    roles: frozenset[str] = frozenset()
