"""Only a valid token of the right issuer and audience names a caller; every other token is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from local.loopback import GuardedHandler, LoopbackServer
from tests.fakes import KeptLog
from tests.handlers.conftest import Context, app, event
from turnlog import runtime
from turnlog.adapters.jwt_tokens import JwtVerifier
from turnlog.domain.owners import owner_hash
from turnlog.entrypoints.http.request import Request
from turnlog.errors import IssuerUnavailable, Unauthorized

ISSUER, AUDIENCE = "https://issuer.example/", "turnlog"


def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


KEY, OTHER_KEY = private_key(), private_key()


def token(key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **claims: Any) -> str:
    whole = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 600} | claims
    present = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(present, key, algorithm=algorithm, headers={"kid": kid})


def published(key: Any = KEY, kid: str = "k1") -> dict[str, Any]:
    """The public key in the form of an issuer's JWKS."""
    public: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return public | {"kid": kid, "use": "sig"}


class IssuersServer:
    """Answers with `document`, or with a status when it is one, and counts the requests."""

    def __init__(self) -> None:
        self.document: object = {"keys": [published()]}
        self.asked = 0
        self.before_answer: Callable[[], object] = lambda: None
        issuer = self

        class Keys(GuardedHandler):
            def answer(self) -> None:
                issuer.asked += 1
                issuer.before_answer()
                found = issuer.document
                self.send_json(found if isinstance(found, int) else 200, found)

        self.server = LoopbackServer(0, Keys, "issuer")


