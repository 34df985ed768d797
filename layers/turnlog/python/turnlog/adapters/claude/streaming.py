"""The reading of a streamed reply: event by event, to its end or to where its listener stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import anthropic
import httpx2

from turnlog.adapters.claude.failures import error_event, meaning, meaning_after_events
from turnlog.adapters.claude.time_bounds import Cutter, cut_within
from turnlog.domain.messages import Reply
from turnlog.domain.reply_builder import ReplyBuilder
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.server_sent_events import EventReader, ServerSentEvent
from turnlog.domain.turns import MAX_CONTENT_BYTES
from turnlog.errors import ModelProtocolError, ModelTimeout

_MOST_EVENT_BYTES = MAX_CONTENT_BYTES + 100_000  # a block may come whole, and then the event is hardly larger than it
_END_WITHIN_S = 1.0  # of the answer after the reply: with its end the connection can be used again


class StreamedReply:
    """The reply in an answer of events, which `on_event` hears."""

    def __init__(self, response: httpx2.Response, asked_model: str, request_id: str, on_event: OnEvent) -> None:
        self._response = response
        self._asked_model = asked_model
        self._request_id = request_id
        self._on_event = on_event
        self._builder = ReplyBuilder()
        self._chunks = response.iter_bytes()
        self._has_told = False

    def read(self, seconds: float, note_first: Callable[[], None]) -> Reply:
        """Returns the reply, or what there is of it once the listener has stopped it.

        Calls `note_first` at the first event. Raises anthropic.APIStatusError when the answer is an error and nothing
        else, which the listener has not heard of: then another try may be made. Raises ModelFailed when the provider
        failed or the connection broke, ModelTimeout when the reply was not there after `seconds` or was silent for too
        long, and ModelProtocolError when it is none. Each of them may have been billed.
        """
        with cut_within(self._response, seconds) as cutter:
            try:
                return self._read(cutter, note_first)
            except httpx2.HTTPError as error:
                raise (ModelTimeout() if cutter.has_cut else meaning(error, self._asked_model)) from error
            except ModelProtocolError as error:
                if cutter.has_cut:  # an answer that ends with its connection seems to have come to its end
                    raise ModelTimeout from error
                raise

    def _read(self, cutter: Cutter, note_first: Callable[[], None]) -> Reply:
        for sent in self._events():
            if not self._has_told:
                note_first()
            event = self._builder.add(sent.data)
            if event.type == "error":
                raise self._meaning(error_event(sent.data, self._response))
            self._has_told = True
            goes_on = self._on_event(event)
            if self._builder.is_whole:
                break
            if not goes_on:
                return self._builder.stopped_reply(self._asked_model, self._request_id)
        reply = self._builder.reply(self._request_id)
        cutter.within(_END_WITHIN_S)
        with suppress(httpx2.HTTPError):  # the reply is here, whatever becomes of the connection
            for _ in self._chunks:
                pass
        return reply

    def _events(self) -> Iterator[ServerSentEvent]:
        reader = EventReader(_MOST_EVENT_BYTES)
        for chunk in self._chunks:
            try:
                yield from (event for event in reader.feed(chunk) if event.data)
            except ValueError as error:
                raise ModelProtocolError from error

    def _meaning(self, error: anthropic.APIStatusError) -> Exception:
        if self._builder.is_begun:
            return meaning_after_events(error)
        return meaning(error, self._asked_model) if self._has_told else error
