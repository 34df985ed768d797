"""An issuer's published keys: what is no usable key set is refused with the reason, and a bad key spoils no other."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import threading
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from local.loopback import GuardedHandler, LoopbackServer
from tests.unit.test_jwt_tokens import AUDIENCE, ISSUER, KEY, OTHER_KEY, published, token, unsigned
from turnlog.adapters.jwt_tokens import JwtVerifier, find_keys, read_signing_keys
from turnlog.adapters.jwt_tokens.issuer import MOST_BYTES
from turnlog.domain import base64url
from turnlog.errors import IssuerUnavailable, Unauthorized

DISCOVERY = "/.well-known/openid-configuration"


class Publisher:
    """Serves the bytes at each path; a path with a text instead moves to that address."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes | str] = {}
        self.asked: list[tuple[str, str]] = []
        self.was_cut_off = threading.Event()
        publisher = self

        class Documents(GuardedHandler):
            def answer(self) -> None:
                publisher.asked.append((self.path, self.headers["User-Agent"]))
                found = publisher.documents.get(self.path, b"")
                self.send_response(302 if isinstance(found, str) else 200 if found else 404)
                body = b"" if isinstance(found, str) else found
                self.send_header("Content-Length", str(len(body)))
                if isinstance(found, str):
                    self.send_header("Location", found)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except ConnectionError:  # the reader has had enough
                    publisher.was_cut_off.set()

        self.server = LoopbackServer(0, Documents, "publisher")

    @property
    def url(self) -> str:
        return f"{self.server.url}/jwks.json"

    def publish(self, *keys: object) -> str:
        """Publishes the keys, and returns their address."""
        self.documents["/jwks.json"] = json.dumps({"keys": keys}).encode()
        return self.url


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    with made.server:
        yield made


def elliptic(curve: ec.EllipticCurve) -> dict[str, Any]:
    key = ec.generate_private_key(curve)
    made: dict[str, Any] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return made | {"kid": "k1"}


def rsa_of(bits: int) -> dict[str, Any]:
    return published(rsa.generate_private_key(public_exponent=65537, key_size=bits))


SHARED = {"kty": "oct", "k": base64url.encode(b"x" * 64), "kid": "k1"}
EDWARDS = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key()))
P_256 = elliptic(ec.SECP256R1())
UNUSABLE: dict[str, object] = {
    "no object": "key",
    "null": None,
    "empty": {},
    "without a name": {**published(), "kid": None},
    "with a number for a name": {**published(), "kid": 1},
    "for encryption": {**published(), "use": "enc"},
    "for an unknown use": {**published(), "use": ["sig"]},
    "for another algorithm": {**published(), "alg": "RS512"},
    "for encryption by its algorithm": {**published(), "alg": "RSA-OAEP"},
    "with an algorithm that is no text": {**published(), "alg": ["RS256"]},
    "for no algorithm": {**published(), "alg": "none"},
    "private": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY)) | {"kid": "k1"},
    "without its number": {name: value for name, value in published().items() if name != "n"},
    "with a number that is no text": {**published(), "n": 5},
    "with a number that is no base64": {**published(), "n": "!"},
    "with half of a surrogate pair": {**published(), "n": "\ud800"},
    "short": rsa_of(1024),
    "of 40,000 bits": {**published(), "n": base64url.encode(b"\xff" * 5000)},
    "on P-521": elliptic(ec.SECP521R1()),
    "on P-521, said to be for ES256": elliptic(ec.SECP521R1()) | {"alg": "ES256"},
    "on P-384": elliptic(ec.SECP384R1()),
    "on another curve": elliptic(ec.SECP256K1()),
    "on no curve": {**P_256, "crv": "P-1"},
    "beside its curve": {**P_256, "y": P_256["x"]},
    "of Edwards": {**EDWARDS, "kid": "k1"},
    "shared": SHARED,
    "shared, said to be for RS256": SHARED | {"alg": "RS256"},
    "shared, said to be of RSA": SHARED | {"kty": "RSA"},
    "odd": {"kty": "odd", "kid": "k1"},
}


@pytest.mark.asvs("9.1.3")
@pytest.mark.parametrize("bad", UNUSABLE.values(), ids=UNUSABLE)
def test_a_key_that_cannot_check_a_token_is_left_out_and_spoils_no_other(publisher: Publisher, bad: object) -> None:
    good = published(OTHER_KEY, "k2")
    for keys in ([bad, good], [good, bad], [bad, good, bad]):
        assert read_signing_keys(publisher.publish(*keys)).keys() == {("k2", "RS256")}
    with pytest.raises(IssuerUnavailable, match="none of the issuer's keys"):
        read_signing_keys(publisher.publish(bad))


