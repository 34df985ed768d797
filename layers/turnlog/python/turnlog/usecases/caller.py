"""Caller: the one who asks, as the entry point has verified it."""

from __future__ import annotations

from dataclasses import dataclass

from turnlog.domain.server_key import ServerKey
from turnlog.errors import Forbidden, Unauthorized


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a use case.

    `owner` is the owner that the token or the secret proves; empty for a stranger: a caller without token or secret.
    `is_anonymous` is true for the holder of a secret, who is no person that an issuer knows. `source` is the network
    address, or /64 of IPv6, that the request comes from; empty where an entry point has none. `delegate` is the owner
    of the back end that acts for `owner`, one of its people; empty when the caller acts for itself.
    """

    owner: str = ""
    is_anonymous: bool = False
    source: str = ""
    delegate: str = ""

    def require_verified(self) -> str:
        """Returns the owner. Raises Unauthorized for a stranger."""
        if not self.owner:
            raise Unauthorized
        return self.owner

    def require_user(self) -> str:
        """Returns the owner, who is signed in. Raises Unauthorized or Forbidden."""
        owner = self.require_verified()
        if self.is_anonymous:
            raise Forbidden
        return owner

    def source_hash(self, server_key: ServerKey) -> str:
        """Returns the name under which the source is noted and counted; the address cannot be told from it."""
        return server_key.keyed_hash("source", self.source.encode()).hex()
