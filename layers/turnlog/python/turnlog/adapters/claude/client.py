"""Claude: asks Anthropic's Messages API, and tries again where that cannot be paid twice.

The SDK's own retries are off: they ignore how much time is left, and each of them may be billed. This module tries
again only after failures that cannot have been billed, and only inside the time it was given.
"""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Callable
from typing import Protocol

import anthropic
import httpx2

from turnlog.adapters.claude.attempt import Attempt
from turnlog.adapters.claude.call_notes import NoteCall, note_nothing
from turnlog.adapters.claude.failures import RETRY_AFTER_S, mended, retry_after_s
from turnlog.adapters.claude.time_bounds import TotalTime
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.reply_events import OnEvent
from turnlog.errors import ModelAccessDenied, ModelUnavailable

_CONNECT_S = 5.0
_LEAST_USEFUL_S = 1.0  # with less time left than this another try is not begun


class ApiKey(Protocol):
    """Returns the key, from wherever it is kept; with `renewed` not from a cache."""

    def __call__(self, *, renewed: bool = False) -> str: ...


class Claude:
    """Asks Claude.

    `api_key` is called for each request, so that a rotated key is taken up, and once more when the provider refuses a
    cached one. With `allows_stand_in` false a reply that says it is a stand-in's is refused, as production must.
    `clock` returns seconds, and `note_call` is told of each HTTP call.
    """

    def __init__(
        self,
        base_url: str,
        api_key: ApiKey,
        *,
        allows_stand_in: bool = False,
        note_call: NoteCall = note_nothing,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        time_of = TotalTime(clock)
        http = anthropic.DefaultHttpxClient(
            follow_redirects=False,  # a conversation goes nowhere else
            event_hooks={"request": [time_of.begin], "response": [time_of.bound]},
        )
        weakref.finalize(self, http.close)  # the SDK closes only what it made itself
        self._sdk = anthropic.Anthropic(
            base_url=base_url, api_key="given with each request", max_retries=0, http_client=http
        )
        self._api_key = api_key
        self._allows_stand_in = allows_stand_in
        self._note_call = note_call
        self._clock = clock
        self._sleep = sleep

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        """Does ChatModel.reply. With `on_event` the events come as the provider sends them."""
        now = self._clock()
        deadline, retry_until = now + seconds, now + (seconds if retry_s is None else min(seconds, retry_s))
        client = self._sdk.with_options(api_key=self._api_key())
        renewed = False
        wait_s = 0.5
        while True:
            began = self._clock()
            if deadline - began < _LEAST_USEFUL_S:
                raise ModelUnavailable(RETRY_AFTER_S)
            attempt = Attempt(client, request, self._clock, self._note_call, allows_stand_in=self._allows_stand_in)
            try:
                return attempt.reply(deadline - began, _connect_s(retry_until - began), on_event)
            except (anthropic.APIError, httpx2.HTTPError) as error:
                failed = attempt.failed(error)
                if (other := mended(error, request)).messages != request.messages:
                    request = other  # or each further turn would be refused; what is refused is not billed
                    continue
                if isinstance(failed, ModelAccessDenied) and not renewed:
                    client, renewed = self._sdk.with_options(api_key=self._api_key(renewed=True)), True
                    continue
                if not isinstance(failed, ModelUnavailable):
                    raise failed from error
                pause_s = max(retry_after_s(error), wait_s * random.uniform(0.5, 1.5))  # noqa: S311 (jitter)
                now = self._clock()
                next_s = max(_LEAST_USEFUL_S, now - began)  # it may take as long as this one to be refused
                if now + pause_s + next_s > retry_until:
                    raise failed from error
            self._sleep(pause_s)
            wait_s *= 2


def _connect_s(retry_s: float) -> float:
    """The timeout of TCP and of TLS, which may each take it."""
    return max(_LEAST_USEFUL_S, min(_CONNECT_S, retry_s / 2))