@pytest.mark.asvs("9.1.2")
def test_a_shared_key_that_is_published_verifies_nothing(publisher: Publisher) -> None:
    publisher.publish(SHARED, SHARED | {"alg": "RS256"}, published(kid="k2"))
    verifier = JwtVerifier(ISSUER, (AUDIENCE,), publisher.url)
    secret = base64url.decode(SHARED["k"])
    for algorithm in ("HS256", "RS256"):
        signed = unsigned({"alg": algorithm, "kid": "k1"}).rpartition(".")[0]
        signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        with pytest.raises(Unauthorized):
            verifier.verify(f"{signed}.{base64url.encode(signature)}")
    assert verifier.verify(token(kid="k2")).owner.endswith("|ada")


def test_of_two_keys_with_one_name_the_first_counts(publisher: Publisher) -> None:
    publisher.publish({**published(), "use": "enc"}, published(), published(OTHER_KEY))
    verifier = JwtVerifier(ISSUER, (AUDIENCE,), publisher.url)
    assert verifier.verify(token()).owner.endswith("|ada")
    with pytest.raises(Unauthorized):
        verifier.verify(token(OTHER_KEY))


def test_two_types_of_keys_may_share_a_name(publisher: Publisher) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    publisher.publish(json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "k1"}, published())
    verifier = JwtVerifier(ISSUER, (AUDIENCE,), publisher.url)
    for made in (token(), token(key, "ES256")):
        assert verifier.verify(made).owner.endswith("|ada")


def test_of_a_thousand_keys_each_counts_and_they_are_read_once(publisher: Publisher) -> None:
    publisher.publish(*({**published(), "kid": f"n{number}"} for number in range(999)), published(OTHER_KEY))
    verifier = JwtVerifier(ISSUER, (AUDIENCE,), publisher.url)
    for made in (token(kid="n0"), token(kid="n500"), token(OTHER_KEY), token(kid="n998")):
        assert verifier.verify(made).owner.endswith("|ada")
    assert len(publisher.asked) == 1


NO_SETS = {
    "nothing": (b"", "answers 404"),
    "a page": (b"<html>Sign in</html>", "is no JSON"),
    "text that nests too deep": (b"[" * 200_000, "is no JSON"),
    "no UTF-8": (b'{"keys": "\xff"}', "is no JSON"),
    "a number": (b"5", "is no key set"),
    "a list": (b"[]", "is no key set"),
    "no list": (b'{"keys": {}}', "is no key set"),
    "no keys": (b'{"keys": []}', "none of the issuer's keys"),
    "another address": ("/other.json", "answers 302"),
    "10 MB": (b" " * 10_000_000 + b'{"keys": []}', f"is larger than {MOST_BYTES} bytes"),
    "a byte too much": (b" " * (MOST_BYTES + 1), f"is larger than {MOST_BYTES} bytes"),
}


@pytest.mark.asvs("16.5.2")
@pytest.mark.parametrize(("document", "reason"), NO_SETS.values(), ids=NO_SETS)
def test_what_is_no_key_set_is_refused_with_the_reason(
    publisher: Publisher, document: bytes | str, reason: str
) -> None:
    publisher.documents = {"/jwks.json": document, "/other.json": json.dumps({"keys": [published()]}).encode()}
    with pytest.raises(IssuerUnavailable, match=reason):
        read_signing_keys(publisher.url)
    with pytest.raises(IssuerUnavailable):
        JwtVerifier(ISSUER, (AUDIENCE,), publisher.url).verify(token())


def test_a_document_as_large_as_it_may_be_is_read(publisher: Publisher) -> None:
    written = json.dumps({"keys": [published()]}).encode()
    publisher.documents["/jwks.json"] = written + b" " * (MOST_BYTES - len(written))
    assert len(read_signing_keys(publisher.url)) == 1


def test_of_a_larger_one_no_more_is_read(publisher: Publisher) -> None:
    publisher.documents["/jwks.json"] = b" " * 40_000_000  # more than the connection holds by itself
    with pytest.raises(IssuerUnavailable, match="is larger"):
        read_signing_keys(publisher.url, lambda: 0.0)
    assert publisher.was_cut_off.wait(10)


def test_one_that_drips_in_is_given_up(publisher: Publisher) -> None:
    """The authorizer would be stopped with all keys that it knows."""
    passed_s = itertools.count(step=2)
    publisher.publish(published(), *("x" * 1000 for _ in range(500)))  # several reads
    with pytest.raises(IssuerUnavailable, match="cannot be reached"):
        read_signing_keys(publisher.url, lambda: next(passed_s))
    assert len(read_signing_keys(publisher.publish(published()), lambda: next(passed_s))) == 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/", "/jwks.json", "", "data:,{}"])
