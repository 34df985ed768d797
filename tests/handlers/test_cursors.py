"""A cursor is good for the list that gave it, and for no other of the same caller and the same session."""

from __future__ import annotations

import string

import pytest

from tests.fakes import OWNER, SERVER_KEY
from tests.handlers.conftest import Call
from tests.handlers.every_route import Everybody, Route
from tests.handlers.test_session import create, take
from turnlog.entrypoints.http.openapi.operations import OPERATIONS
from turnlog.errors import InvalidRequest
from turnlog.usecases import turn_pages
from turnlog.usecases.cursors import make_cursor, read_cursor

ALPHABET = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
WHO = {"owner": OWNER, "roles": "admin admin:content"}
LISTS = [route for route, each in OPERATIONS.items() if "cursor" in each.asks]


def with_cursor(call: Call, monkeypatch: pytest.MonkeyPatch, route: Route) -> tuple[Everybody, str]:
    """The scene after the first page of the list, which has one item, and the cursor of the next."""
    monkeypatch.setattr(turn_pages, "MOST_BYTES", 1)  # so that every part has one turn
    everybody = Everybody(call)
    take(call, everybody.own, "again")
    take(call, str(create(call).body["session_id"]), "hello")
    first = {"limit": ["1"]} if "limit" in OPERATIONS[route].asks else None
    return everybody, everybody.ask(route, query=first, **WHO).body["next"]


@pytest.mark.asvs("8.2.2")
@pytest.mark.parametrize("route", LISTS, ids=" ".join)
def test_it_is_taken_by_its_own_list_alone(call: Call, monkeypatch: pytest.MonkeyPatch, route: Route) -> None:
    everybody, cursor = with_cursor(call, monkeypatch, route)
    taken = {each for each in LISTS if everybody.ask(each, query={"cursor": [cursor]}, **WHO).status == 200}
    assert taken == {route}


def other_texts(token: str) -> list[str]:
    """Texts that a lenient decoder takes for the same token: padding, bits that no byte uses, foreign characters."""
    unused = {2: 16, 3: 4}.get(len(token) % 4, 1)
    last = ALPHABET.index(token[-1])
    altered = [token[:-1] + ALPHABET[last - last % unused + bits] for bits in range(unused)]
    padded = [token + "=" * many for many in (1, 2, 3, 4)]
    foreign = [token + end for end in ("\n", " ", "!", ".", "\x00")] + [f" {token}", f"{token[:5]}\n{token[5:]}"]
    return [text for text in [*altered, *padded, *foreign, token.swapcase()] if text != token]


@pytest.mark.parametrize("length", [19, 20, 21])
def test_it_has_one_text_alone(length: int) -> None:
    token = make_cursor(SERVER_KEY, "p" * length, "list", "ada")
    assert read_cursor(SERVER_KEY, token, "list", "ada") == "p" * length
    for text in other_texts(token):
        with pytest.raises(InvalidRequest, match="cursor_invalid"):
            read_cursor(SERVER_KEY, text, "list", "ada")


@pytest.mark.parametrize("route", LISTS, ids=" ".join)
def test_every_list_takes_it_as_it_came_alone(call: Call, monkeypatch: pytest.MonkeyPatch, route: Route) -> None:
    everybody, cursor = with_cursor(call, monkeypatch, route)
    for text in other_texts(cursor):
        answer = everybody.ask(route, query={"cursor": [text]}, **WHO)
        assert (answer.status, answer.body["code"]) == (400, "cursor_invalid")


@pytest.mark.parametrize("more", ["", "!", "!!"])
def test_a_continuation_is_taken_as_it_came_alone(call: Call, more: str) -> None:
    asked = {"message": f"hello{more}", "continuable": True}
    continuation = str(call("query", "POST", "/query", asked).body["continuation"])
    for text in other_texts(continuation):
        answer = create(call, {"continuation": text})
        assert (answer.status, answer.body["code"]) == (422, "continuation_invalid")
    assert create(call, {"continuation": continuation}).status == 201


def test_that_of_a_look_at_content_is_good_for_one_administrator(call: Call) -> None:
    everybody, route = Everybody(call), ("POST", "/admin/sessions/{ref}/content")
    take(call, everybody.own, "again")
    cursor = everybody.ask(route, query={"limit": ["1"]}).body["next"]
    assert everybody.ask(route, query={"cursor": [cursor]}).status == 200
    another = everybody.ask(route, query={"cursor": [cursor]}, owner="https://issuer.example/|another")
    assert (another.status, another.body["code"]) == (400, "cursor_invalid")
