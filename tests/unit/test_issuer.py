"""Development tokens: accepted by the real authorizer's verifier, signed by a key that only its user reads."""

import http.client
import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from local.issuer import AUDIENCE, LIFETIME, Issuer
from local.loopback import LoopbackServer
from turnlog.adapters.jwt_tokens import JwtVerifier
from turnlog.errors import Unauthorized


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackServer]:
    with Issuer(tmp_path / "issuer.pem", 0).server(0) as server:
        yield server


@pytest.fixture
def issuer(tmp_path: Path, server: LoopbackServer) -> Issuer:
    return Issuer(tmp_path / "issuer.pem", server.server_port)


def get(server: LoopbackServer, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    return answer.status, body


def test_the_authorizer_believes_a_token_of_the_issuer(issuer: Issuer) -> None:
    token = issuer.token("ada", datetime.now(UTC))
    caller = JwtVerifier(issuer.url, (AUDIENCE,), issuer.jwks_url).verify(token)
    assert caller.owner == f"{issuer.url}|ada"


def test_a_token_says_who_for_whom_and_for_how_long(issuer: Issuer) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    claims = jwt.decode(issuer.token("ada", now), options={"verify_signature": False})
    assert claims.pop("jti") != jwt.decode(issuer.token("ada", now), options={"verify_signature": False})["jti"]
    ends = int((now + timedelta(hours=12)).timestamp())
    assert claims == {"iss": issuer.url, "aud": "turnlog", "sub": "ada", "iat": int(now.timestamp()), "exp": ends}


def test_the_roles_of_a_token_are_those_that_were_asked_for(issuer: Issuer) -> None:
    verifier = JwtVerifier(issuer.url, (AUDIENCE,), issuer.jwks_url)
    assert verifier.verify(issuer.token("ada", datetime.now(UTC))).roles == set()
    roles = ["admin", "admin:content"]
    assert verifier.verify(issuer.token("ada", datetime.now(UTC), roles)).roles == set(roles)


def test_a_token_ends_with_its_lifetime(issuer: Issuer) -> None:
    old = issuer.token("ada", datetime.now(UTC) - LIFETIME - timedelta(minutes=1))
    with pytest.raises(Unauthorized):
        JwtVerifier(issuer.url, (AUDIENCE,), issuer.jwks_url).verify(old)


def test_a_token_of_another_key_is_not_believed(issuer: Issuer, server: LoopbackServer, tmp_path: Path) -> None:
    stranger = Issuer(tmp_path / "other.pem", server.server_port)
    with pytest.raises(Unauthorized):
        JwtVerifier(issuer.url, (AUDIENCE,), issuer.jwks_url).verify(stranger.token("ada", datetime.now(UTC)))


def test_the_key_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "issuer.pem"
    first = Issuer(file, 1).published("/.well-known/jwks.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Issuer(file, 1).published("/.well-known/jwks.json") == first
    assert [each.name for each in tmp_path.iterdir()] == ["issuer.pem"]


def test_what_is_published_holds_no_private_part(issuer: Issuer, server: LoopbackServer) -> None:
    status, jwks = get(server, "/.well-known/jwks.json")
    assert status == 200
    assert [sorted(key) for key in jwks["keys"]] == [["alg", "e", "kid", "kty", "n", "use"]]


def test_the_discovery_document_names_the_issuer_and_its_keys(issuer: Issuer) -> None:
    published = issuer.published("/.well-known/openid-configuration")
    assert published is not None
    assert (published["issuer"], published["jwks_uri"]) == (issuer.url, issuer.jwks_url)


def test_nothing_else_is_there(server: LoopbackServer) -> None:
    assert get(server, "/issuer.pem")[0] == 404


def test_a_page_of_another_origin_gets_nothing(server: LoopbackServer) -> None:
    status, body = get(server, "/.well-known/jwks.json", Origin="https://evil.example")
    assert status == 403
    assert "keys" not in body
