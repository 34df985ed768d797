"""POST /sessions/{id}/turns/stream: a turn as it comes, which is stored whoever reads."""

from __future__ import annotations

import json
import threading

import pytest

from tests.fakes import OWNER, ScriptedModel, called
from tests.handlers.conftest import Answered, Call
from tests.handlers.test_anonymous import begin
from tests.handlers.test_session import create, take
from tests.stream.conftest import Backstage, Served, running
from tests.stream.held_model import HeldModel
from tests.stream.reading import Reading, wait_for_work
from turnlog.domain.turns import Turn
from turnlog.entrypoints.stream import NATIVE, make_app, native

HELLO = {"message": "hello"}
OF_A_TURN = 15
"""Events of a turn with HeldModel: the first, a start, one block with eight deltas, the end, and the last."""


@pytest.fixture
def model(backstage: Backstage) -> HeldModel:
    backstage.model = HeldModel()
    return backstage.model


@pytest.fixture
def session_id(call: Call) -> str:
    return str(create(call).body["session_id"])


def path(session_id: str) -> str:
    return f"/sessions/{session_id}/turns/stream"


def ask(served: Served, session_id: str, key: str = "k", body: object = HELLO, **headers: str) -> Reading:
    """A request for a streamed turn, whose answer has not been looked at."""
    return Reading(served, path(session_id), body, {"Idempotency-Key": key, **headers})


def again(call: Call, session_id: str, key: str = "k") -> Answered:
    """The same request to the buffered route."""
    return take(call, session_id, "hello", key=key)


def stored(backstage: Backstage, session_id: str) -> tuple[Turn, ...]:
    return tuple(backstage.store.read(OWNER, session_id, backstage.clock(), newest=25).turns)


def test_it_tells_what_it_is_of_then_the_message_then_what_it_cost(
    served: Served, model: HeldModel, session_id: str
) -> None:
    reading = ask(served, session_id)
    assert model.asked.wait(10)
    events = reading.step(model, OF_A_TURN)
    assert reading.rest() == []
    assert events.types[0] == "turnlog.turn"
    assert events.types[-2:] == ["message_stop", "turnlog.done"]
    first, last = events.own("turn")[0], events.own("done")[0]
    named = {"session_id": session_id, "turn": 1, "replayed": False}
    assert first == {"type": "turnlog.turn", **named, "idempotency_key": "k"}
    assert last.items() >= named.items()
    assert (last["cost_usd"], last["usage"]) == ("0.00007", {"input_tokens": 10, "output_tokens": 5})
    assert last["expires_at"] > last["idle_expires_at"]
    assert not {"text", "content", "steps", "results"} & set(last)


def test_the_first_word_is_there_while_the_model_still_writes(
    served: Served, model: HeldModel, session_id: str, backstage: Backstage
) -> None:
    reading = ask(served, session_id)
    assert reading.step(model, 4).types[-1] == "content_block_delta"
    assert stored(backstage, session_id) == ()
    model.free()
    assert reading.rest().types[-1] == "turnlog.done"


@pytest.mark.parametrize("read", range(OF_A_TURN + 1))
def test_who_hangs_up_after_any_event_loses_nothing(
    served: Served, model: HeldModel, session_id: str, backstage: Backstage, call: Call, read: int
) -> None:
    """The turn goes on and is stored, and its key gets it again: whole, and as a stream."""
    reading = ask(served, session_id)
    assert model.asked.wait(10)
    if read:
        reading.step(model, read)
    reading.hang_up()
    model.free()
    wait_for_work()
    (turn,) = stored(backstage, session_id)
    whole, stream = again(call, session_id), ask(served, session_id).open().rest()
    assert len(model.requests) == 1
    assert (whole.status, whole.headers["Idempotent-Replayed"], whole.body["text"]) == (200, "true", turn.reply.text)
    assert stream.message.text == turn.reply.text
    assert [each["replayed"] for each in (*stream.own("turn"), *stream.own("done"))] == [True, True]


def test_a_key_that_was_used_for_a_stream_or_for_a_whole_answer_is_the_same_key(
    served: Served, model: HeldModel, session_id: str, call: Call
) -> None:
    model.free()
    first = again(call, session_id, "whole")
    streamed = ask(served, session_id, "whole").open().rest()
    assert streamed.message.text == first.body["text"]
    ask(served, session_id, "stream").open().rest()
    assert again(call, session_id, "stream").headers["Idempotent-Replayed"] == "true"
    assert len(model.requests) == 2
    other = ask(served, session_id, "stream", {"message": "another"}).open()
    assert (other.status, other.problem["code"]) == (422, "idempotency_key_reused")


def test_while_it_runs_the_same_key_gets_409_and_the_time_to_wait(
    served: Served, model: HeldModel, session_id: str, call: Call
) -> None:
    reading = ask(served, session_id)
    assert model.asked.wait(10)
    busy, whole = ask(served, session_id).open(), again(call, session_id)
    assert (busy.status, busy.problem["code"]) == (409, "turn_in_progress")
    assert int(busy.headers["retry-after"]) >= 1
    assert (whole.status, whole.body["code"]) == (409, "turn_in_progress")
    model.free()
    assert reading.open().rest().types[-1] == "turnlog.done"