def test_an_address_that_is_none_of_the_web_is_not_opened(url: str) -> None:
    with pytest.raises(IssuerUnavailable, match="none of the web"):
        read_signing_keys(url)


def test_the_issuer_is_told_who_asks(publisher: Publisher) -> None:
    """Some issuers answer 403 to the name that Python's own library gives itself."""
    read_signing_keys(publisher.publish(published()))
    assert publisher.asked == [("/jwks.json", "turnlog")]


class TestAnIssuerBeforeADeploy:
    @pytest.fixture
    def issuer(self, publisher: Publisher) -> str:
        url = f"{publisher.server.url}/pool"
        publisher.documents[f"/pool{DISCOVERY}"] = json.dumps({"issuer": url, "jwks_uri": publisher.url}).encode()
        publisher.publish(published())
        return url

    def test_is_good_when_it_names_itself_so_and_has_a_key(self, publisher: Publisher, issuer: str) -> None:
        assert find_keys(issuer, publisher.url, scheme="http://") == publisher.url
        assert [path for path, _ in publisher.asked] == [f"/pool{DISCOVERY}", "/jwks.json"]

    def test_says_where_its_keys_are(self, publisher: Publisher, issuer: str) -> None:
        document = {"issuer": issuer, "jwks_uri": publisher.url}
        publisher.documents[f"/pool{DISCOVERY}"] = json.dumps(document).encode()
        assert find_keys(issuer, scheme="http://") == publisher.url

    @pytest.mark.parametrize("where", [None, 5, "ftp://issuer.example/keys", ""])
    def test_must_say_where_its_keys_are(self, publisher: Publisher, issuer: str, where: object) -> None:
        document = {"issuer": issuer, "jwks_uri": where}
        publisher.documents[f"/pool{DISCOVERY}"] = json.dumps(document).encode()
        with pytest.raises(IssuerUnavailable, match="address of the issuer's keys"):
            find_keys(issuer, scheme="http://")

    def test_is_asked_for_its_document_below_a_slash_at_its_end_as_well(self, publisher: Publisher) -> None:
        url = f"{publisher.server.url}/"
        publisher.documents[DISCOVERY] = json.dumps({"issuer": url}).encode()
        find_keys(url, publisher.publish(published()), scheme="http://")

    def test_needs_tls(self, publisher: Publisher, issuer: str) -> None:
        with pytest.raises(IssuerUnavailable, match=r"^the issuer 'http://.* does not begin with https://$"):
            find_keys(issuer, publisher.url)
        assert publisher.asked == []
        with pytest.raises(IssuerUnavailable, match=r"^the address of the issuer's keys, 'ftp://.*http://$"):
            find_keys(issuer, "ftp://issuer.example/keys", scheme="http://")

    def test_must_be_named_to_the_slash(self, publisher: Publisher, issuer: str) -> None:
        document = json.dumps({"issuer": f"{issuer}/"}).encode()
        publisher.documents[f"/pool{DISCOVERY}"] = document
        with pytest.raises(IssuerUnavailable, match="differs by a slash at its end"):
            find_keys(issuer, publisher.url, scheme="http://")

    @pytest.mark.parametrize("named", ["https://evil.example", None, ["x"], 5])
    def test_must_give_itself_that_name(self, publisher: Publisher, issuer: str, named: object) -> None:
        publisher.documents[f"/pool{DISCOVERY}"] = json.dumps({"issuer": named}).encode()
        with pytest.raises(IssuerUnavailable, match="is not the name"):
            find_keys(issuer, publisher.url, scheme="http://")

    @pytest.mark.parametrize(("document", "reason"), NO_SETS.values(), ids=NO_SETS)
    def test_must_publish_a_usable_key(
        self, publisher: Publisher, issuer: str, document: bytes | str, reason: str
    ) -> None:
        publisher.documents["/jwks.json"] = document
        with pytest.raises(IssuerUnavailable, match=reason):
            find_keys(issuer, publisher.url, scheme="http://")

    @pytest.mark.parametrize(("document", "reason"), [(b"<html>", "is no JSON"), (b" " * 2_000_000, "is larger")])
    def test_must_have_a_readable_document(
        self, publisher: Publisher, issuer: str, document: bytes, reason: str
    ) -> None:
        publisher.documents[f"/pool{DISCOVERY}"] = document
        with pytest.raises(IssuerUnavailable, match=reason):
            find_keys(issuer, publisher.url, scheme="http://")
