"""The tools that ship: what each returns, and that no input reaches what is somebody else's."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from tests.fakes import OWNER, START_MS
from turnlog.adapters.lambda_tools import LambdaTools, ToolFunctionFailed
from turnlog.adapters.s3_documents import S3DocumentStore
from turnlog.domain.documents import Document, Upload, inbox_key, inbox_of
from turnlog.domain.owners import owner_hash
from turnlog.domain.tool_functions import Tool, ToolFailure
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.errors import DocumentRefused
from turnlog.ports.tool_context import DocumentContext, ToolContext
from turnlog.tools import tools_named
from turnlog.tools.current_time import current_time
from turnlog.tools.list_documents import list_documents
from turnlog.tools.read_document import read_document

ALL = sorted(path.stem for path in Path("layers/turnlog/python/turnlog/tools").glob("[!_]*.py"))
EVE = "https://issuer.example/|eve"


@dataclass
class FakeInbox:
    """Documents by their keys."""

    texts: dict[str, str] = field(default_factory=dict)

    def list_inbox(self, owner: str, most: int) -> list[Document]:
        found = sorted(key for key in self.texts if key.startswith(inbox_of(owner)))
        return [Document(key, len(self.texts[key]), START_MS) for key in found[:most]]

    def read_text(self, upload: Upload) -> str:
        if upload.key not in self.texts:
            raise DocumentRefused("object_gone")
        return self.texts[upload.key]


def context() -> ToolContext:
    return ToolContext("toolu_1", OWNER, START_MS, lambda: 5.0)


def with_documents(**texts: str) -> DocumentContext:
    """A run of the owner, who has these documents, beside one of somebody else."""
    theirs = {f"{inbox_of(owner_hash(EVE))}secret.txt": "of eve"}
    own = {f"{inbox_of(owner_hash(OWNER))}{name}": text for name, text in texts.items()}
    return DocumentContext("toolu_1", OWNER, START_MS, lambda: 5.0, FakeInbox(theirs | own))


@pytest.mark.parametrize("name", ALL)
def test_each_file_has_the_tool_of_its_name_with_bounds_and_a_description(name: str) -> None:
    (tool,) = tools_named([name])
    assert (tool.name, 0 < tool.seconds <= 20, 0 < tool.result_bytes <= 1_000_000) == (name, True, True)
    assert tool.function.__doc__


@pytest.mark.parametrize("name", ["no_tool", "os"])
def test_a_name_of_no_tool_is_not_taken_for_one(name: str) -> None:
    with pytest.raises(ModuleNotFoundError):
        tools_named([name])


class TestTheTime:
    def test_it_is_told_in_the_zone_with_the_day_of_the_week(self) -> None:
        assert current_time.function(context(), zone="Asia/Kathmandu") == {
            "time": "2026-09-21T19:58:20+05:45",
            "weekday": "Monday",
            "zone": "Asia/Kathmandu",
        }

    def test_without_a_zone_it_is_that_of_utc(self) -> None:
        assert current_time.function(context()) == {
            "time": "2026-09-21T14:13:20+00:00",
            "weekday": "Monday",
            "zone": "UTC",
        }

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "", "..", "../etc/passwd", "/etc/localtime", "America", "a\0b"])
    def test_a_name_of_no_zone_is_an_error_that_says_so(self, zone: str) -> None:
        assert isinstance(current_time.function(context(), zone=zone), ToolFailure)


class TestDocuments:
    def test_the_own_ones_are_listed_by_name(self) -> None:
        assert list_documents.function(with_documents(**{"b.txt": "bb", "a/c.txt": "c"})) == {
            "documents": [
                {"name": "a/c.txt", "bytes": 1, "uploaded_at": "2026-09-21T14:13:20.000Z"},
                {"name": "b.txt", "bytes": 2, "uploaded_at": "2026-09-21T14:13:20.000Z"},
            ],
            "has_more": False,
        }

    def test_a_list_ends_and_says_so(self) -> None:
        listed = list_documents.function(with_documents(**{f"{number:03}.txt": "" for number in range(201)}))
        assert isinstance(listed, dict)
        assert (len(listed["documents"]), listed["has_more"]) == (200, True)

    def test_one_is_read_part_by_part(self) -> None:
        run = with_documents(**{"a.txt": "x" * 50_000 + "end"})
        first = read_document.function(run, name="a.txt")
        rest = read_document.function(run, name="a.txt", from_character=50_000)
        assert first == {"text": "x" * 50_000, "has_more": True, "characters": 50_003}
        assert rest == {"text": "end", "has_more": False, "characters": 50_003}

    @pytest.mark.parametrize(
        "name",
        [
            f"../{owner_hash(EVE)}/secret.txt",
            f"a/../../{owner_hash(EVE)}/secret.txt",
            f"./../{owner_hash(EVE)}/secret.txt",
            f"/{inbox_of(owner_hash(EVE))}secret.txt",
            f"{inbox_of(owner_hash(EVE))}secret.txt",
            "secret.txt",
            "",
            "..",
            "a//b.txt",
            "a\0b",
            "a" * 1024,
            "half \ud800",
        ],
    )
    def test_no_name_reaches_what_is_somebody_else_s(self, name: str) -> None:
        result = read_document.function(with_documents(**{"mine.txt": "mine"}), name=name)
        assert result == ToolFailure("There is no such document.")

    @pytest.mark.parametrize("name", ["notes.txt", "a/b.txt", "..notes", "ü.txt", "a b.txt"])
    def test_an_ordinary_name_has_a_key_within_the_own_inbox(self, name: str) -> None:
        assert inbox_key("owner", name) == f"inbox/owner/{name}"


@pytest.fixture
def bucket() -> Iterator[S3DocumentStore]:
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="documents")
        for key in (
            f"{inbox_of(owner_hash(OWNER))}a.txt",
            f"outbox/{owner_hash(OWNER)}/a.txt.summary.json",
            "inbox/x/b",
        ):
            client.put_object(Bucket="documents", Key=key, Body=b"A heron.")
        yield S3DocumentStore(client, "documents")


def test_in_the_bucket_only_the_own_inbox_is_listed_and_read(bucket: S3DocumentStore) -> None:
    run = DocumentContext("toolu_1", OWNER, START_MS, lambda: 5.0, bucket)
    listed = list_documents.function(run)
    assert isinstance(listed, dict)
    assert [each["name"] for each in listed["documents"]] == ["a.txt"]
    assert read_document.function(run, name="a.txt") == {"text": "A heron.", "has_more": False, "characters": 8}


class FakeLambda:
    """A client of Lambda whose functions all answer the same."""

    def __init__(self, payload: bytes, **answer: str) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []
        self._payload, self._answer = payload, answer

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, object]:  # noqa: N803 (boto3's names)
        self.asked.append((FunctionName, json.loads(Payload)))
        return {"Payload": io.BytesIO(self._payload), **self._answer}


APART = Tool(lambda context: "", 5, True, runs_in="documents")
CALL = ToolCall("toolu_1", "read", '{"name":"a.txt","owner":"eve"}')


class TestAFunctionOfItsOwn:
    def test_it_is_told_the_verified_owner_whatever_the_input_says(self) -> None:
        client = FakeLambda(b'{"content":"\\"x\\"","is_error":false}')
        result = LambdaTools(lambda: client, {"documents": "stack-documents"}).run(APART, CALL, context())
        assert result == ToolResult("toolu_1", '"x"')
        ((function, asked),) = client.asked
        assert (function, asked["owner"], asked["call_id"], asked["seconds"]) == (
            "stack-documents",
            OWNER,
            "toolu_1",
            5.0,
        )
        assert asked["input"] == {"name": "a.txt", "owner": "eve"}

    @pytest.mark.parametrize(
        "payload", [b"null", b"{}", b'{"content":1,"is_error":false}', b'{"content":"x","is_error":0}']
    )
    def test_an_answer_that_is_no_result_is_a_failure(self, payload: bytes) -> None:
        with pytest.raises(ToolFunctionFailed):
            LambdaTools(lambda: FakeLambda(payload), {"documents": "f"}).run(APART, CALL, context())

    def test_a_function_that_fails_is_a_failure_without_its_text(self) -> None:
        client = FakeLambda(b'{"errorMessage":"canary"}', FunctionError="Unhandled")
        with pytest.raises(ToolFunctionFailed) as failed:
            LambdaTools(lambda: client, {"documents": "f"}).run(APART, CALL, context())
        assert "canary" not in repr(failed.value)
