"""The time in a zone, which the model cannot know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from turnlog.clock import utc
from turnlog.domain.tool_functions import ToolFailure, tool
from turnlog.ports.tool_context import ToolContext


@tool(seconds=2, reads_only=True)
def current_time(
    context: ToolContext, zone: Annotated[str, Field(max_length=64)] = "UTC"
) -> dict[str, str] | ToolFailure:
    """Returns the current date, time and day of the week in a time zone.

    Args:
        zone: The zone's name in the IANA database, such as Europe/Zurich or America/New_York.
    """
    from zoneinfo import ZoneInfo

    try:
        now = utc(context.now_ms).astimezone(ZoneInfo(zone) if zone != "UTC" else UTC)
    except (ValueError, KeyError, OSError):  # a name with .. in it, an unknown one, and that of a folder
        return ToolFailure("There is no such time zone. Zones have names such as Europe/Zurich.")
    return _told(now, zone)


def _told(now: datetime, zone: str) -> dict[str, str]:
    return {"time": now.isoformat(timespec="seconds"), "weekday": f"{now:%A}", "zone": zone}
