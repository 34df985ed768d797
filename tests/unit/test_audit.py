"""The audit trail in a log group: `note` returns when an event is kept, and raises when it may not be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from moto import mock_aws

from turnlog.adapters.cloudwatch_audit import CloudWatchAuditTrail
from turnlog.errors import AuditUnavailable

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

GROUP = "turnlog-Audit"


def now_ms() -> int:
    return int(time.time() * 1000)


@pytest.fixture
def logs() -> Iterator[CloudWatchLogsClient]:
    with mock_aws():
        client = boto3.client("logs")
        client.create_log_group(logGroupName=GROUP)
        yield client
        client.close()


def kept(logs: CloudWatchLogsClient) -> list[dict[str, Any]]:
    return [json.loads(each["message"]) for each in logs.filter_log_events(logGroupName=GROUP)["events"]]


def test_an_event_holds_what_it_was_told_and_nothing_that_is_empty(logs: CloudWatchLogsClient) -> None:
    CloudWatchAuditTrail(logs, GROUP, now_ms).note("delete", request_id="req-1", owner="o" * 43, session="0123456789")
    assert kept(logs) == [{"action": "delete", "request_id": "req-1", "owner": "o" * 43, "session": "0123456789"}]


def test_it_bears_the_time_of_the_act(logs: CloudWatchLogsClient) -> None:
    at = now_ms() - 5000
    CloudWatchAuditTrail(logs, GROUP, lambda: at).note("list", request_id="req-1")
    assert [each["timestamp"] for each in logs.filter_log_events(logGroupName=GROUP)["events"]] == [at]


def test_each_trail_writes_into_a_stream_of_its_own(logs: CloudWatchLogsClient) -> None:
    for trail in (CloudWatchAuditTrail(logs, GROUP, now_ms), CloudWatchAuditTrail(logs, GROUP, now_ms)):
        for request in ("a", "b"):
            trail.note("list", request_id=request)
    assert len(logs.describe_log_streams(logGroupName=GROUP)["logStreams"]) == 2
    assert sorted(event["request_id"] for event in kept(logs)) == ["a", "a", "b", "b"]


@pytest.mark.asvs("16.4.1")
def test_no_text_can_begin_a_line_or_an_event_of_its_own(logs: CloudWatchLogsClient) -> None:
    forged = 'x"}\n{"action": "create"}\u2028'
    CloudWatchAuditTrail(logs, GROUP, now_ms).note("admin content", request_id="r", reason=forged)
    (event,) = logs.filter_log_events(logGroupName=GROUP)["events"]
    assert event["message"].isascii()
    assert len(event["message"].splitlines()) == 1
    assert json.loads(event["message"])["reason"] == forged


def test_no_field_is_taken_that_is_not_on_the_list(logs: CloudWatchLogsClient) -> None:
    more: Any = {"message": "My name is Ada."}
    with pytest.raises(TypeError):
        CloudWatchAuditTrail(logs, GROUP, now_ms).note("list", request_id="r", **more)
    assert kept(logs) == []


@pytest.mark.asvs("16.5.3")
def test_without_its_group_it_is_not_available(logs: CloudWatchLogsClient) -> None:
    with pytest.raises(AuditUnavailable):
        CloudWatchAuditTrail(logs, "another", now_ms).note("list", request_id="r")


class FailingLogs:
    """CloudWatch Logs that answers each call with the next of these, errors included."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.called: list[str] = []

    def create_log_stream(self, **_: object) -> object:
        return self._next("create")

    def put_log_events(self, **_: object) -> object:
        return self._next("put")

    def _next(self, name: str) -> object:
        self.called.append(name)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "a text that nobody may see"}}, "PutLogEvents")


@pytest.mark.asvs("16.5.3")
@pytest.mark.parametrize(
    "answers",
    [
        [refused("ThrottlingException")],
        [refused("ServiceUnavailableException")],
        [refused("AccessDeniedException")],
        [EndpointConnectionError(endpoint_url="https://logs")],
        [{"rejectedLogEventsInfo": {"tooNewLogEventStartIndex": 0}}],
        [{"rejectedLogEventsInfo": {"expiredLogEventEndIndex": 1}}],
        [refused("ResourceNotFoundException"), refused("LimitExceededException")],
        [refused("ResourceNotFoundException"), {}, refused("ResourceNotFoundException")],
    ],
    ids=str,
)
def test_an_event_that_is_not_surely_kept_raises(answers: list[object]) -> None:
    client: Any = FailingLogs(*answers)
    with pytest.raises(AuditUnavailable) as raised:
        CloudWatchAuditTrail(client, GROUP, now_ms).note("list", request_id="r")
    assert str(raised.value) == ""


def test_a_stream_that_an_earlier_try_has_made_is_written_into() -> None:
    client: Any = FailingLogs(refused("ResourceNotFoundException"), refused("ResourceAlreadyExistsException"), {})
    CloudWatchAuditTrail(client, GROUP, now_ms).note("list", request_id="r")
    assert client.called == ["put", "create", "put"]
