"""A caller is who a valid token of the right issuer, for this audience, says; every other token is nobody's."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.handlers.conftest import Context, app, event
from turnlog import runtime
from turnlog.tokens import TokenVerifier

ISSUER, AUDIENCE = "https://issuer.example/", "turnlog"


def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


KEY, OTHER_KEY = private_key(), private_key()


def token(key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **claims: Any) -> str:
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 600} | claims
    present = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(present, key, algorithm=algorithm, headers={"kid": kid})


@pytest.fixture(scope="module")
def jwks_url() -> Iterator[str]:
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key())) | {"kid": "k1", "use": "sig"}
    body = json.dumps({"keys": [public]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()


@pytest.fixture
def authorize(jwks_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    verifier = TokenVerifier(ISSUER, AUDIENCE, jwks_url)
    monkeypatch.setattr(runtime, "token_verifier", lambda: verifier)
    return lambda header: app("authorizer").handler(event("authorizer") | {"authorizationToken": header}, Context())


def test_a_valid_token_is_allowed_to_every_route_of_the_stage_and_names_its_owner(authorize: Any) -> None:
    answer = authorize(f"Bearer {token(exp=4102444800)}")
    assert answer["policyDocument"]["Statement"] == [
        {
            "Action": "execute-api:Invoke",
            "Effect": "Allow",
            "Resource": "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1/*/*",
        }
    ]
    assert answer["context"] == {"owner": "https://issuer.example/|ada", "kind": "user", "expires": "4102444800"}
    assert "ada" not in answer["principalId"]


def test_the_scheme_is_compared_without_case(authorize: Any) -> None:
    assert authorize(f"bearer {token()}")["context"]["owner"].endswith("|ada")


FORGED = {
    "nothing": "",
    "no scheme": "abc",
    "another scheme": f"Basic {token()}",
    "not a token": "Bearer abc",
    "expired": f"Bearer {token(exp=int(time.time()) - 60)}",
    "another key": f"Bearer {token(OTHER_KEY)}",
    "an unknown key id": f"Bearer {token(kid='k2')}",
    "another issuer": f"Bearer {token(iss='https://evil.example/')}",
    "another audience": f"Bearer {token(aud='else')}",
    "no subject": f"Bearer {token(sub=None)}",
    "an empty subject": f"Bearer {token(sub='')}",
    "no expiry": f"Bearer {token(exp=None)}",
    "algorithm none": f"Bearer {token(None, 'none')}",
    "a shared secret": f"Bearer {token('x' * 64, 'HS256')}",
}


@pytest.mark.parametrize("header", FORGED.values(), ids=FORGED.keys())
def test_any_other_token_is_unauthorized(authorize: Any, header: str) -> None:
    # The gateway answers 401 to an exception with exactly this text.
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize(header)


def test_when_the_issuers_keys_cannot_be_fetched_the_token_is_not_called_invalid(
    authorize: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = TokenVerifier(ISSUER, AUDIENCE, "http://127.0.0.1:9/jwks.json")
    monkeypatch.setattr(runtime, "token_verifier", lambda: verifier)
    with pytest.raises(jwt.PyJWKClientConnectionError):
        authorize(f"Bearer {token()}")
