"""The schedule: every quarter of an hour, what sessions left behind is removed."""

from __future__ import annotations

from typing import Any

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.usecases.sweep import sweep


def sweep_sessions(_event: object, context: Any) -> None:
    """The Lambda handler. It may run at any time and beside itself; what one run leaves, the next one takes."""
    swept = sweep(store=runtime.session_store(), now_ms=runtime.now_ms())
    telemetry.note("sessions swept", request_id=context.aws_request_id, count=swept)
