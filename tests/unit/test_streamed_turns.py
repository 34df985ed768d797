"""Turns that are shown as they come, on the in-memory store: what a reader gets, and what is stored and paid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import OWNER
from tests.readers import Events
from tests.unit.desk import Desk, Killed, never_renewed, text, wants
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.reply_events import ReplyEvent
from turnlog.domain.turn_stream import MOST_RETRY_S, TurnStream
from turnlog.domain.turns import INTERRUPTED, STOPPED, Turn
from turnlog.errors import (
    KeyReused,
    LeaseLost,
    ModelFailed,
    ModelUnavailable,
    SessionNotFound,
    StreamOvertaken,
    TurnInProgress,
    TurnStopped,
)
from turnlog.usecases.caller import Caller
from turnlog.usecases.cancel_turn import cancel_turn
from turnlog.usecases.turn_protocol import TakenTurn
from turnlog.usecases.turn_request import TurnPolicy

_BUDGET = TurnPolicy(owner=OwnerLimits(budget_a_day=Decimal(100_000)))
LONG = "A heron stands in the water and waits."


@dataclass
class Reader:
    """Somebody who reads turns of a desk as they come. `renew` writes the lease again, while something runs."""

    desk: Desk
    events: Events = field(default_factory=Events)
    stored_at_the_end: list[bool] = field(default_factory=list)
    renew: Callable[[], bool] | None = None

    def hear(self, event: ReplyEvent) -> None:
        self.events.append(event)
        if event.type in ("message_delta", "message_stop"):
            self.stored_at_the_end.append(bool(self.desk.turns))

    def turn(self, said: str, key: str, *script: Any, **more: Any) -> TakenTurn:
        return self.desk.turn(said, key, *script, stream=TurnStream(self.hear), **more)

    @contextmanager
    def renewing(self, renew: Callable[[], bool]) -> Iterator[None]:
        before, self.renew = self.renew, renew
        yield
        self.renew = before

    def let_renew(self) -> None:
        if self.renew:
            self.renew()

    def at_delta(self, number: int, act: Callable[[], None]) -> None:
        """Lets something happen before that delta of a text, and then lets the lease be renewed."""
        deltas: list[ReplyEvent] = []

        def between(event: ReplyEvent) -> None:
            if event.type == "content_block_delta":
                deltas.append(event)
                if len(deltas) == number:
                    act()
                    self.let_renew()

        self.desk.model.between = between

    @property
    def is_at_the_end(self) -> bool:
        return "message_stop" in self.events.types


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def reader(desk: Desk) -> Reader:
    reader = Reader(desk)
    desk.renewing = reader.renewing
    return reader


def said_in(turn: Turn) -> list[dict[str, Any]]:
    """All blocks of the model's messages in the turn."""
    return [block for message in turn.messages if message.role == "assistant" for block in message.blocks]


def cancel(desk: Desk) -> None:
    cancel_turn(Caller(OWNER), desk.session.id, 1, store=desk.store, now_ms=desk.clock())


def test_what_is_shown_is_what_is_stored(reader: Reader) -> None:
    taken = reader.turn("one", "k", wants("a"), (text("half "), "pause_turn"), text(LONG))
    assert reader.events.message.message.blocks == said_in(taken.turn)
    assert reader.events.message.usage == taken.turn.usage
    assert (reader.events.types[0], reader.events.types[-1]) == ("turnlog.turn", "message_stop")


def test_the_first_event_names_the_session_and_the_turn(reader: Reader, desk: Desk) -> None:
    reader.turn("one", "k", text(LONG))
    (opened,) = reader.events.own("turn")
    assert opened == {"type": "turnlog.turn", "session_id": desk.session.id, "turn": 1, "replayed": False}


def test_the_end_is_shown_after_the_commit(reader: Reader) -> None:
    reader.turn("one", "k", wants("a"), text(LONG))
    assert reader.stored_at_the_end == [True, True]


def test_words_are_shown_before_the_reply_is_there(reader: Reader, desk: Desk) -> None:
    seen: list[int] = []
    desk.model.between = lambda event: seen.append(reader.events.types.count("content_block_delta"))
    reader.turn("one", "k", text(LONG))
    assert len(set(seen)) > 3


def test_tools_are_shown_while_they_run(reader: Reader, desk: Desk) -> None:
    shown: list[list[str]] = []
    desk.tools.during = lambda: shown.append([each["status"] for each in reader.events.own("tool")])
    reader.turn("one", "k", wants("a"), text(LONG))
    assert shown == [["running"]]
    assert [each["status"] for each in reader.events.own("tool")] == ["running", "done"]


def test_a_result_that_is_left_out_is_shown_as_failed(reader: Reader, desk: Desk) -> None:
    desk.tools.content = "x" * 900_000
    reader.turn("one", "k", wants("a", "b"), text(LONG))
    assert [each["status"] for each in reader.events.own("tool")][2:] == ["done", "failed"]


