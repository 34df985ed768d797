"""Sending: what has come so far goes to the reader, with signs of life in between, until the work has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.types import Message, Receive, Send

from turnlog.domain.messages import to_json
from turnlog.domain.server_sent_events import rendered
from turnlog.entrypoints.http.answers import Response, body_of, headers_of, note_request
from turnlog.entrypoints.stream.outbox import Outbox
from turnlog.entrypoints.stream.streamed import PING_S, KeptAlive, Streamed
from turnlog.entrypoints.stream.work import Work

STALL_S = 60.0
"""The seconds for which a reader may take nothing at all, once the work has ended; then it is left."""

_MOST_BYTES = 65_536  # in one piece: a reader that takes one is reading
_STREAM = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
_JSON = {"Content-Type": "application/json; charset=utf-8"}


class _ReaderGone(Exception):
    """The reader has hung up, or has taken nothing for too long."""


def start_of(answer: Response, **more: str) -> Message:
    """Returns the message with which the response begins."""
    headers = [(name.lower().encode(), value.encode()) for name, value in (headers_of(answer) | more).items()]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}


_PING = rendered("ping", to_json({"type": "ping"}))


class Sending:
    """The answer to one request on its way to its reader."""

    def __init__(self, work: Work, outbox: Outbox, receive: Receive, send: Send) -> None:
        self._work = work
        self._outbox = outbox
        self._receive = receive
        self._send = send
        self._is_over = False
        self._current: asyncio.Timeout | None = None
        self._bytes = 0

    async def finish(self, began_s: float) -> Response | None:
        """Returns the answer if it came before the response had to begin; None once a response was sent.

        Either way the work has ended, unless the server itself is stopped.
        """
        form = await self._form_to_begin_with(began_s)
        if form is None:
            return self._work.answer
        first_ms, is_read = round((time.monotonic() - began_s) * 1000), True
        try:
            with self._watched():
                await self._send_parts(form)
        except _ReaderGone:
            is_read = False
            self._outbox.close()
            await self._outbox.until(lambda: self._outbox.is_ended)
        answer = self._work.answer
        noted = Response(200, noted=answer.noted if answer else {})
        # Before the end of the response, after which Lambda runs nothing any more.
        note_request(
            self._work.request,
            noted,
            began_s,
            first_ms=first_ms,
            events=self._outbox.count,
            bytes_sent=self._bytes,
        )
        # Otherwise the connection is cut, so that nobody takes a part for the whole, or an error for a Message: the
        # status is 200 by now. Anthropic's SDKs raise at a cut, but would make an empty Message of an error.
        is_failure = isinstance(form, KeptAlive) and (answer is None or answer.status >= 400)
        if is_read and not is_failure:
            with suppress(_ReaderGone):
                await self._put(b"", is_last=True)
        return None

    async def _form_to_begin_with(self, began_s: float) -> Streamed | KeptAlive | None:
        """Waits until the response has to begin, and returns its form; None if the whole answer came before."""
        box, work = self._outbox, self._work
        await box.until(lambda: work.form is not None or box.is_ended)
        if work.form is not None:
            left_s = max(0.0, work.form.quiet_s - (time.monotonic() - began_s))
            await box.until(lambda: box.has_begun or box.is_ended, left_s)
        return None if box.is_ended and not box.has_begun and work.answer else work.form

    @contextmanager
    def _watched(self) -> Iterator[None]:
        tasks = [asyncio.create_task(self._leave_who_hangs_up()), asyncio.create_task(self._leave_who_stalls())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _leave_who_hangs_up(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._outbox.close()

    async def _leave_who_stalls(self) -> None:
        await self._outbox.over.wait()
        self._is_over = True
        if self._current:
            self._current.reschedule(asyncio.get_running_loop().time() + STALL_S)

    async def _send_parts(self, form: Streamed | KeptAlive) -> None:
        box, work = self._outbox, self._work
        is_stream = isinstance(form, Streamed)
        own = {**(_STREAM if is_stream else _JSON), **form.headers}
        await self._send(start_of(Response(200, headers=own)))
        quiet_s = 0.0  # at first: the headers alone may be held back on the way
        while True:
            has_news = await box.until(lambda: box.has_news, quiet_s)
            is_ended = box.is_ended
            if has_news:
                await self._put(b"".join(rendered(event.type, event.data) for event in box.take()))
            else:
                await self._put(_PING if is_stream else b"\n")
            if is_ended:
                break
            quiet_s = PING_S
        if not is_stream and work.answer:
            await self._put(body_of(work.answer).encode())
        elif is_stream and work.error:
            await self._put(rendered(work.error.type, work.error.data))

    async def _put(self, body: bytes, *, is_last: bool = False) -> None:
        """Sends the bytes once the reader takes more. Raises _ReaderGone, as far as that can be told."""
        for start in range(0, len(body) or is_last, _MOST_BYTES):
            part = body[start : start + _MOST_BYTES]
            try:
                async with asyncio.timeout(STALL_S if self._is_over else None) as self._current:
                    await self._send({"type": "http.response.body", "body": part, "more_body": not is_last})
            except (OSError, TimeoutError) as error:
                raise _ReaderGone from error
            finally:
                self._current = None
            self._bytes += len(part)
