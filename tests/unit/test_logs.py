"""`make logs` shows each line once, however often it looks and however late a line is written."""

from __future__ import annotations

from typing import Any

from local.logs import Follower


class LogGroup:
    """A client of CloudWatch that gives events no ids, as MiniStack does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def write(self, at_ms: int, *messages: str) -> None:
        self.events += [{"logStreamName": "one", "timestamp": at_ms, "message": message} for message in messages]

    def get_paginator(self, _: str) -> LogGroup:
        return self

    def paginate(self, logGroupName: str, startTime: int) -> list[dict[str, Any]]:  # noqa: N803 (boto3's names)
        assert logGroupName == "group"
        return [{"events": [event for event in self.events if event["timestamp"] >= startTime]}]


def test_each_line_is_shown_once_and_lambdas_own_lines_never() -> None:
    log = LogGroup()
    follower = Follower(log, "group", since_ms=1_000)
    log.write(999, "before")
    log.write(1_000, "START RequestId: a", "same", "same", "END RequestId: a")
    assert list(follower.new_lines()) == ["same", "same"]
    assert list(follower.new_lines()) == []
    log.write(60_000, "later")
    log.write(59_000, "late")
    assert sorted(follower.new_lines()) == ["late", "later"]
    log.write(60_000, "later")
    assert list(follower.new_lines()) == ["later"]
    assert list(follower.new_lines()) == []
