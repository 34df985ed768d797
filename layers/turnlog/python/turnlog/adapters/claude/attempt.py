"""Attempt: one call of the provider, which is noted once, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable

import anthropic
import httpx2

from turnlog.adapters.claude.arguments import arguments_of
from turnlog.adapters.claude.call_notes import NoteCall
from turnlog.adapters.claude.failures import meaning
from turnlog.adapters.claude.headers import STAND_IN, limits_left, request_id_of
from turnlog.adapters.claude.streaming import StreamedReply
from turnlog.adapters.claude.time_bounds import is_stream
from turnlog.domain.messages import ModelRequest, Reply
from turnlog.domain.received_reply import reply_in
from turnlog.domain.reply_events import OnEvent, events_of
from turnlog.errors import ModelError, ModelProtocolError, ModelRejected

# What compresses may hold events back until it has enough of them.
_UNCOMPRESSED = {"accept-encoding": "identity"}


class Attempt:
    """One call, which begins now. `clock` returns seconds."""

    def __init__(
        self,
        client: anthropic.Anthropic,
        request: ModelRequest,
        clock: Callable[[], float],
        note_call: NoteCall,
        *,
        allows_stand_in: bool,
    ) -> None:
        self._client = client
        self._request = request
        self._clock = clock
        self._note_call = note_call
        self._allows_stand_in = allows_stand_in
        self._began = clock()
        self._first_event_ms: int | None = None

    def reply(self, seconds: float, connect_s: float, on_event: OnEvent | None) -> Reply:
        """Returns the reply, which `on_event` hears as it comes.

        Raises a ModelError, or one of the client's own errors, of which `failed` tells the meaning.
        """
        arguments = arguments_of(self._request)
        timeout = httpx2.Timeout(seconds, connect=connect_s)
        if on_event is None:
            raw = self._client.messages.with_raw_response.create(**arguments, timeout=timeout)
            return self._whole(raw.http_response)
        create = self._client.messages.with_streaming_response.create
        with create(**arguments, stream=True, timeout=timeout, extra_headers=_UNCOMPRESSED) as streamed:
            response = streamed.http_response
            if is_stream(response):
                return self._streamed(response, seconds, on_event)
            response.read()
            reply = self._whole(response)
        all(map(on_event, events_of(reply)))
        return reply

    def failed(self, error: anthropic.APIError | httpx2.HTTPError) -> ModelError:
        """The meaning of the client's error, with which the call has ended."""
        response = error.response if isinstance(error, anthropic.APIStatusError) else None
        failed = meaning(error, self._request.settings.model)
        failed.provider_request_id = request_id_of(response.headers) if response else ""
        self._note(response, failed.code)
        return failed

    def _whole(self, response: httpx2.Response) -> Reply:
        self._require_allowed(response)
        self._note(response)
        request_id = request_id_of(response.headers)
        try:
            return reply_in(response.content, request_id)
        except ModelProtocolError as error:
            error.provider_request_id = request_id
            raise

    def _streamed(self, response: httpx2.Response, seconds: float, on_event: OnEvent) -> Reply:
        self._require_allowed(response)
        request_id = request_id_of(response.headers)
        streamed = StreamedReply(response, self._request.settings.model, request_id, on_event)
        left_s = self._began + seconds - self._clock()
        try:
            reply = streamed.read(left_s, self._note_first_event)
        except ModelError as error:
            error.provider_request_id = request_id
            self._note(response, error.code)
            raise
        self._note(response)
        return reply

    def _require_allowed(self, response: httpx2.Response) -> None:
        if STAND_IN in response.headers and not self._allows_stand_in:
            raise ModelRejected

    def _note_first_event(self) -> None:
        self._first_event_ms = self._ms()

    def _note(self, response: httpx2.Response | None, code: str = "") -> None:
        fields = limits_left(response.headers) if response else {}
        fields |= {"code": code} if code else {}
        fields |= {} if self._first_event_ms is None else {"first_event_ms": self._first_event_ms}
        self._note_call(
            model=self._request.settings.model,
            ms=self._ms(),
            provider_request_id=request_id_of(response.headers) if response else "",
            status=response.status_code if response else None,
            **fields,
        )

    def _ms(self) -> int:
        return round((self._clock() - self._began) * 1000)