def test_a_replay_is_shown_as_the_turn_was(reader: Reader, desk: Desk) -> None:
    taken = reader.turn("one", "k", wants("a"), text(LONG))
    again = Reader(desk)
    assert again.turn("one", "k").replayed
    assert again.events.message == reader.events.message
    assert again.events.own("turn")[0] == reader.events.own("turn")[0] | {"replayed": True}
    assert desk.turn("one", "k").turn == taken.turn


def test_a_buffered_turn_is_replayed_as_a_stream(reader: Reader, desk: Desk) -> None:
    taken = desk.turn("one", "k", wants("a"), text(LONG))
    assert reader.turn("one", "k").turn == taken.turn
    assert reader.events.message.message.blocks == said_in(taken.turn)


def test_steps_of_a_handler_that_died_are_shown_first_with_their_tools_as_done(reader: Reader, desk: Desk) -> None:
    desk.killed_turn("one", "k", wants("a"), Killed())
    desk.lapse()
    taken = reader.turn("one", "k", text(LONG))
    assert reader.events.message.message.blocks == said_in(taken.turn)
    assert [(each["id"], each["status"]) for each in reader.events.own("tool")] == [("a", "done")]


def test_a_refused_turn_shows_nothing(reader: Reader, desk: Desk) -> None:
    desk.turn("one", "k", text("x"))
    with pytest.raises(KeyReused):
        reader.turn("another", "k", body="another")
    assert reader.events == []


def test_a_busy_session_shows_nothing(reader: Reader, desk: Desk) -> None:
    def another() -> None:
        with pytest.raises(TurnInProgress):
            reader.turn("two", "l")

    desk.model.during = another
    desk.turn("one", "k", text("x"))
    assert reader.events == []


def test_a_model_that_fails_leaves_a_stream_without_an_end(reader: Reader, desk: Desk) -> None:
    def fail(event: ReplyEvent) -> None:
        if event.type == "content_block_stop":
            raise ModelFailed

    desk.model.between = fail
    with pytest.raises(ModelFailed):
        reader.turn("one", "k", text(LONG))
    assert "content_block_delta" in reader.events.types
    assert not reader.is_at_the_end
    assert desk.turns == ()


def test_a_model_that_refuses_is_given_up_while_the_reader_still_waits(reader: Reader, desk: Desk) -> None:
    desk.remaining_s = [900.0] * 50
    with pytest.raises(ModelUnavailable):
        reader.turn("one", "k", ModelUnavailable(1))
    assert desk.model.retry_s == [MOST_RETRY_S]
    assert desk.running is None


# --- stops


def test_a_stop_keeps_what_was_shown(reader: Reader, desk: Desk) -> None:
    reader.at_delta(3, lambda: cancel(desk))
    taken = reader.turn("one", "k", text(LONG))
    assert taken.turn.stop_reason == STOPPED
    assert LONG.startswith(taken.turn.reply.text)
    assert 0 < len(taken.turn.reply.text) < len(LONG)
    assert reader.events.message.message.blocks == said_in(taken.turn)
    assert (reader.events.message.stop_reason, reader.is_at_the_end) == (STOPPED, True)
    assert desk.turn("one", "k").turn == taken.turn
    assert desk.turn("two", "l", text("y")).turn.number == 2


def test_a_stop_in_a_later_call_keeps_the_steps_too(reader: Reader, desk: Desk) -> None:
    reader.at_delta(2, lambda: cancel(desk))
    taken = reader.turn("one", "k", wants("a"), text(LONG))
    assert (taken.turn.stop_reason, len(taken.turn.calls)) == (STOPPED, 2)
    assert reader.events.message.message.blocks == said_in(taken.turn)


def test_the_cost_of_a_stopped_call_is_not_known_and_stays_reserved(desk: Desk) -> None:
    whole, cut = Desk(policy=_BUDGET), Desk(policy=_BUDGET)
    settled = whole.turn("one", "k", text(LONG))
    reader = Reader(cut)
    cut.renewing = reader.renewing
    reader.at_delta(3, lambda: cancel(cut))
    taken = reader.turn("one", "k", text(LONG)).turn
    assert (settled.turn.cost_usd is None, taken.cost_usd) == (False, None)
    assert taken.usage.fields == {"input_tokens": 100, "output_tokens": 1}
    assert whole.used == settled.turn.usage.tokens
    assert cut.used > 1000


