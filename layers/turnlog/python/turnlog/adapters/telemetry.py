"""One JSON line a request: the names of its fields are the parameters here, so that nothing else can get into a log.

Never content, secrets, raw session ids or another library's exception text, at any level.
"""

from __future__ import annotations

import logging
import sys
import traceback
from decimal import Decimal
from functools import cache

from aws_lambda_powertools import Logger


@cache
def _logger() -> Logger:
    return Logger(level="INFO", location=None)


def silence_libraries() -> None:
    """Keeps out of the log what libraries write about their calls.

    Lambda sets the root logger to INFO, at which httpx2 writes the URL of each request, and others write more.
    """
    logging.getLogger().setLevel(logging.CRITICAL)


def note(
    event: str,
    *,
    request_id: str = "",
    route: str = "",
    status: int | None = None,
    code: str = "",
    ms: int | None = None,
    session: str = "",
    turn: int | None = None,
    replayed: bool | None = None,
    model: str = "",
    tokens: int | None = None,
    cost_usd: Decimal | None = None,
    count: int | None = None,
    where: str = "",
    first_event_ms: int | None = None,
    events: int | None = None,
    bytes_sent: int | None = None,
    provider_request_id: str = "",
    message_id: str = "",
    requests_left: int | None = None,
    input_tokens_left: int | None = None,
    output_tokens_left: int | None = None,
) -> None:
    """Writes what happened. `session` is a keyed hash of the id; `where` a place in the code; `first_event_ms` the
    time to the first event of a stream, ours or the provider's. Empty fields stay out.

    The last five are of the provider: its names of a request and a reply, and what it says is left of its rate limits.
    """
    fields = {name: value for name, value in locals().items() if name != "event" and value not in ("", None)}
    _logger().info(event, extra={name: _plain(value) for name, value in fields.items()})


def source_line(error: BaseException) -> str:
    """The kind of an unexpected error and where it was raised, without its text, which may quote its input."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{at}"


def print_traceback(error: BaseException) -> None:
    """Prints the whole traceback. Its text may quote content, so it is for a developer's own machine alone."""
    traceback.print_exception(error, file=sys.stderr)


def _plain(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value
