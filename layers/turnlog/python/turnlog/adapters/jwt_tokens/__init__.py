"""JSON Web Tokens of an OpenID Connect issuer: checked against its published keys, which are read and judged first."""

from turnlog.adapters.jwt_tokens.issuer import find_keys, read_signing_keys
from turnlog.adapters.jwt_tokens.verifier import JwtVerifier

__all__ = ["JwtVerifier", "find_keys", "read_signing_keys"]