def test_a_busy_session_is_waited_for_before_the_stream_begins(
    served: Served, model: HeldModel, session_id: str, backstage: Backstage
) -> None:
    first = ask(served, session_id, "first")
    assert model.asked.wait(10)

    def end_the_first() -> None:
        model.free()
        first.open().rest()
        backstage.after_sleep = lambda: None

    backstage.after_sleep = end_the_first
    second = ask(served, session_id, "second", Prefer="wait=5").open()
    assert (second.status, second.headers["preference-applied"]) == (200, "wait=5")
    assert second.rest().own("turn")[0]["turn"] == 2
    assert backstage.slept != []


def test_one_that_is_still_busy_then_is_told_by_the_status(
    served: Served, model: HeldModel, session_id: str, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the wait is: a stream that waits begins as much later."""
    monkeypatch.setattr(native, "QUIET_S", 0)
    first = ask(served, session_id, "first")
    assert model.asked.wait(10)
    second = ask(served, session_id, "second", Prefer="wait=20").open()
    assert (second.status, sum(backstage.slept)) == (409, 20)
    model.free()
    assert first.open().rest().types[-1] == "turnlog.done"


def test_cancel_stops_it_and_what_there_is_is_stored(
    served: Served, model: HeldModel, session_id: str, call: Call, backstage: Backstage
) -> None:
    reading = ask(served, session_id)
    reading.step(model, 6)
    named = {"id": session_id, "n": "1"}
    assert call("session", "POST", "/sessions/{id}/turns/{n}/cancel", parameters=named).status == 202
    model.free()
    rest = reading.rest()
    assert rest.types[-3:] == ["message_delta", "message_stop", "turnlog.done"]
    assert rest.own("done")[0]["stop_reason"] == stored(backstage, session_id)[0].stop_reason


def test_a_session_that_is_deleted_meanwhile_ends_its_stream_with_an_error(
    served: Served, model: HeldModel, session_id: str, call: Call, backstage: Backstage
) -> None:
    reading = ask(served, session_id)
    reading.step(model, 4)
    assert call("session", "DELETE", "/sessions/{id}", parameters={"id": session_id}).status == 204
    model.free()
    rest = reading.rest()
    assert "message_stop" not in rest.types
    error = json.loads(rest[-1].data)
    assert (error["problem"]["status"], error["error"]["details"]) == (404, {"error_code": "session_not_found"})
    assert "denied" in backstage.audit.actions
    assert ask(served, session_id).open().status == 404


def test_tools_show_as_they_run_and_all_calls_are_one_message(served: Served, backstage: Backstage, call: Call) -> None:
    use = called(("current_time", {}), text="I look.")
    backstage.model = ScriptedModel(script=[(use, "tool_use")])
    session_id = create(call, {"tools": ["current_time"]}).body["session_id"]
    events = ask(served, session_id).open().rest()
    assert events.types.count("message_start") == events.types.count("message_stop") == 1
    assert [each["status"] for each in events.own("tool")] == ["running", "done"]
    starts = [json.loads(event.data) for event in events if event.type == "content_block_start"]
    assert [start["index"] for start in starts] == list(range(len(starts)))
    last = events.own("done")[0]
    assert last["usage"] == {"input_tokens": 20, "output_tokens": 10}


def test_an_anonymous_caller_streams_in_its_own_session_and_nowhere_else(
    served: Served, model: HeldModel, session_id: str, call: Call
) -> None:
    model.free()
    secret = "s" * 43
    own = begin(call, secret).body["session_id"]
    known = {"Authorization": f"Session {secret}"}
    assert ask(served, own, **known).open().status == 200
    assert ask(served, session_id, **known).open().status == 404
    refused = Reading(served, "/query/stream", HELLO, known).open()
    assert (refused.status, refused.problem["code"]) == (403, "forbidden")


def test_twenty_run_at_the_same_time(served: Served, model: HeldModel, call: Call) -> None:
    """None of them waits for another's end, as those would that share a pool of threads."""
    sessions = [str(create(call).body["session_id"]) for _ in range(20)]
    together = threading.Barrier(20, timeout=10)

    def wait() -> None:
        together.wait()

    model.during = wait
    model.free()
    for reading in [ask(served, session_id) for session_id in sessions]:
        assert reading.open().rest().types[-1] == "turnlog.done"


def test_a_server_that_is_told_to_end_waits_for_the_turn_that_runs(
    model: HeldModel, session_id: str, backstage: Backstage
) -> None:
    serving = running(make_app(NATIVE))
    reading = ask(next(serving), session_id)
    reading.step(model, 4)
    reading.hang_up()
    ending = threading.Thread(target=lambda: next(serving, None))
    ending.start()
    assert stored(backstage, session_id) == ()
    model.free()
    ending.join(20)
    assert len(stored(backstage, session_id)) == 1
