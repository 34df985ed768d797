"""Streamed and KeptAlive: answers of a route that come while they are made, or keep a reader waiting for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from turnlog.domain.turn_stream import Emit
from turnlog.entrypoints.http.answers import Response
from turnlog.entrypoints.http.api import Invocation
from turnlog.entrypoints.http.request import Request

QUIET_S = 10.0
"""Seconds after which a stream begins though nothing has come: so long an error is still a plain answer."""

PING_S = 15.0
"""Seconds of silence after which a ping tells that the work goes on; clients give up after 300 (Claude Code)."""

LONGEST_SILENCE_S = 60.0
"""Seconds after which a buffered answer begins with a line end, so that nobody on the way takes it for dead."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A stream of events, each of which `run` emits as soon as there is one.

    `run` is called in a thread of its own, and runs to its end, whoever reads. What it returns notes the request in the
    log. While it has emitted nothing but `turnlog.turn` it may also return or raise a whole answer instead; an error
    after that becomes an `error` event. The headers are those of the stream, beside the usual ones; `quiet_s` are the
    seconds after which it begins though nothing has come.
    """

    run: Callable[[Emit], Response | None]
    headers: Mapping[str, str] = field(default_factory=dict)
    quiet_s: float = QUIET_S


@dataclass(frozen=True, slots=True)
class KeptAlive:
    """One JSON answer, which `run` makes in a thread of its own, to its end, whoever reads.

    After `quiet_s` seconds the response begins with a line end, which JSON allows there, and has another one after each
    PING_S; its status is 200 then, and its headers are these. After an error, which is its body, the connection is cut.
    """

    run: Callable[[], Response]
    quiet_s: float = LONGEST_SILENCE_S
    headers: Mapping[str, str] = field(default_factory=dict)


Route = Callable[[Request, Invocation], Response | Streamed | KeptAlive]
"""The work for a request, given what there is to know of this invocation; it runs in the thread of the work, too."""