class HeldMonotonic:
    """A clock in seconds that only the test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def issuer() -> Iterator[IssuersServer]:
    issuers = IssuersServer()
    with issuers.server:
        yield issuers


@pytest.fixture
def clock() -> HeldMonotonic:
    return HeldMonotonic()


@pytest.fixture
def verifier(issuer: IssuersServer, clock: HeldMonotonic) -> JwtVerifier:
    return JwtVerifier(ISSUER, (AUDIENCE,), f"{issuer.server.url}/jwks.json", clock)


@pytest.fixture
def authorize(verifier: JwtVerifier, audit: KeptLog, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(runtime, "token_verifier", lambda: verifier)
    return lambda header: app("authorizer").handler(event("authorizer") | {"authorizationToken": header}, Context())


STAGE = "arn:aws:execute-api:us-east-1:123456789012:a1b2c3d4e5/v1"


def test_a_valid_token_is_allowed_to_every_route_of_a_user_and_names_its_owner(authorize: Any) -> None:
    answer = authorize(f"Bearer {token(exp=4102444800)}")
    allow, deny = answer["policyDocument"]["Statement"]
    assert allow == {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": [f"{STAGE}/*/*"]}
    assert deny["Effect"] == "Deny"
    assert answer["context"] == {
        "owner": "https://issuer.example/|ada",
        "kind": "user",
        "expires": "4102444810",
        "roles": "",
    }
    assert "ada" not in answer["principalId"]


class TestRoles:
    @pytest.mark.asvs("8.2.1")
    @pytest.mark.parametrize(
        ("claim", "roles"),
        [
            (["admin"], "admin"),
            ("admin", "admin"),
            (["user", "admin:content", "admin"], "admin admin:content"),
            ("user admin:content admin", "admin admin:content"),
            (["admin:content"], "admin:content"),
            (["delegate"], "delegate"),
            ("delegate admin", "admin delegate"),
            ([], ""),
            ("", ""),
            (["Admin", "administrator", " admin", "admin user", "admin,admin:content"], ""),
            ("admin,admin:content", ""),
            ("admin\tadmin:content", ""),
            (["admin", 1], ""),
            ([["admin"]], ""),
            ({"admin": True}, ""),
            (True, ""),
            (1, ""),
        ],
        ids=str,
    )
    def test_are_those_of_the_claim_and_nothing_that_looks_like_them(
        self, authorize: Any, claim: object, roles: str
    ) -> None:
        assert authorize(f"Bearer {token(roles=claim)}")["context"]["roles"] == roles

    def test_of_another_claim_are_none(self, authorize: Any) -> None:
        assert authorize(f"Bearer {token(role='admin', groups=['admin'], scope='admin')}")["context"]["roles"] == ""

    @pytest.mark.asvs("8.3.2")
    def test_that_were_taken_away_are_gone_with_the_next_token(self, authorize: Any) -> None:
        given = [authorize(f"Bearer {token(roles=roles)}")["context"]["roles"] for roles in (["admin"], [], ["admin"])]
        assert given == ["admin", "", "admin"]

    @pytest.mark.parametrize("name", ["cognito:groups", "https://example.com/roles"])
    def test_come_from_the_claim_that_the_deployment_names(self, issuer: IssuersServer, name: str) -> None:
        verifier = JwtVerifier(ISSUER, (AUDIENCE,), f"{issuer.server.url}/jwks.json", roles_claim=name)
        claims: Any = {name: ["admin"]}
        assert verifier.verify(token(**claims, roles=["admin:content"])).roles == {"admin"}

    @pytest.mark.asvs("8.2.1")
    @pytest.mark.parametrize(
        ("roles", "admin_routes", "content_routes"),
        [
            ([], False, False),
            (["user"], False, False),
            (["admin:content"], False, False),
            (["delegate"], False, False),
            (["admin"], True, False),
            (["admin", "admin:content"], True, True),
        ],
        ids=str,
    )
    def test_open_the_admin_routes_at_the_gateway_in_any_cached_policy(
        self, authorize: Any, roles: list[str], admin_routes: bool, content_routes: bool
    ) -> None:
        policy = authorize(f"Bearer {token(roles=roles)}")["policyDocument"]
        assert lets_in(policy, "GET/sessions")
        assert lets_in(policy, "POST/query")
        for path in (
            "GET/admin/users/abc/sessions",
            "POST/admin/users/abc/terminate",
            "POST/admin/sessions/r/terminate",
        ):
            assert lets_in(policy, path) is admin_routes
        assert lets_in(policy, "POST/admin/sessions/ref/content") is content_routes

    @pytest.mark.asvs("16.3.2")
    def test_that_are_missing_are_audited_before_the_gateway_refuses(
        self, verifier: JwtVerifier, audit: KeptLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runtime, "token_verifier", lambda: verifier)
        for roles, path in (([], "GET/admin/users/SECRET/sessions"), (["admin"], "GET/admin/users/SECRET/sessions")):
            asked = {"authorizationToken": f"Bearer {token(roles=roles)}", "methodArn": f"{STAGE}/{path}"}
            app("authorizer").handler(event("authorizer") | asked, Context())
        (denied,) = audit.events
        assert denied == {
            "action": "denied",
            "request_id": Context.aws_request_id,
            "route": "GET /admin",
            "owner": owner_hash("https://issuer.example/|ada"),
            "reason": "forbidden",
        }


def lets_in(policy: dict[str, Any], path: str) -> bool:
    """Decides like the gateway: a star stands for any text, and a denial wins."""

    def speaks_of_it(statement: dict[str, Any]) -> bool:
        patterns = [re.escape(each).replace(r"\*", ".*") for each in statement["Resource"]]
        return any(re.fullmatch(pattern, f"{STAGE}/{path}") for pattern in patterns)

    return [each["Effect"] for each in policy["Statement"] if speaks_of_it(each)] == ["Allow"]


def test_the_scheme_is_compared_without_case(authorize: Any) -> None:
    assert authorize(f"bearer {token()}")["context"]["owner"].endswith("|ada")


@pytest.mark.asvs("9.2.2")
@pytest.mark.parametrize(
    ("kind", "is_believed"),
    [("JWT", True), ("at+jwt", True), ("application/AT+JWT", True), ("logout+jwt", False), ("dpop+jwt", False)],
)
def test_a_token_of_another_kind_is_not_taken_for_one_of_access(
    verifier: JwtVerifier, kind: str, is_believed: bool
) -> None:
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 600}
    made = jwt.encode(claims, KEY, algorithm="RS256", headers={"kid": "k1", "typ": kind})
    if is_believed:
        assert verifier.verify(made).owner.endswith("|ada")
    else:
        with pytest.raises(Unauthorized):
            verifier.verify(made)


def test_elliptic_keys_are_believed_as_well(verifier: JwtVerifier, issuer: IssuersServer) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    issuer.document = {"keys": [public | {"kid": "e1"}]}
    assert verifier.verify(token(key, "ES256", "e1")).owner.endswith("|ada")


def unsigned(header: dict[str, Any], signature: bytes = b"") -> str:
    """A token with any header, signed by hand."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 600}
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_with_the_public_key() -> str:
    """A token signed with the public key as an HMAC's secret, which works when a token may choose the algorithm."""
    pem = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    whole = unsigned({"alg": "HS256", "typ": "JWT", "kid": "k1"})
    signature = hmac.new(pem, whole.rpartition(".")[0].encode(), hashlib.sha256).digest()
    return whole + base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def changed(whole: str) -> str:
    """A token with the same header and signature over other claims."""
    header, _, signature = whole.split(".")
    return f"{header}.{token(sub='eve').split('.')[1]}.{signature}"


