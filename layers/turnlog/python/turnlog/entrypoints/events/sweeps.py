"""The sweeper's clock: every quarter of an hour, what sessions left behind is removed."""

from __future__ import annotations

from typing import Any

from turnlog import runtime
from turnlog.adapters import telemetry


def sweep_sessions(_event: object, context: Any) -> None:
    """The Lambda handler. It may run at any time and beside itself; what one run leaves, the next one takes."""
    swept = runtime.session_store().sweep(runtime.now_ms())
    telemetry.note("sessions swept", request_id=context.aws_request_id, count=swept)