def test_a_stop_before_the_first_word_keeps_the_usage(reader: Reader, desk: Desk) -> None:
    """The provider has said how long the prompt was, which is paid."""

    def between(event: ReplyEvent) -> None:
        if event.type == "message_start":
            cancel(desk)
            reader.let_renew()

    desk.model.between = between
    taken = reader.turn("one", "k", text(LONG)).turn
    assert (taken.stop_reason, taken.reply.content, taken.usage.count("input_tokens")) == (STOPPED, "[]", 100)
    assert reader.is_at_the_end


def test_a_stop_before_anything_came_leaves_the_steps_and_what_was_reserved() -> None:
    """Nobody knows if the call is billed, so it counts as a try."""
    for steps in (0, 1):
        desk = Desk(policy=_BUDGET)
        reader = Reader(desk)
        desk.renewing = reader.renewing

        def during(desk: Desk = desk, reader: Reader = reader, last: int = steps + 1) -> None:
            if len(desk.model.requests) == last:
                cancel(desk)
                reader.let_renew()
                desk.model.tells = "of its stop"

        desk.model.during = during
        script = [wants("a")] * steps + [text(LONG)]
        if steps:
            taken = reader.turn("one", "k", *script).turn
            assert (taken.stop_reason, len(taken.calls)) == (STOPPED, 1)
            assert reader.events.message.message.blocks == wants("a")
        else:
            with pytest.raises(TurnStopped):
                reader.turn("one", "k", *script)
            assert desk.running
            assert desk.running.attempt == 1
        assert desk.used > 1000


def test_a_model_that_cannot_stop_is_kept_and_shown_whole(reader: Reader, desk: Desk) -> None:
    def stop() -> None:
        cancel(desk)
        reader.let_renew()

    desk.model.during, desk.model.tells = stop, "at the end"
    taken = reader.turn("one", "k", wants("a"))
    assert (taken.turn.stop_reason, desk.tools.runs) == (STOPPED, {})
    assert reader.events.message.message.blocks == wants("a")


def test_a_stopped_buffered_turn_comes_to_the_end_of_its_reply(reader: Reader, desk: Desk) -> None:
    reader.at_delta(3, lambda: cancel(desk))
    assert desk.turn("one", "k", text(LONG)).turn.reply.text == LONG


# --- turns that cannot be stored any more


def test_the_model_is_stopped_when_the_session_has_ended(reader: Reader, desk: Desk) -> None:
    def delete() -> None:
        desk.store.delete(OWNER, desk.session.id, desk.clock())

    reader.at_delta(3, delete)
    with pytest.raises(SessionNotFound):
        reader.turn("one", "k", text(LONG))
    assert reader.events.types.count("content_block_delta") == 3
    assert not reader.is_at_the_end


def overtake(desk: Desk, *, key: str, said: str = "y") -> None:
    desk.lapse()
    desk.model.between, script, desk.model.script = (lambda event: None), desk.model.script, []
    desk.turn("one" if key == "k" else "two", key, text(said))
    desk.model.script = script


def test_the_model_is_stopped_when_the_turn_was_overtaken(reader: Reader, desk: Desk) -> None:
    reader.at_delta(3, lambda: overtake(desk, key="l"))
    with pytest.raises(LeaseLost):
        reader.turn("one", "k", text(LONG))
    assert reader.events.types.count("content_block_delta") == 3
    assert not reader.is_at_the_end


@pytest.mark.parametrize("is_renewed", [True, False])
def test_who_was_shown_another_reply_than_the_stored_one_is_told(reader: Reader, desk: Desk, is_renewed: bool) -> None:
    if not is_renewed:
        desk.renewing = never_renewed
    reader.at_delta(3, lambda: overtake(desk, key="k", said="Another reply."))
    with pytest.raises(StreamOvertaken):
        reader.turn("one", "k", text(LONG))
    assert not reader.is_at_the_end
    again = Reader(desk)
    assert again.turn("one", "k").replayed
    assert again.events.message.text == "Another reply."


def test_who_was_shown_nothing_yet_gets_the_stored_turn(reader: Reader, desk: Desk) -> None:
    def stand_still() -> None:
        desk.model.during = lambda: None
        overtake(desk, key="k", said="Another reply.")

    desk.model.during, desk.model.tells = stand_still, "nothing"
    desk.model.script = []
    assert reader.turn("one", "k", text("Another reply."), text(LONG)).turn.reply.text == "Another reply."
    assert reader.events.message.text == "Another reply."


def test_steps_that_another_key_kept_as_a_turn_are_not_taken_for_all_that_was_shown(reader: Reader, desk: Desk) -> None:
    """The turn that is stored has this handler's own token, and less than its reader was shown."""
    reader.at_delta(2, lambda: overtake(desk, key="l"))
    with pytest.raises(StreamOvertaken):
        reader.turn("one", "k", wants("a"), text(LONG))
    assert [turn.stop_reason for turn in desk.turns] == [INTERRUPTED, "end_turn"]
    assert not reader.is_at_the_end
