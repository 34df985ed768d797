"""Tools on the running stack: one that runs beside the model's call, and those that run in a function of their own."""

from __future__ import annotations

import json
import secrets
from typing import Any

import httpx2
import jwt
import pytest

from tests.e2e.stack import PATIENCE_S, Stack
from turnlog.domain.owners import owner_hash

ALL = ["current_time", "list_documents", "read_document"]


class Person:
    """Somebody with a document."""

    def __init__(self, stack: Stack, text: str) -> None:
        name = f"tools-{secrets.token_hex(4)}"
        token = stack.token_of(name)
        self._url, self._authorization = stack.api_url, f"Bearer {token}"
        claims = jwt.decode(token, options={"verify_signature": False})
        self.hash = owner_hash(f"{claims['iss']}|{claims['sub']}")
        stack.s3.put_object(Bucket=stack.bucket, Key=f"inbox/{self.hash}/notes.md", Body=text.encode())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": self._authorization, "Idempotency-Key": secrets.token_hex(8)}
        answer = httpx2.post(f"{self._url}{path}", json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def results(self, message: str) -> list[str]:
        """The results of the tools that a question calls, in order."""
        steps = self.post("/query", {"message": message, "tools": ALL})["steps"]
        return [result["content"] for step in steps for result in step["results"]]


@pytest.fixture
def ada(stack: Stack) -> Person:
    return Person(stack, "Herons stand still.")


def test_the_shipped_tools_answer_and_reach_the_own_documents_alone(stack: Stack, ada: Person) -> None:
    eve = Person(stack, "A secret of Eve.")
    (time,) = ada.results('Call current_time with {"zone": "Asia/Kathmandu"}.')
    assert json.loads(time)["time"].endswith("+05:45")
    (listed,) = ada.results("Call list_documents.")
    assert [each["name"] for each in json.loads(listed)["documents"]] == ["notes.md"]
    (read,) = ada.results('Call read_document with {"name": "notes.md"}.')
    assert json.loads(read)["text"] == "Herons stand still."
    for name in (f"../{eve.hash}/notes.md", f"inbox/{eve.hash}/notes.md", f"/inbox/{eve.hash}/notes.md"):
        (refused,) = ada.results(f"Call read_document with {json.dumps({'name': name})}.")
        assert refused == "There is no such document."


def test_a_turn_runs_tools_side_by_side_and_keeps_its_steps(ada: Person) -> None:
    session_id = ada.post("/sessions", {"tools": ALL})["session_id"]
    taken = ada.post(f"/sessions/{session_id}/turns", {"message": "Call list_documents and call current_time."})
    (step,) = taken["steps"]
    assert [block["name"] for block in step["content"] if block["type"] == "tool_use"] == [
        "list_documents",
        "current_time",
    ]
    assert len(step["results"]) == 2
    assert not any(each.get("is_error") for each in step["results"])
