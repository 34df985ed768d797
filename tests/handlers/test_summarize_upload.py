"""P11: a document in the inbox becomes a summary in the outbox, once; one that cannot be read becomes a reason."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.fakes import ScriptedModel, expected_text
from tests.handlers.conftest import Backstage, Context, app, event
from turnlog import runtime
from turnlog.adapters.s3_documents import S3DocumentStore
from turnlog.domain.documents import MAX_DOCUMENT, Upload
from turnlog.domain.messages import Message
from turnlog.entrypoints.events.uploads import UploadFailed
from turnlog.errors import (
    ModelAccessDenied,
    ModelCreditUsedUp,
    ModelError,
    ModelNotServed,
    ModelRejected,
    ModelTimeout,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "turnlog-documents"
CREATED = {"source": "aws.s3", "detail-type": "Object Created"}
KEY, SUMMARY = "inbox/ada/field notes.txt", "outbox/ada/field notes.txt.summary.json"


@pytest.fixture
def bucket(backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Client]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        monkeypatch.setattr(runtime, "document_store", lambda: S3DocumentStore(client, BUCKET))
        yield client


def upload(bucket: S3Client, content: bytes, sequencer: str = "0055AED6DCD90281E5") -> None:
    """Puts the object and hands the example event, with this sequencer, to the function."""
    bucket.put_object(Bucket=BUCKET, Key=KEY, Body=content)
    notify(sequencer)


def notify(sequencer: str = "0055AED6DCD90281E5", version: str | None = None) -> None:
    details = event("summarize_upload")
    details["detail"]["object"]["sequencer"] = sequencer
    if version:
        details["detail"]["object"]["version-id"] = version
    app("summarize_upload").handler(details, Context(120))


def summary(bucket: S3Client) -> dict[str, Any]:
    stored = bucket.get_object(Bucket=BUCKET, Key=SUMMARY)["Body"].read()
    found: dict[str, Any] = json.loads(stored)
    assert found.pop("sequencer")
    assert found.pop("try")
    return found


def test_a_document_gets_a_summary_beside_it(bucket: S3Client, backstage: Backstage) -> None:
    upload(bucket, b"Herons nest early this year.")
    found = summary(bucket)
    assert (found["status"], found["document"], found["stop_reason"]) == ("done", KEY, "end_turn")
    said = expected_text((Message.of_text("Herons nest early this year."),))
    assert found["summary"] == {"title": said, "summary": said, "key_points": [said], "language": "en"}
    assert found["text"] == f"{said}\n\n{said}\n\n- {said}"
    assert found["cost_usd"] == "0.00007"
    assert backstage.model.requests[0].messages[0].blocks[0]["text"] == "Herons nest early this year."


def test_the_same_event_twice_is_paid_for_once(bucket: S3Client, backstage: Backstage) -> None:
    upload(bucket, b"Herons nest early this year.")
    notify()
    assert len(backstage.model.requests) == 1


def test_a_newer_version_is_summarized_again_and_an_older_event_is_ignored(
    bucket: S3Client, backstage: Backstage
) -> None:
    upload(bucket, b"First.", "0055AED6DCD90281E5")
    upload(bucket, b"Second.", "0055AED6DCD90281E6")
    notify("0055AED6DCD90281E5")
    texts = [request.messages[0].blocks[0]["text"] for request in backstage.model.requests]
    assert texts == ["First.", "Second."]


def test_a_newer_version_that_overtakes_an_older_one_is_not_overwritten_by_it(
    bucket: S3Client, backstage: Backstage
) -> None:
    def newer_version_comes() -> None:
        backstage.model.during = None
        upload(bucket, b"Second.", "0055AED6DCD90281E6")

    backstage.model.during = newer_version_comes
    upload(bucket, b"First.", "0055AED6DCD90281E5")
    second = expected_text((Message.of_text("Second."),))
    assert (summary(bucket)["status"], summary(bucket)["summary"]["title"]) == ("done", second)


class Race:
    """Two versions of one document, each summarized in a thread that is stopped while it asks the model."""

    def __init__(self, bucket: S3Client, backstage: Backstage) -> None:
        bucket.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self._threads: dict[str, threading.Thread] = {}
        self._arrived = {name: threading.Event() for name in VERSIONS}
        self._may_end = {name: threading.Event() for name in VERSIONS}
        for name, sequencer in VERSIONS.items():
            put = bucket.put_object(Bucket=BUCKET, Key=KEY, Body=name.encode())
            self._threads[name] = threading.Thread(
                target=self._notify, args=(name, sequencer, put["VersionId"]), name=name, daemon=True
            )
        backstage.model.during = self._stop

    def begin(self, name: str) -> None:
        self._threads[name].start()
        assert self._arrived[name].wait(30)

    def end(self, name: str) -> None:
        self._may_end[name].set()
        self._threads[name].join(30)

    def _notify(self, name: str, sequencer: str, version: str) -> None:
        try:
            notify(sequencer, version)
        finally:
            self._arrived[name].set()  # also when there was nothing to do

    def _stop(self) -> None:
        name = threading.current_thread().name
        self._arrived[name].set()
        assert self._may_end[name].wait(30)


VERSIONS = {"older": "0055AED6DCD90281E5", "newer": "0055AED6DCD90281E6"}
ORDERS = [
    ("begin older", "end older", "begin newer", "end newer"),
    ("begin older", "begin newer", "end older", "end newer"),
    ("begin older", "begin newer", "end newer", "end older"),
    ("begin newer", "begin older", "end older", "end newer"),
    ("begin newer", "begin older", "end newer", "end older"),
    ("begin newer", "end newer", "begin older", "end older"),
]


@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_the_newest_version_wins_in_every_order(bucket: S3Client, backstage: Backstage, order: tuple[str, ...]) -> None:
    race = Race(bucket, backstage)
    for step in order:
        act, name = step.split()
        getattr(race, act)(name)
    found = summary(bucket)
    assert found["status"] == "done"
    assert found["summary"]["title"] == expected_text((Message.of_text("newer"),))


def test_no_two_puts_of_a_summary_have_one_etag(bucket: S3Client) -> None:
    documents, document = S3DocumentStore(bucket, BUCKET), Upload(KEY, "0055")
    etags, last = set(), None
    for _ in range(5):
        last = documents.put_summary(document, {"status": "running"}, over=last, lease_expires_ms=1)
        etags.add(last.etag)
    assert len(etags) == 5


def test_an_older_version_does_not_replace_what_is_left_of_a_newer_one(bucket: S3Client, backstage: Backstage) -> None:
    backstage.model.fail_with = [ModelTimeout()]
    with pytest.raises(UploadFailed):
        upload(bucket, b"Herons.", VERSIONS["newer"])
    notify(VERSIONS["older"])
    assert len(backstage.model.requests) == 1
    notify(VERSIONS["newer"])
    assert summary(bucket)["status"] == "done"


@pytest.mark.parametrize(("conflicts", "failures"), [(2, 0), (3, 1)], ids=["passing", "lasting"])
def test_a_put_that_conflicts_with_one_that_may_fail_is_tried_again(
    bucket: S3Client, monkeypatch: pytest.MonkeyPatch, conflicts: int, failures: int
) -> None:
    put_object, puts, failed = bucket.put_object, [], 0

    def conflict(**asked: Any) -> Any:
        puts.append(asked)
        if 1 < len(puts) <= 1 + conflicts:  # the first put takes the lease
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return put_object(**asked)

    bucket.put_object(Bucket=BUCKET, Key=KEY, Body=b"Herons.")
    monkeypatch.setattr(bucket, "put_object", conflict)
    while summary_status(bucket) != "done":
        try:
            notify()
        except UploadFailed:
            failed += 1
    assert failed == failures


def summary_status(bucket: S3Client) -> str:
    is_there = "Contents" in bucket.list_objects_v2(Bucket=BUCKET, Prefix="outbox/")
    return str(summary(bucket)["status"]) if is_there else ""


def test_an_event_that_is_delivered_twice_at_once_is_paid_for_once(bucket: S3Client, backstage: Backstage) -> None:
    def again() -> None:
        backstage.model.during = None
        with pytest.raises(UploadFailed):  # so that it comes again, should the first one die
            notify()

    backstage.model.during = again
    upload(bucket, b"Herons.")
    notify()
    assert len(backstage.model.requests) == 1
    assert summary(bucket)["status"] == "done"


def test_an_unexpected_failure_is_tried_again_at_once_and_quotes_nothing(
    bucket: S3Client, backstage: Backstage, logged: io.StringIO
) -> None:
    def broken() -> None:
        backstage.model.during = None
        raise RuntimeError("pelargonium")

    backstage.model.during = broken
    with pytest.raises(UploadFailed):
        upload(bucket, b"Herons.")
    assert "pelargonium" not in logged.getvalue()
    notify()
    assert summary(bucket)["status"] == "done"


def test_a_summary_that_could_not_be_laid_down_is_made_again(
    bucket: S3Client, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, logged: io.StringIO
) -> None:
    put_summary, puts = S3DocumentStore.put_summary, []

    def fails_once(*arguments: Any, **more: Any) -> Any:
        puts.append(arguments)
        if len(puts) == 2:
            raise StoreUnavailable
        return put_summary(*arguments, **more)

    monkeypatch.setattr(S3DocumentStore, "put_summary", fails_once)
    with pytest.raises(UploadFailed):
        upload(bucket, b"Herons.")
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert [(line["message"], line.get("tokens")) for line in lines] == [
        ("upload summarized", 15),
        ("upload failed", None),
    ]
    notify()
    assert summary(bucket)["status"] == "done"


def test_what_a_dead_handler_began_is_done_by_the_next_try(bucket: S3Client, backstage: Backstage) -> None:
    class _KilledError(BaseException):
        """Stands for the end of the process."""

    def killed() -> None:
        backstage.model.during = None
        raise _KilledError

    backstage.model.during = killed
    with pytest.raises(_KilledError):
        upload(bucket, b"Herons.")
    assert summary(bucket) == {"status": "running"}
    backstage.clock.tick(seconds=121)
    notify()
    assert summary(bucket)["status"] == "done"


def test_what_is_raised_quotes_nothing(bucket: S3Client, backstage: Backstage) -> None:
    backstage.model.fail_with = [ModelTimeout("pelargonium")]
    with pytest.raises(UploadFailed) as failed:
        upload(bucket, b"Herons.")
    assert str(failed.value) == ""
    assert failed.value.__context__ is None


def test_sequencers_compare_padded_on_the_right() -> None:
    assert Upload(KEY, "0055AED6DCD90281E6").is_newer_than("0055AED6DCD90281E5F")
    assert not Upload(KEY, "0055").is_newer_than("005500")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "object_empty"),
        (b" \n", "object_empty"),
        (b"\xff\xfe\x00", "object_not_text"),
        (b"Herons\x00", "object_not_text"),
        ("Herons\x85".encode(), "object_not_text"),
        (b"x" * (MAX_DOCUMENT + 1), "object_too_large"),
    ],
    ids=["empty", "blank", "not text", "NUL", "a C1 control", "too large"],
)
def test_a_document_that_cannot_be_read_gets_a_reason(
    bucket: S3Client, backstage: Backstage, content: bytes, code: str
) -> None:
    upload(bucket, content)
    assert summary(bucket) == {"status": "failed", "code": code, "document": KEY}
    assert backstage.model.requests == []


def test_form_feed_and_escape_are_data_as_in_messages(bucket: S3Client, backstage: Backstage) -> None:
    upload(bucket, b"\x0cHerons \x1b[1mnest\x1b[0m early.\r\n")
    assert summary(bucket)["status"] == "done"
    assert backstage.model.requests[0].messages[0].blocks[0]["text"].startswith("\x0cHerons \x1b[1m")


@pytest.mark.parametrize("letter", ["k", "ü", "鷺"])
@pytest.mark.parametrize("size", [1010, 1011, 1012, 1024])
def test_a_document_of_any_name_that_s3_takes_gets_a_summary(bucket: S3Client, letter: str, size: int) -> None:
    key = "inbox/ada/" + letter * ((size - 10) // len(letter.encode()))
    key += "k" * (size - len(key.encode()))
    keys = [key, key[:-1] + "x"]  # alike up to where they may be cut
    for each in keys:
        bucket.put_object(Bucket=BUCKET, Key=each, Body=b"Herons.")
        app("summarize_upload").handler(CREATED | {"detail": {"object": {"key": each}}}, Context(120))
    stored = [each["Key"] for each in bucket.list_objects_v2(Bucket=BUCKET, Prefix="outbox/ada/")["Contents"]]
    assert max(len(each.encode()) for each in stored) <= 1024
    told = [json.loads(bucket.get_object(Bucket=BUCKET, Key=each)["Body"].read()) for each in stored]
    assert {each["document"] for each in told} == set(keys)
    assert {each["status"] for each in told} == {"done"}


def test_of_a_document_that_was_deleted_meanwhile_nothing_appears(bucket: S3Client) -> None:
    notify()
    assert "Contents" not in bucket.list_objects_v2(Bucket=BUCKET)


@pytest.mark.parametrize("call", ["get_object", "head_object"])
def test_what_s3_refuses_is_not_taken_for_gone(
    bucket: S3Client, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(**_: object) -> None:
        code = "AccessDenied" if call == "get_object" else "403"  # an answer to HEAD has no body that could say more
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 403}}, call)  # type: ignore[typeddict-item]

    with monkeypatch.context() as patched:
        patched.setattr(bucket, call, refuse)
        with pytest.raises(UploadFailed):
            upload(bucket, b"Herons.")
    assert backstage.model.requests == []
    notify()
    assert summary(bucket)["status"] == "done"


@pytest.mark.parametrize(
    ("stop_reason", "code"),
    [("refusal", "model_refused"), ("max_tokens", "output_invalid"), ("end_turn", "output_invalid")],
)
def test_a_reply_that_is_no_summary_is_a_reason_and_is_paid_once(
    bucket: S3Client, backstage: Backstage, stop_reason: str, code: str
) -> None:
    backstage.model = ScriptedModel(script=[([{"type": "text", "text": "Herons"}], stop_reason)])
    upload(bucket, b"Herons.")
    assert summary(bucket) == {"status": "failed", "code": code, "document": KEY, "stop_reason": stop_reason}
    notify()
    assert len(backstage.model.requests) == 1


def test_a_document_longer_than_the_context_is_summarized_in_parts(
    bucket: S3Client, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "models", lambda: ("claude-haiku-4-5",))
    upload(bucket, b"Herons nest early this year.\n\n" * 30_000)
    *parts, merge = backstage.model.requests
    assert len(parts) == 3
    assert summary(bucket)["summary"]["title"] == expected_text(merge.messages)
    assert summary(bucket)["usage"] == {"input_tokens": 40, "output_tokens": 20}


def test_a_document_that_the_model_refuses_gets_a_reason(bucket: S3Client, backstage: Backstage) -> None:
    backstage.model.fail_with = [ModelRejected()]
    upload(bucket, b"Herons.")
    assert summary(bucket)["code"] == "model_refused"


@pytest.mark.parametrize(
    "failure", [ModelTimeout(), ModelAccessDenied(), ModelNotServed(), ModelCreditUsedUp()], ids=repr
)
def test_a_passing_failure_is_raised_so_that_lambda_tries_again(
    bucket: S3Client, backstage: Backstage, failure: ModelError, logged: io.StringIO
) -> None:
    backstage.model.fail_with = [failure]
    with pytest.raises(UploadFailed):
        upload(bucket, b"Herons.")
    assert json.loads(logged.getvalue())["code"] == failure.code
    notify()
    assert summary(bucket)["status"] == "done"


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {"object": {"key": KEY}}}]},
        CREATED,
        CREATED | {"detail": None},
        CREATED | {"detail": {}},
        CREATED | {"detail": {"object": {"key": 5}}},
        CREATED | {"detail": {"object": {"key": "inbox/x"}}},
        CREATED | {"detail": {"object": {"key": "outbox/a/b"}}},
        CREATED | {"detail": {"object": {"key": KEY, "sequencer": 5}}},
        CREATED | {"detail": {"object": {"key": KEY, "version-id": 5}}},
        CREATED | {"source": "aws.sqs", "detail": {"object": {"key": KEY}}},
        CREATED | {"detail-type": "Object Deleted", "detail": {"object": {"key": KEY}}},
    ],
    ids=str,
)
def test_an_event_of_another_kind_is_let_pass(bucket: S3Client, backstage: Backstage, details: dict[str, Any]) -> None:
    app("summarize_upload").handler(details, Context(120))
    assert backstage.model.requests == []
    assert "Contents" not in bucket.list_objects_v2(Bucket=BUCKET)