NOW = int(time.time())
SIGNATURE, ALGORITHM, KEY_SOURCE, TIME, AUDIENCE_ISSUER = "9.1.1", "9.1.2", "9.1.3", "9.2.1", "9.2.3"
FORGED = [
    ("nothing", "", SIGNATURE),
    ("no scheme", "abc", SIGNATURE),
    ("another scheme", f"Basic {token()}", SIGNATURE),
    ("not a token", "Bearer abc", SIGNATURE),
    ("a header that nests too deep", f"Bearer {base64.b64encode(b'[' * 9000).decode()}.e30.AAAA", SIGNATURE),
    ("text that no bytes stand for", "Bearer \ud800.e30.AAAA", SIGNATURE),
    ("other claims", f"Bearer {changed(token())}", SIGNATURE),
    ("no signature", f"Bearer {token().rpartition('.')[0]}.", SIGNATURE),
    ("another key", f"Bearer {token(OTHER_KEY)}", SIGNATURE),
    ("algorithm none", f"Bearer {unsigned({'alg': 'none', 'kid': 'k1'})}", ALGORITHM),
    ("algorithm None", f"Bearer {unsigned({'alg': 'None', 'kid': 'k1'})}", ALGORITHM),
    ("no algorithm", f"Bearer {unsigned({'kid': 'k1'})}", ALGORITHM),
    ("a shared secret", f"Bearer {token('x' * 64, 'HS256')}", ALGORITHM),
    ("the public key as a shared secret", f"Bearer {signed_with_the_public_key()}", ALGORITHM),
    ("an algorithm that is not pinned", f"Bearer {token(KEY, 'RS512')}", ALGORITHM),
    ("an unknown key id", f"Bearer {token(OTHER_KEY, kid='k2')}", KEY_SOURCE),
    ("no key id", f"Bearer {unsigned({'alg': 'RS256'}, b'x' * 256)}", KEY_SOURCE),
    ("a key id that is no text", f"Bearer {unsigned({'alg': 'RS256', 'kid': ['k1']}, b'x' * 256)}", KEY_SOURCE),
    ("expired", f"Bearer {token(exp=NOW - 60)}", TIME),
    ("expired by more than the leeway", f"Bearer {token(exp=NOW - 11)}", TIME),
    ("no expiry", f"Bearer {token(exp=None)}", TIME),
    ("an expiry that is no number", f"Bearer {token(exp='tomorrow')}", TIME),
    ("not valid yet", f"Bearer {token(nbf=NOW + 300)}", TIME),
    ("issued in the future", f"Bearer {token(iat=NOW + 300)}", TIME),
    ("another issuer", f"Bearer {token(iss='https://evil.example/')}", AUDIENCE_ISSUER),
    ("no issuer", f"Bearer {token(iss=None)}", AUDIENCE_ISSUER),
    ("another audience", f"Bearer {token(aud='else')}", AUDIENCE_ISSUER),
    ("no audience", f"Bearer {token(aud=None)}", AUDIENCE_ISSUER),
    ("no subject", f"Bearer {token(sub=None)}", SIGNATURE),
    ("an empty subject", f"Bearer {token(sub='')}", SIGNATURE),
    ("a subject that is no text", f"Bearer {token(sub=['ada'])}", SIGNATURE),
    ("a subject that is no Unicode", f"Bearer {token(sub='ada' + chr(0xD800))}", SIGNATURE),
]


@pytest.mark.parametrize(
    "header", [pytest.param(header, marks=pytest.mark.asvs(number), id=name) for name, header, number in FORGED]
)
def test_any_other_token_is_unauthorized(authorize: Any, header: str) -> None:
    # The gateway answers 401 to an exception with exactly this text.
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        authorize(header)


@pytest.mark.asvs("9.1.3")
@pytest.mark.parametrize("name", ["jwk", "jku", "x5u"])
def test_a_token_cannot_bring_its_own_key(verifier: JwtVerifier, issuer: IssuersServer, name: str) -> None:
    theirs = published(OTHER_KEY)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 600}
    there = theirs if name == "jwk" else f"{issuer.server.url}/theirs.json"
    with pytest.raises(Unauthorized):
        verifier.verify(jwt.encode(claims, OTHER_KEY, "RS256", headers={"kid": "k1", name: there}))
    assert issuer.asked == 1


