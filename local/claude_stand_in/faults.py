"""Failures on demand, each for one of the next requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.claude_stand_in.errors import STATUS_OF, ApiError, invalid
from local.claude_stand_in.rules.thinking import BOUND

KINDS = (
    "rate_limit",
    "overloaded",
    "server_error",
    "credit",
    "retired",
    "bound_thinking",
    "cut",
    "early_end",
    "silence",
    "slow",
    "garbage",
    "paced",
    "stall",
    "never_ends",
    "error_after_text",
    "no_stop_reason",
    "two_starts",
    "unknown_event",
)
MOST_EVENTS = 1_000_000
MOST_TIMES = 10_000

_FIELDS = {"fault", "times", "retry_after_s", "seconds", "match", "events", "error_type"}
_DEFAULT_SECONDS = {"silence": 60.0, "slow": 1.0, "paced": 1.0, "stall": 60.0, "never_ends": 60.0}
_ERRORS = {
    "rate_limit": ("rate_limit_error", "This request would exceed the rate limit."),
    "overloaded": ("overloaded_error", "Overloaded"),
    "server_error": ("api_error", "Internal server error"),
    "credit": (
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or"
        " purchase credits.",
    ),
    "retired": ("not_found_error", "model: claude-retired"),
    "bound_thinking": (
        "invalid_request_error",
        f"messages.1.content.0: Invalid `signature` in `thinking` block. {BOUND}",
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A failure of one request. `match` must occur in the text of the last user message; "" occurs in every one.

    `events` come before a fault in the middle of a stream; None stands for all up to the first text. `error_type` is
    that of `error_after_text`.
    """

    kind: str
    times: int = 1
    retry_after_s: float | None = None
    seconds: float | None = None
    match: str = ""
    events: int | None = None
    error_type: str = "overloaded_error"

    def __post_init__(self) -> None:
        """Raises ApiError for values that no fault has."""
        if self.kind not in KINDS:
            raise invalid(f"fault: should be one of {', '.join(KINDS)}")
        if type(self.times) is not int or not 1 <= self.times <= MOST_TIMES:
            raise invalid(f"times: should be from 1 to {MOST_TIMES}")
        if not isinstance(self.match, str):
            raise invalid("match: should be a string")
        if self.events is not None and (type(self.events) is not int or not 0 <= self.events <= MOST_EVENTS):
            raise invalid(f"events: should be from 0 to {MOST_EVENTS}")
        if not isinstance(self.error_type, str) or self.error_type not in STATUS_OF:
            raise invalid(f"error_type: should be one of {', '.join(STATUS_OF)}")
        _check_seconds("seconds", self.seconds, lambda seconds: seconds > 0)
        _check_seconds("retry_after_s", self.retry_after_s, lambda seconds: seconds >= 0)

    @classmethod
    def of_json(cls, value: object) -> Fault:
        """Reads `{"fault": "overloaded", "times": 2}`. Raises ApiError for anything that is no fault."""
        if not isinstance(value, dict) or "fault" not in value or not value.keys() <= _FIELDS:
            raise invalid(f"a fault is an object with fault and optionally {', '.join(sorted(_FIELDS - {'fault'}))}")
        known: dict[str, Any] = {name: each for name, each in value.items() if name != "fault" and each is not None}
        return cls(value["fault"], **known)

    @property
    def wait_s(self) -> float:
        """Seconds of silence, or those that a reply takes longer or goes on."""
        return _DEFAULT_SECONDS[self.kind] if self.seconds is None else self.seconds

    @property
    def error(self) -> ApiError | None:
        """The error that the API answers; None for a fault of another kind. A rate limit always has retry-after."""
        if self.kind not in _ERRORS:
            return None
        after_s = 1 if self.retry_after_s is None and self.kind == "rate_limit" else self.retry_after_s
        return ApiError(*_ERRORS[self.kind], headers={} if after_s is None else {"retry-after": f"{after_s:g}"})

    @property
    def mid_stream_error(self) -> ApiError:
        """The error of `error_after_text`."""
        overloaded = self.error_type == "overloaded_error"
        return ApiError(self.error_type, "Overloaded" if overloaded else f"The stand-in fails with {self.error_type}.")


class Faults:
    """The faults to come, in order. Each meets `times` matching requests and is then removed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Fault] = []

    def add(self, *faults: Fault) -> None:
        """Appends faults after those that wait already."""
        with self._lock:
            self._waiting += [fault for fault in faults for _ in range(fault.times)]

    def clear(self) -> None:
        """Removes all faults."""
        with self._lock:
            self._waiting.clear()

    def take(self, text: str) -> Fault | None:
        """Removes and returns the first fault that matches this last user message; None when none does."""
        with self._lock:
            for number, fault in enumerate(self._waiting):
                if fault.match in text:
                    return self._waiting.pop(number)
        return None


def _check_seconds(field: str, value: object, allowed: Callable[[float], bool]) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value) or value > 86_400:
        raise invalid(f"{field}: should be a number of seconds up to a day")
