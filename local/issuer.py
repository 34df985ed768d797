"""A token issuer for development: signs tokens for any user name and publishes its public key."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from local.guard import HOST
from local.loopback import GuardedHandler, LoopbackServer

AUDIENCE = "turnlog"
LIFETIME = timedelta(hours=12)


class Issuer:
    """The issuer `http://127.0.0.1:<port>/`. Signs with the key in `key_file`, which it creates when it is missing."""

    def __init__(self, key_file: Path, port: int) -> None:
        self.url = f"http://{HOST}:{port}/"
        self._key = _key_in(key_file)
        public: dict[str, Any] = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._key_id = _thumbprint(public)
        self._jwks = {
            "keys": [
                {
                    "kty": "RSA",
                    "n": public["n"],
                    "e": public["e"],
                    "use": "sig",
                    "alg": "RS256",
                    "kid": self._key_id,
                }
            ]
        }

    @property
    def jwks_url(self) -> str:
        return f"{self.url}.well-known/jwks.json"

    def token(self, user: str, now: datetime, roles: Sequence[str] = ()) -> str:
        """A token for `user` that ends LIFETIME after `now`, with these roles."""
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": user,
            "iat": now,
            "exp": now + LIFETIME,
            "jti": secrets.token_urlsafe(12),
        }
        if roles:
            claims["roles"] = list(roles)
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})

    def published(self, path: str) -> dict[str, Any] | None:
        """The public document at `path`; None when there is none."""
        documents: dict[str, dict[str, Any]] = {
            "/.well-known/jwks.json": self._jwks,
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": self.jwks_url,
                "id_token_signing_alg_values_supported": ["RS256"],
                "subject_types_supported": ["public"],
                "response_types_supported": ["id_token"],
            },
        }
        return documents.get(path)

    def server(self, port: int) -> LoopbackServer:
        """A server that publishes the documents from its start or `with` on."""

        class Handler(GuardedHandler):
            def answer(handler) -> None:  # noqa: N805 (`self` is the issuer)
                found = self.published(handler.path) if handler.command in ("GET", "HEAD") else None
                handler.send_json(404 if found is None else 200, found or {"title": "Not found"})

        return LoopbackServer(port, Handler, "token issuer")


def _key_in(file: Path) -> rsa.RSAPrivateKey:
    if not file.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(made)
        new.replace(file)
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{file} holds no RSA key")
    return key


def _thumbprint(public: dict[str, Any]) -> str:
    """The key's id by RFC 7638."""
    named = json.dumps({"e": public["e"], "kty": "RSA", "n": public["n"]}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(named.encode()).digest()).rstrip(b"=").decode()
