"""The function of tools that read documents: whatever it is asked, it answers a result, and only of its owner."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.fakes import OWNER
from tests.handlers.conftest import Context, app, event
from tests.unit.test_tools import EVE, FakeInbox
from turnlog import runtime
from turnlog.domain import tool_results
from turnlog.domain.documents import Upload, inbox_of
from turnlog.domain.owners import owner_hash
from turnlog.errors import StoreUnavailable

OF_ADA, OF_EVE = inbox_of(owner_hash(OWNER)), inbox_of(owner_hash(EVE))


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> FakeInbox:
    kept = FakeInbox({f"{OF_ADA}harbour-notes.txt": "A heron.", f"{OF_EVE}secret.txt": "Xanary"})
    monkeypatch.setattr(runtime, "inbox", lambda: kept)
    return kept


def asked(**changed: Any) -> Any:
    return app("documents_tool").handler(event("documents_tool") | changed, Context(seconds=15))


def test_the_example_reads_a_document_of_its_owner(inbox: FakeInbox) -> None:
    answer = asked()
    assert answer == {"content": answer["content"], "is_error": False}
    assert json.loads(json.loads(answer["content"])) == {"text": "A heron.", "has_more": False, "characters": 8}


@pytest.mark.parametrize("name", ["secret.txt", f"../{owner_hash(EVE)}/secret.txt", f"{OF_EVE}secret.txt"])
def test_no_input_names_a_document_of_somebody_else(inbox: FakeInbox, name: str) -> None:
    answer = asked(input={"name": name})
    assert (json.loads(answer["content"]), answer["is_error"]) == ("There is no such document.", True)
    listed = asked(tool="list_documents", input={})
    assert "harbour-notes.txt" in listed["content"]
    assert "secret" not in listed["content"]


@pytest.mark.parametrize(
    "given", [{}, {"name": 5}, {"name": "a", "owner": EVE}, {"name": "a" * 1025}, {"name": "a", "from_character": -1}]
)
def test_an_input_that_breaks_the_schema_is_an_error(inbox: FakeInbox, given: dict[str, Any]) -> None:
    answer = asked(input=given)
    assert (json.loads(answer["content"]), answer["is_error"]) == (tool_results.INPUT_INVALID, True)


@pytest.mark.parametrize(
    "changed", [{"tool": "current_time"}, {"tool": 5}, {"input": "x"}, {"owner": None}, {"seconds": "9"}, {"more": 1}]
)
def test_an_event_that_is_no_call_of_its_tools_is_an_error(inbox: FakeInbox, changed: dict[str, Any]) -> None:
    answer = asked(**changed)
    assert (json.loads(answer["content"]), answer["is_error"]) == (tool_results.FAILED, True)


def test_a_store_that_fails_is_an_error_of_the_tool_and_a_line_of_the_log(
    inbox: FakeInbox, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    def fail(upload: Upload) -> str:
        raise StoreUnavailable("Xanary")

    monkeypatch.setattr(inbox, "read_text", fail)
    answer = asked()
    assert (json.loads(answer["content"]), answer["is_error"]) == (tool_results.FAILED, True)
    line = json.loads(logged.getvalue())
    assert (line["message"], line["code"]) == ("tool failed", "read_document")
    assert line["where"].startswith("StoreUnavailable at ")
    assert "Xanary" not in logged.getvalue() + answer["content"]
