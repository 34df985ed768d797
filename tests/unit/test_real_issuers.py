"""Tokens in the forms that Cognito, Auth0, Entra ID and Okta document are believed once their issuer is configured.

`docs/issuers.md` says how each is configured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest

from tests.unit.test_jwt_tokens import KEY, IssuersServer
from turnlog.adapters.jwt_tokens import JwtVerifier
from turnlog.domain.owners import VerifiedToken
from turnlog.errors import Unauthorized

NOW = int(time.time())
TIMES = {"iat": NOW, "exp": NOW + 3600}
NO_TYPE = {"typ": None}

POOL = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Example01"
APP, MACHINE = "1h57kf5cpq17m0eml12EXAMPLE", "5a6b7c8d9e0f1a2b3c4dEXAMPLE"
AUTH0 = "https://my-domain.auth0.com/"
TENANT, API, CLIENT = (f"{number}" * 8 + "-0000-4000-8000-000000000000" for number in (1, 2, 3))
ENTRA_2, ENTRA_1 = f"https://login.microsoftonline.com/{TENANT}/v2.0", f"https://sts.windows.net/{TENANT}/"
OKTA = "https://dev-1234.okta.com/oauth2/default"


@dataclass(frozen=True)
class Token:
    """A token as its issuer makes it, the parameters of the deployment, and what it proves there."""

    issuer: str
    audiences: tuple[str, ...]
    roles_claim: str
    claims: dict[str, Any]
    subject: str
    roles: frozenset[str] = frozenset()
    header: dict[str, Any] = field(default_factory=lambda: dict(NO_TYPE))

    def verified(self, jwks_url: str, **changed: Any) -> VerifiedToken:
        """Believes the token with some claims changed, or without those that are None."""
        claims = {**TIMES, "iss": self.issuer, **self.claims, **changed}
        present = {name: value for name, value in claims.items() if value is not None}
        made = jwt.encode(present, KEY, "RS256", headers={"kid": "k1", **self.header})
        return JwtVerifier(self.issuer, self.audiences, jwks_url, roles_claim=self.roles_claim).verify(made)


def cognito(subject: str, client: str, roles: frozenset[str], **claims: Any) -> Token:
    common = {"sub": subject, "client_id": client, "token_use": "access", "version": 2, "auth_time": NOW, "jti": "j"}
    return Token(POOL, (APP, MACHINE), "cognito:groups", common | claims, subject, roles)


PERSON = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
COGNITO = {
    "cognito, a user": cognito(
        PERSON,
        APP,
        frozenset({"admin", "writers"}),
        **{"cognito:groups": ["admin", "writers"], "username": "ada", "scope": "aws.cognito.signin.user.admin"},
        origin_jti="o",
        event_id="e",
    ),
    "cognito, a machine": cognito(MACHINE, MACHINE, frozenset(), scope="turnlog/ask"),
    # With a `resource` in the request for the token, the access token has an `aud` beside its client.
    "cognito, bound to a resource": Token(
        POOL,
        ("https://turnlog.example/",),
        "cognito:groups",
        {"sub": PERSON, "aud": "https://turnlog.example/", "client_id": APP, "token_use": "access"},
        PERSON,
    ),
}
AUTH0S = {
    "auth0, a user": Token(
        AUTH0,
        ("https://turnlog.example/",),
        "https://app.example/roles",
        {
            "sub": "auth0|6553da60a54af58e29493993",
            "aud": ["https://turnlog.example/", f"{AUTH0}userinfo"],
            "azp": "my_client_id",
            "scope": "openid profile",
            "https://app.example/roles": ["admin"],
        },
        "auth0|6553da60a54af58e29493993",
        frozenset({"admin"}),
        {"typ": "JWT"},
    ),
    "auth0, by the profile of RFC 9068": Token(
        AUTH0,
        ("https://turnlog.example/",),
        "permissions",
        {
            "sub": "auth0|123456",
            "aud": ["https://turnlog.example/", f"{AUTH0}userinfo"],
            "client_id": "my_client_id",
            "jti": "73WakrfVbNJBaAmhQtEeDv",
            "permissions": ["admin", "admin:content"],
        },
        "auth0|123456",
        frozenset({"admin", "admin:content"}),
        {"typ": "at+jwt"},
    ),
    "auth0, a machine": Token(
        AUTH0,
        ("https://turnlog.example/",),
        "permissions",
        {
            "sub": "awZfdIir8YFdGZWkvCejDoUb7SjTDicx@clients",
            "aud": "https://turnlog.example/",
            "azp": "awZfdIir8YFdGZWkvCejDoUb7SjTDicx",
            "gty": "client-credentials",
            "scope": "delegate",
            "permissions": ["delegate"],
        },
        "awZfdIir8YFdGZWkvCejDoUb7SjTDicx@clients",
        frozenset({"delegate"}),
        {"typ": "JWT"},
    ),
}


def entra(issuer: str, audience: str, subject: str, roles: list[str], **claims: Any) -> Token:
    common = {"sub": subject, "aud": audience, "oid": "o", "tid": TENANT, "nbf": NOW, "roles": roles, "uti": "u"}
    header = {"typ": "JWT", "x5t": "k1"} if issuer == ENTRA_1 else {"typ": "JWT"}
    return Token(issuer, (audience,), "roles", common | claims, subject, frozenset(roles), header)


ENTRA = {
    "entra, a user": entra(ENTRA_2, API, "pairwise", ["admin"], azp=CLIENT, azpacr="1", scp="ask", ver="2.0"),
    "entra, a machine": entra(ENTRA_2, API, "o", ["delegate"], azp=CLIENT, azpacr="1", ver="2.0", idtyp="app"),
    "entra, version 1": entra(
        ENTRA_1, f"api://{API}", "pairwise", ["admin"], appid=CLIENT, appidacr="0", acr="1", scp="ask", ver="1.0"
    ),
}
OKTAS = {
    "okta, a user": Token(
        OKTA,
        ("api://default",),
        "groups",
        {
            "sub": "ada@example.com",
            "aud": "api://default",
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "cid": "nmdP1fcyvdVO11AL7ECm",
            "uid": "00ujmkLgagxeRrAg20g3",
            "scp": ["openid", "ask"],
            "groups": ["Everyone", "admin"],
        },
        "ada@example.com",
        frozenset({"Everyone", "admin"}),
    ),
    "okta, a machine": Token(
        OKTA,
        ("api://default",),
        "scp",
        {"sub": "0oab8eb55Kb9jdMIr5d6", "aud": "api://default", "cid": "0oab8eb55Kb9jdMIr5d6", "scp": ["delegate"]},
        "0oab8eb55Kb9jdMIr5d6",
        frozenset({"delegate"}),
    ),
}
TOKENS = {**COGNITO, **AUTH0S, **ENTRA, **OKTAS}
FOR_EACH = pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)


@pytest.fixture(scope="module")
def keys() -> Iterator[str]:
    issuers = IssuersServer()
    with issuers.server:
        yield f"{issuers.server.url}/jwks.json"


@FOR_EACH
def test_a_token_names_its_owner_and_brings_its_roles(keys: str, token: Token) -> None:
    verified = token.verified(keys)
    assert (verified.owner, verified.roles) == (f"{token.issuer}|{token.subject}", token.roles)


@pytest.mark.asvs("9.2.3")
@FOR_EACH
def test_a_token_for_another_audience_or_of_another_issuer_is_refused(keys: str, token: Token) -> None:
    named = {"aud", "client_id"} & token.claims.keys()
    ours = token.audiences[0]
    values: list[object] = ["another", None, "", [], ["another"], [ours, 1], [[ours]], {ours: ours}, f" {ours}"]
    refused: list[dict[str, Any]] = [dict.fromkeys(named, value) for value in values]
    other = token.issuer.removesuffix("/") if token.issuer.endswith("/") else f"{token.issuer}/"
    for changed in [*refused, {"iss": other}, {"iss": token.issuer.replace("https", "http")}]:
        with pytest.raises(Unauthorized):
            token.verified(keys, **changed)


@pytest.mark.asvs("9.2.2")
@pytest.mark.parametrize("use", ["id", "refresh", "Access", "", 1, True, ["access"], {"access": 1}], ids=str)
def test_a_token_of_cognito_for_any_other_use_is_refused(keys: str, use: object) -> None:
    """Its ID token has the client as `aud`, and the same issuer and groups."""
    for claims in ({"aud": None}, {"aud": APP}, {"aud": [APP]}):
        with pytest.raises(Unauthorized):
            COGNITO["cognito, a user"].verified(keys, token_use=use, **claims)


@pytest.mark.asvs("9.2.3")
def test_a_client_stands_for_an_audience_in_a_token_of_cognito_alone(keys: str) -> None:
    others: list[dict[str, Any]] = [{"token_use": None}, {"aud": "another"}, {"aud": ["another"]}, {"aud": []}]
    for changed in others:
        with pytest.raises(Unauthorized):
            COGNITO["cognito, a user"].verified(keys, **changed)


def test_an_identity_token_is_refused_where_the_api_is_registered_apart(keys: str) -> None:
    for token, client in ((AUTH0S["auth0, a user"], "my_client_id"), (ENTRA["entra, a user"], CLIENT)):
        with pytest.raises(Unauthorized):
            token.verified(keys, aud=client)


@pytest.mark.asvs("9.2.2")
def test_a_token_for_the_apis_of_okta_itself_is_refused(keys: str) -> None:
    token = OKTAS["okta, a user"]
    internal = Token(**{**vars(token), "header": {"typ": "application/okta-internal-at+jwt"}})
    with pytest.raises(Unauthorized):
        internal.verified(keys)