@pytest.mark.asvs("9.1.2")
def test_a_token_of_another_algorithm_is_refused_before_the_issuer_is_asked(
    verifier: JwtVerifier, issuer: IssuersServer
) -> None:
    with pytest.raises(Unauthorized):
        verifier.verify(token("x" * 64, "HS256"))
    assert issuer.asked == 0


@pytest.mark.asvs("9.2.1")
def test_a_function_judges_the_expiry_like_the_authorizer(authorize: Any) -> None:
    """The gateway caches the authorizer's answer; behind it only the context has the token's expiry."""
    end_s = int(time.time()) - 3  # within the leeway of 10 s
    verified = authorize(f"Bearer {token(exp=end_s)}")["context"]

    def owner_at(now_ms: int) -> str:
        return Request({"requestContext": {"authorizer": verified}}, now_ms).caller.owner

    assert owner_at((end_s + 10) * 1000 - 1) == "https://issuer.example/|ada"
    with pytest.raises(Unauthorized):
        owner_at((end_s + 10) * 1000)


class TestTheIssuersKeys:
    def test_are_fetched_once_in_five_minutes(
        self, verifier: JwtVerifier, issuer: IssuersServer, clock: HeldMonotonic
    ) -> None:
        for passed_s in (0, 1, 298):
            clock.now_s += passed_s
            verifier.verify(token())
        assert issuer.asked == 1
        clock.now_s += 1
        verifier.verify(token())
        assert issuer.asked == 2

    def test_are_waited_for_by_all_who_come_while_they_are_fetched(
        self, verifier: JwtVerifier, issuer: IssuersServer
    ) -> None:
        together = threading.Barrier(8, timeout=10)
        all_have_come = threading.Event()
        issuer.before_answer = lambda: all_have_come.wait(10)

        def verify() -> str:
            together.wait()
            all_have_come.set()
            return verifier.verify(token()).owner

        with ThreadPoolExecutor(8) as callers:
            owners = [each.result() for each in [callers.submit(verify) for _ in range(8)]]
        assert owners == [f"{ISSUER}|ada"] * 8
        assert issuer.asked == 1

    def test_may_be_rotated_and_the_new_one_is_known_at_once(
        self, verifier: JwtVerifier, issuer: IssuersServer, clock: HeldMonotonic
    ) -> None:
        verifier.verify(token())
        issuer.document = {"keys": [published(OTHER_KEY, "k2")]}
        clock.now_s += 10
        assert verifier.verify(token(OTHER_KEY, kid="k2")).owner.endswith("|ada")
        with pytest.raises(Unauthorized):
            verifier.verify(token())

    def test_are_not_asked_for_by_a_flood_of_unknown_names(
        self, verifier: JwtVerifier, issuer: IssuersServer, clock: HeldMonotonic
    ) -> None:
        for number in range(100):
            clock.now_s += 0.2
            with pytest.raises(Unauthorized):
                verifier.verify(token(OTHER_KEY, kid=f"unknown-{number}"))
        assert issuer.asked == 2  # 20 seconds

    @pytest.mark.parametrize(
        "document",
        [
            *({}, {"keys": []}, {"keys": None}, {"keys": ["key"]}, {"error": "moved"}, [], None, "keys", 500, 404, 302),
            {"keys": [published() | {"use": "enc"}]},
            {"keys": [{"kty": "odd", "kid": "k1"}]},
        ],
        ids=lambda document: str(document)[:40],
    )
    def test_that_cannot_be_had_call_no_token_invalid(
        self, authorize: Any, issuer: IssuersServer, clock: HeldMonotonic, document: object
    ) -> None:
        issuer.document = document
        for _ in range(20):
            clock.now_s += 0.2
            with pytest.raises(IssuerUnavailable):
                authorize(f"Bearer {token()}")
        assert issuer.asked == 1  # an issuer in trouble is not asked by every request
        issuer.document = {"keys": [published()]}
        clock.now_s += 10
        assert authorize(f"Bearer {token()}")["context"]["owner"].endswith("|ada")

    def test_stay_good_while_the_issuer_is_away(
        self, verifier: JwtVerifier, issuer: IssuersServer, clock: HeldMonotonic
    ) -> None:
        verifier.verify(token())
        issuer.document = 503
        clock.now_s += 60
        with pytest.raises(IssuerUnavailable):
            verifier.verify(token(OTHER_KEY, kid="k2"))
        assert verifier.verify(token()).owner.endswith("|ada")

    def test_cannot_be_had_of_nobody(self) -> None:
        nowhere = JwtVerifier(ISSUER, (AUDIENCE,), "http://127.0.0.1:9/jwks.json")
        with pytest.raises(IssuerUnavailable):
            nowhere.verify(token())
