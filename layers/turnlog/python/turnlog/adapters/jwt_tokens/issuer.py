"""An issuer's published documents: read within bounds, and each key judged by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from turnlog.errors import IssuerUnavailable

KeyName = tuple[str, str]
"""A key's `kid`, and the algorithm of its signatures: two keys of other types may share a `kid` (RFC 7517)."""

MOST_BYTES = 1024 * 1024
"""Of one document; a few keys with their certificates are some 20 KB, and 1 MB of keys is judged within a second."""

_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}  # by the type of the key; no symmetric one is published
_RSA_BITS = range(2048, 16_384 + 1)  # from RFC 7518's least for RS256 to the most that OpenSSL takes
_PARTS = ("kty", "kid", "alg", "crv", "n", "e", "x", "y")
_TIMEOUT_S = 3  # for each step of the connection, and for the whole body
_AT_ONCE = 64 * 1024
_HEADERS = {"Accept": "application/json", "User-Agent": "turnlog"}  # some issuers refuse Python's own name


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follows none: keys come from the address that was configured, and an issuer's does not move."""


_OPENER = build_opener(_NoRedirects)


def read_signing_keys(url: str, clock: Callable[[], float] = time.monotonic) -> dict[KeyName, jwt.PyJWK]:
    """Returns the issuer's keys that can check a token here, by their names; of two with one name the first counts.

    Any other key is left out, whatever is wrong with it. Raises IssuerUnavailable, whose text says why: the document
    cannot be had, is too large or too slow, is no JSON or no key set, or none of its keys is left.
    """
    document = _read(url, clock)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise IssuerUnavailable("the document at TOKEN_JWKS_URL is no key set")
    keys: dict[KeyName, jwt.PyJWK] = {}
    for entry in listed:
        if key := _usable(entry):
            keys.setdefault((str(key.key_id), key.algorithm_name), key)
    if not keys:
        raise IssuerUnavailable("none of the issuer's keys can check a token: RS256 and ES256 count, with a kid")
    return keys


def find_keys(issuer: str, jwks_url: str = "", *, scheme: str = "https://") -> str:
    """Returns the address of the issuer's keys: the one given, else the one in its discovery document.

    Reads that document and the keys, so it is for a deploy, not for a request. Raises IssuerUnavailable, whose text
    says why, unless tokens of the issuer can be checked by them.
    """
    if not issuer.startswith(scheme):
        raise IssuerUnavailable(f"the issuer {issuer!r} does not begin with {scheme}")
    document = _read(f"{issuer.rstrip('/')}/.well-known/openid-configuration", time.monotonic)
    described = document if isinstance(document, dict) else {}
    if (named := described.get("issuer")) != issuer:
        by_a_slash = isinstance(named, str) and named.rstrip("/") == issuer.rstrip("/")
        difference = "differs by a slash at its end from" if by_a_slash else "is not"
        raise IssuerUnavailable(f"{issuer!r} {difference} the name that the issuer gives itself, {named!r:.200}")
    url = jwks_url or described.get("jwks_uri")
    if not isinstance(url, str) or not url.startswith(scheme):
        raise IssuerUnavailable(f"the address of the issuer's keys, {url!r:.200}, does not begin with {scheme}")
    read_signing_keys(url)
    return url


def _read(url: str, clock: Callable[[], float]) -> Any:
    """Returns the JSON at the address. Raises IssuerUnavailable."""
    if not url.startswith(("https://", "http://")):
        raise IssuerUnavailable("the issuer's address is none of the web")  # the library would open a file, too
    try:
        with _OPENER.open(Request(url, headers=_HEADERS), timeout=_TIMEOUT_S) as response:  # noqa: S310 (see above)
            raw = _body(response, clock)
    except HTTPError as error:
        error.close()
        raise IssuerUnavailable(f"the issuer answers {error.code}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise IssuerUnavailable("the issuer cannot be reached") from error
    if len(raw) > MOST_BYTES:
        raise IssuerUnavailable(f"the issuer's document is larger than {MOST_BYTES} bytes")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise IssuerUnavailable("the issuer's document is no JSON") from error


def _body(response: HTTPResponse, clock: Callable[[], float]) -> bytes:
    """Returns the body, or a little more than MOST_BYTES of it. Raises TimeoutError when it drips in."""
    raw, ends_s = b"", clock() + _TIMEOUT_S
    while len(raw) <= MOST_BYTES and (part := response.read1(_AT_ONCE)):
        raw += part
        if clock() > ends_s:
            raise TimeoutError
    return raw


def _usable(entry: Any) -> jwt.PyJWK | None:
    """Returns the key; None if it cannot check a token here, is for encryption, or is private and so nobody's proof."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    parts = {name: entry[name] for name in _PARTS if name in entry}
    if not all(isinstance(part, str) for part in parts.values()):
        return None
    algorithm = _ALGORITHMS.get(parts.get("kty", ""))
    if algorithm is None or parts.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(parts, algorithm)
    except (jwt.PyJWTError, ValueError):
        return None
    match key.key:
        case RSAPublicKey(key_size=bits) if bits in _RSA_BITS:
            return key
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return key
    return None
