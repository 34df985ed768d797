"""The audit trail in CloudWatch Logs, which lets nobody change an event and keeps it as long as its log group says."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from turnlog.errors import AuditUnavailable

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient


class CloudWatchAuditTrail:
    """Events in the log group `group`, in a stream that this environment alone writes to.

    Needs CreateLogStream and PutLogEvents on the group, and nothing that reads it. An event costs one call.
    """

    def __init__(self, client: CloudWatchLogsClient, group: str, clock: Callable[[], int]) -> None:
        self._client = client
        self._group = group
        self._stream = secrets.token_hex(16)
        self._clock = clock

    def note(
        self,
        action: str,
        *,
        request_id: str,
        route: str = "",
        owner: str = "",
        delegate: str = "",
        subject: str = "",
        session: str = "",
        to: str = "",
        source: str = "",
        reason: str = "",
    ) -> None:
        # The names of an event's fields are those of the parameters.
        fields = {name: value for name, value in locals().items() if name != "self" and value}
        event = json.dumps(fields, separators=(",", ":"))
        try:
            try:
                self._write(event)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                self._make_stream()
                self._write(event)
        except (BotoCoreError, ClientError) as error:
            raise AuditUnavailable from error

    def _write(self, event: str) -> None:
        answer = self._client.put_log_events(
            logGroupName=self._group,
            logStreamName=self._stream,
            logEvents=[{"timestamp": self._clock(), "message": event}],
        )
        if answer.get("rejectedLogEventsInfo"):  # it says 200 and keeps nothing, as when this clock is wrong
            raise AuditUnavailable

    def _make_stream(self) -> None:
        try:
            self._client.create_log_stream(logGroupName=self._group, logStreamName=self._stream)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":  # a try whose answer was lost
                raise
