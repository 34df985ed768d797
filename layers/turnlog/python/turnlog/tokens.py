"""Who calls: a JWT of an OpenID Connect issuer, verified with PyJWT against the issuer's published keys."""

from __future__ import annotations

from dataclasses import dataclass

import jwt

from turnlog.errors import Unauthorized

_ALGORITHMS = ["RS256", "ES256"]  # pinned: a token must not choose how it is checked
_LEEWAY_S = 10
_FETCH_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller. `owner` is `iss|sub`; `expires_s` is the token's end in epoch seconds."""

    owner: str
    expires_s: int


class TokenVerifier:
    """Believes tokens of one issuer for one audience; the keys are fetched when needed and kept for 5 minutes."""

    def __init__(self, issuer: str, audience: str, jwks_url: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = jwt.PyJWKClient(jwks_url, cache_jwk_set=True, lifespan=300, timeout=_FETCH_TIMEOUT_S)

    def verify(self, token: str) -> Principal:
        """The caller. Raises Unauthorized for any token that proves nothing, and PyJWKClientConnectionError when the
        issuer's keys cannot be fetched, which says nothing about the token.
        """
        try:
            claims = jwt.decode(
                token,
                self._keys.get_signing_key_from_jwt(token),
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError:
            raise
        except jwt.PyJWTError as error:
            raise Unauthorized from error
        if not claims["sub"]:
            raise Unauthorized
        return Principal(f"{claims['iss']}|{claims['sub']}", int(claims["exp"]))
