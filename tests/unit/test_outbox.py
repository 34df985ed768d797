"""An outbox keeps the order of events, and no more bytes than the turn has."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnlog.domain.messages import to_json
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turn_stream import own_event
from turnlog.entrypoints.stream.outbox import Outbox

Result = TypeVar("Result")

FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def event(kind: str, **fields: Any) -> ReplyEvent:
    return ReplyEvent(kind, to_json({"type": kind} | fields))


def delta(text: str, index: int = 0, kind: str = "text_delta", **more: Any) -> ReplyEvent:
    told = {"type": kind, FIELDS.get(kind, "signature"): text, **more}
    return event("content_block_delta", index=index, delta=told)


def in_loop(do: Callable[[Outbox], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        return await do(Outbox())

    return asyncio.run(run())


def taken(*events: ReplyEvent) -> list[ReplyEvent]:
    """The events that come out when nobody takes any before the end."""

    async def put(box: Outbox) -> list[ReplyEvent]:
        for each in events:
            box.put(each)
        return box.take()

    return in_loop(put)


def test_deltas_of_a_block_that_nobody_takes_become_one() -> None:
    assert taken(delta("a"), delta("b"), delta("c")) == [delta("abc")]


@pytest.mark.parametrize("count", [255, 256, 257, 258, 512, 513])
def test_any_number_of_deltas_becomes_one_with_all_of_their_text(count: int) -> None:
    texts = [f"{number} " for number in range(count)]
    assert taken(*map(delta, texts)) == [delta("".join(texts))]


@pytest.mark.parametrize(
    "other",
    [
        delta("b", index=1),
        delta("b", kind="thinking_delta"),
        delta("b", kind="signature_delta"),
        delta("b", more="x"),
        event("content_block_stop", index=0),
        event("ping"),
        own_event("tool", id="1"),
    ],
    ids=lambda each: each.data,
)
def test_what_is_not_the_same_blocks_text_stays_between(other: ReplyEvent) -> None:
    events = [delta("a"), other, delta("c")]
    assert taken(*events) == events
    assert taken(other, other, delta("c"))[-1] == delta("c")


def test_a_delta_of_a_form_that_is_not_known_is_passed_on_as_it_came() -> None:
    odd = [event("content_block_delta", index=0), event("content_block_delta", index=0, delta={"type": "text_delta"})]
    odd += [event("content_block_delta", index=0, delta=["text_delta"]), delta("a")]
    assert taken(*odd) == odd


blocks = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([*FIELDS, "citations_delta"]), st.text(max_size=5)), max_size=40
)


@given(blocks, st.lists(st.booleans(), min_size=40, max_size=40))
def test_whenever_they_are_taken_they_say_the_same(parts: Sequence[tuple[int, str, str]], takes: list[bool]) -> None:
    async def put(box: Outbox) -> list[ReplyEvent]:
        found = []
        for (index, kind, text), takes_now in zip(parts, takes, strict=False):
            box.put(delta(text, index, kind))
            found += box.take() if takes_now else []
        return found + box.take()

    def said(events: Sequence[ReplyEvent]) -> Iterator[tuple[int, str, str]]:
        """Each character with its block and kind; events without text once."""
        for each in events:
            fields = json.loads(each.data)
            kind = fields["delta"]["type"]
            for character in fields["delta"][FIELDS.get(kind, "signature")]:
                yield fields["index"], kind, character

    whole = [delta(text, index, kind) for index, kind, text in parts]
    assert list(said(in_loop(put))) == list(said(whole))


def test_what_waits_takes_about_as_many_bytes_as_it_says() -> None:
    """A reply of 16,000 tokens in as many deltas, which nobody reads."""

    async def put(box: Outbox) -> int:
        tracemalloc.start()
        for number in range(16_000):
            box.put(delta(f"{number:04}"[-4:]))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(box.take()) == 1
        return held

    assert in_loop(put) < 4 * 16_000 + 200_000


def test_what_comes_from_a_thread_wakes_who_waits() -> None:
    async def wait(box: Outbox) -> list[ReplyEvent]:
        def work() -> None:
            box.put(delta("a"))
            box.end()

        thread = threading.Thread(target=work)
        thread.start()
        assert await box.until(lambda: box.has_news, 10)
        thread.join()
        assert await box.until(lambda: box.is_ended, 10)
        await box.over.wait()
        return box.take()

    assert in_loop(wait) == [delta("a")]


def test_who_waits_in_vain_goes_on_after_the_time() -> None:
    async def wait(box: Outbox) -> bool:
        return await box.until(lambda: box.has_news, 0)

    assert in_loop(wait) is False


def test_the_event_that_only_says_what_will_come_is_no_beginning() -> None:
    async def put(box: Outbox) -> list[bool]:
        found = []
        for each in (own_event("turn"), event("message_start")):
            box.put(each)
            found.append(box.has_begun)
        return found

    assert in_loop(put) == [False, True]


def test_nothing_is_kept_for_nobody() -> None:
    async def put(box: Outbox) -> list[ReplyEvent]:
        box.put(delta("a"))
        box.close()
        box.put(delta("b"))
        assert box.count == 2
        return box.take()

    assert in_loop(put) == []


def test_what_is_put_after_the_loop_has_closed_is_lost_and_raises_nothing() -> None:
    async def keep(box: Outbox) -> Outbox:
        box.wake()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await box.until(lambda: False)
        return box

    box = in_loop(keep)
    box.put(delta("a"))
    box.end()
