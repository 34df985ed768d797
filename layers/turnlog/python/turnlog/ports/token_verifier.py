"""The port to whoever vouches for callers."""

from __future__ import annotations

from typing import Protocol

from turnlog.domain.owners import VerifiedToken


class TokenVerifier(Protocol):
    """Believes access tokens of one issuer for the audiences of this deployment."""

    def verify(self, token: str) -> VerifiedToken:
        """Returns what counts here. Raises Unauthorized for a token that proves nothing, and IssuerUnavailable."""
