"""A request belongs to the caller that the authorizer names, and its roles decide what it may do."""

from __future__ import annotations

from typing import Any

import pytest

from turnlog.domain.owners import delegated_owner
from turnlog.entrypoints.http.request import Request
from turnlog.errors import Forbidden, Unauthorized
from turnlog.usecases.caller import Caller

ADMIN = {"owner": "https://issuer.example/|root", "kind": "user", "expires": "4102444800", "roles": "admin"}


def request(verified: dict[str, str] | None, **more: Any) -> Request:
    return Request({"requestContext": {"authorizer": verified}, **more}, now_ms=1_790_000_000_000)


def test_a_role_that_the_token_brings_is_there() -> None:
    request(ADMIN).require_role("admin")
    request(ADMIN | {"roles": "admin admin:content"}).require_role("admin:content")


@pytest.mark.asvs("8.2.1")
@pytest.mark.parametrize("roles", ["", "user", "admins", "admin:content", "admin,user", "Admin"])
def test_any_other_is_not(roles: str) -> None:
    with pytest.raises(Forbidden):
        request(ADMIN | {"roles": roles}).require_role("admin")


@pytest.mark.asvs("4.1.3")
def test_no_role_comes_from_anything_else_in_a_request() -> None:
    without = {name: value for name, value in ADMIN.items() if name != "roles"}
    claims = {"x-roles": "admin", "roles": "admin"}
    asked = request(without, headers=claims, queryStringParameters=claims, body='{"roles": "admin"}')
    with pytest.raises(Forbidden):
        asked.require_role("admin")


def test_an_anonymous_caller_has_none_whatever_is_said() -> None:
    with pytest.raises(Forbidden):
        request(ADMIN | {"kind": "anonymous"}).require_role("admin")


def test_a_user_is_the_caller_of_a_back_end_that_names_one() -> None:
    back_end = ADMIN | {"roles": "admin delegate"}
    named = request(back_end, headers={"Turnlog-User": "ada"})
    assert named.caller.owner == delegated_owner(ADMIN["owner"], "ada")
    assert named.caller.delegate == ADMIN["owner"]
    assert named.caller == named.user == named.recorded_caller
    with pytest.raises(Forbidden):
        named.require_role("admin")
    assert request(back_end).caller == Caller(ADMIN["owner"], source="unknown")


@pytest.mark.asvs("4.1.3")
@pytest.mark.parametrize("verified", [ADMIN, ADMIN | {"roles": "delegates"}, ADMIN | {"kind": "anonymous"}], ids=str)
def test_nobody_else_names_one_whatever_else_a_request_says(verified: dict[str, str]) -> None:
    more = {"x-roles": "delegate", "roles": "delegate", "Turnlog-User": "ada"}
    asked = request(verified, headers=more, queryStringParameters=more)
    with pytest.raises(Forbidden):
        asked.caller  # noqa: B018
    assert asked.recorded_caller.owner == ADMIN["owner"]


@pytest.mark.parametrize("verified", [None, {}, ADMIN | {"expires": "1"}, {"roles": "admin"}], ids=str)
def test_nobody_and_a_token_that_has_expired_have_none(verified: dict[str, str] | None) -> None:
    with pytest.raises(Unauthorized):
        request(verified).require_role("admin")
