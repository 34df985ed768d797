"""A cursor is good for the list that gave it, and for no other of the same caller and the same session."""

from __future__ import annotations

import pytest

from tests.fakes import OWNER
from tests.handlers.conftest import Call
from tests.handlers.every_route import Everybody, Route
from tests.handlers.test_session import create, take
from turnlog.entrypoints.http.openapi.operations import OPERATIONS
from turnlog.usecases import turn_pages

LISTS = [route for route, each in OPERATIONS.items() if "cursor" in each.asks]


@pytest.mark.asvs("8.2.2")
@pytest.mark.parametrize("route", LISTS, ids=" ".join)
def test_it_is_taken_by_its_own_list_alone(call: Call, monkeypatch: pytest.MonkeyPatch, route: Route) -> None:
    monkeypatch.setattr(turn_pages, "MOST_BYTES", 1)  # so that every part has one turn
    everybody = Everybody(call)
    take(call, everybody.own, "again")
    take(call, str(create(call).body["session_id"]), "hello")
    who = {"owner": OWNER, "roles": "admin admin:content"}
    first = {"limit": ["1"]} if "limit" in OPERATIONS[route].asks else None
    cursor = everybody.ask(route, query=first, **who).body["next"]
    taken = {each for each in LISTS if everybody.ask(each, query={"cursor": [cursor]}, **who).status == 200}
    assert taken == {route}


def test_that_of_a_look_at_content_is_good_for_one_administrator(call: Call) -> None:
    everybody, route = Everybody(call), ("POST", "/admin/sessions/{ref}/content")
    take(call, everybody.own, "again")
    cursor = everybody.ask(route, query={"limit": ["1"]}).body["next"]
    assert everybody.ask(route, query={"cursor": [cursor]}).status == 200
    another = everybody.ask(route, query={"cursor": [cursor]}, owner="https://issuer.example/|another")
    assert (another.status, another.body["code"]) == (400, "cursor_invalid")
