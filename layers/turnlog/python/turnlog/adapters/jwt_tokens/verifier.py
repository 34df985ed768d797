"""TokenVerifier on PyJWT: access tokens are believed by their signature, issuer, audience, time and kind."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt

from turnlog.adapters.jwt_tokens.issuer import KeyName, read_signing_keys
from turnlog.domain.owners import VerifiedToken
from turnlog.errors import IssuerUnavailable, Unauthorized

_ALGORITHMS = ["RS256", "ES256"]  # pinned: a token must not choose how it is checked
_LEEWAY_S = 10  # by which the issuer's clock may differ from this one
_KINDS = ("jwt", "at+jwt")  # RFC 7519 and 9068: a logout token, say, has the same issuer and may have this audience
_KEPT_S = 300
_PAUSE_S = 10


class JwtVerifier:
    """Believes access tokens of one issuer for any of the audiences; the claim `roles_claim` brings the roles."""

    def __init__(
        self,
        issuer: str,
        audiences: tuple[str, ...],
        jwks_url: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        roles_claim: str = "roles",
    ) -> None:
        self._issuer = issuer
        self._audiences = audiences
        self._roles_claim = roles_claim
        self._keys = _IssuerKeys(jwks_url, clock)

    def verify(self, token: str) -> VerifiedToken:
        """Returns what counts here. Raises Unauthorized for any token that proves nothing, and IssuerUnavailable."""
        try:
            claims = jwt.decode(
                token,
                self._keys.find(_key_name(token)),
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "sub"], "verify_aud": False},  # _is_meant_here does
            )
            claims["sub"].encode()  # JSON can hold half of a surrogate pair, under which nothing could be filed
        except (jwt.PyJWTError, ValueError, RecursionError) as error:  # PyJWT lets the last two through
            raise Unauthorized from error
        if not claims["sub"] or _kind(token) not in _KINDS or not self._is_meant_here(claims):
            raise Unauthorized
        roles = _roles(claims.get(self._roles_claim))
        return VerifiedToken(f"{claims['iss']}|{claims['sub']}", int(claims["exp"]) + _LEEWAY_S, roles)

    def _is_meant_here(self, claims: Mapping[str, Any]) -> bool:
        """True if the claims are those of an access token for one of the audiences.

        Cognito says in `token_use` what a token is for; its access token may have no `aud`, and names its client.
        """
        use, named = claims.get("token_use", "access"), claims.get("aud")
        if named is None and "token_use" in claims:
            named = claims.get("client_id")
        listed = named if isinstance(named, list) else [named]
        return (
            use == "access"
            and all(isinstance(each, str) for each in listed)
            and any(each in self._audiences for each in listed)
        )


def _kind(token: str) -> str:
    """The type that the token claims, in lower case; `jwt` if it claims none."""
    return str(jwt.get_unverified_header(token).get("typ", "jwt")).lower().removeprefix("application/")


def _roles(claim: object) -> frozenset[str]:
    """A list of texts, or one text with spaces between them; anything else is no role."""
    if isinstance(claim, str):
        return frozenset(claim.split(" "))
    if isinstance(claim, list) and all(isinstance(role, str) for role in claim):
        return frozenset(claim)
    return frozenset()


def _key_name(token: str) -> KeyName:
    header = jwt.get_unverified_header(token)
    if header.get("alg") not in _ALGORITHMS or not isinstance(header.get("kid"), str):
        raise Unauthorized  # before the issuer is asked anything
    return str(header["kid"]), str(header["alg"])


class _IssuerKeys:
    """The issuer's signing keys, kept for 5 minutes. It is asked at most once in 10 seconds, whatever tokens come and
    whatever it answers; until then a key that is new there is unknown here.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[KeyName, jwt.PyJWK] = {}
        self._asked_s = self._got_s = -math.inf
        self._lock = threading.Lock()

    def find(self, name: KeyName) -> jwt.PyJWK:
        """The key of that name. Raises Unauthorized if there is none, IssuerUnavailable if the issuer does not say."""
        with self._lock:  # of several at once the first one asks, and the others wait for what it gets
            return self._find(name)

    def _find(self, name: KeyName) -> jwt.PyJWK:
        now_s = self._clock()
        if now_s - self._got_s >= _KEPT_S or name not in self._keys:
            if now_s - self._asked_s >= _PAUSE_S:
                self._asked_s = now_s
                self._keys = read_signing_keys(self._url, self._clock)
                self._got_s = now_s
            if self._got_s < self._asked_s:
                raise IssuerUnavailable("the issuer's keys could not be read a moment ago")
        if name not in self._keys:
            raise Unauthorized
        return self._keys[name]
