"""The course of a stream: its events, the silence before each, and what a fault makes of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.errors import ApiError
from local.claude_stand_in.faults import Fault
from local.claude_stand_in.wishes import Wishes

Event = dict[str, Any]

_PING: Event = {"type": "ping"}
_LEAST_PINGS = 4  # while it thinks; more when that takes longer
_ENDLESS_S = 0.05  # between the events of a stream that never ends
_UNKNOWN: Event = {"type": "moon_rise", "moon": {"phase": "full"}}
_UNKNOWN_DELTA = {"type": "hologram_delta", "hologram": "a heron"}


@dataclass(frozen=True, slots=True)
class Step:
    """An event, after so many seconds of silence."""

    event: Event
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Course:
    """All steps of a stream. One that is not whole breaks after the last of them."""

    steps: Iterable[Step]
    is_whole: bool = True


def seconds_of(wishes: Wishes, fault: Fault | None) -> float:
    """The seconds that a reply takes in all, streamed or not; not counted are silences that end without a reply."""
    return wishes.think_s + wishes.reply_s + (fault.wait_s if fault and fault.kind in ("paced", "stall") else 0)


def course_of(events: list[Event], wishes: Wishes, fault: Fault | None, request_id: str) -> Course:
    """The course of a reply's events."""
    paced_s = wishes.reply_s + (fault.wait_s if fault and fault.kind == "paced" else 0)
    between_s = paced_s / max(1, len(events) - 1)
    steps = [Step(event, between_s if number else 0.0) for number, event in enumerate(events)]
    steps = _thinking(steps, wishes.think_s)
    return _disturbed(steps, fault, request_id) if fault else Course(steps)


def _thinking(steps: list[Step], seconds: float) -> list[Step]:
    """The steps with pings while it thinks, which is at the start of the first block."""
    if not seconds:
        return steps
    count = max(_LEAST_PINGS, math.ceil(seconds))
    pings = [Step(_PING, seconds / count)] * count
    begin = next((n + 1 for n, each in enumerate(steps) if each.event["type"] == "content_block_start"), 1)
    return [*steps[:begin], *pings, *steps[begin:]]


def _disturbed(steps: list[Step], fault: Fault, request_id: str) -> Course:
    at = _middle(steps) if fault.events is None else min(fault.events, len(steps))
    before, rest = steps[:at], steps[at:]
    match fault.kind:
        case "cut":
            return Course(before, is_whole=False)
        case "early_end":
            return Course(steps[:-2])
        case "no_stop_reason":
            return Course([*steps[:-2], _without_reason(steps[-2]), steps[-1]])
        case "error_after_text":
            return Course([*before, Step(fault.mid_stream_error.envelope(request_id))])
        case "stall":
            rest = rest or [before.pop()]
            return Course([*before, Step(rest[0].event, rest[0].after_s + fault.wait_s), *rest[1:]])
        case "two_starts":
            return Course([*before, Step(steps[0].event), *rest])
        case "unknown_event":
            return Course([*before, Step(_UNKNOWN), *_deltas(before, _UNKNOWN_DELTA), *rest])
        case "never_ends":
            return Course(_endless(before, fault.wait_s), is_whole=False)
    return Course(steps)


def _middle(steps: list[Step]) -> int:
    """The number of events up to the first text; without one, up to the end of the last block."""
    texts = (n + 1 for n, each in enumerate(steps) if each.event.get("delta", {}).get("type") == "text_delta")
    return next(texts, len(steps) - 2)


def _without_reason(step: Step) -> Step:
    return Step(step.event | {"delta": step.event["delta"] | {"stop_reason": None}}, step.after_s)


def _deltas(before: list[Step], delta: dict[str, Any]) -> list[Step]:
    """A delta for the block that is open after these steps; none when none is."""
    last = next((each.event for each in reversed(before) if each.event["type"] != "ping"), {})
    if last.get("type") not in ("content_block_start", "content_block_delta"):
        return []
    return [Step({"type": "content_block_delta", "index": last["index"], "delta": delta})]


def _endless(before: list[Step], seconds: float) -> Iterator[Step]:
    """The steps, and then texts and pings by turns for so many seconds; pings alone when no block is open."""
    yield from before
    more = [*_deltas(before, {"type": "text_delta", "text": " more"}), Step(_PING)]
    for number in range(math.ceil(seconds / _ENDLESS_S)):
        yield Step(more[number % len(more)].event, _ENDLESS_S)


def plain_error(fault: Fault | None) -> ApiError | None:
    """The error that a reply has, when it is no stream, in place of the one in the middle of it."""
    return fault.mid_stream_error if fault and fault.kind == "error_after_text" else None
