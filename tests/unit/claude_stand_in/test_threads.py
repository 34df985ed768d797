"""Threads, which the server keeps. The types named are those of anthropic 2.12.0."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from local.claude_stand_in import StandIn
from local.claude_stand_in import threads as threads_module
from local.claude_stand_in.errors import ApiError
from tests.unit.claude_stand_in.asking import MODEL, WELL_FORMED, posted, streamed, with_content

BETA = "message-threads-2026-08-12"
CREATE = {"thread": {"type": "create"}}


def continued(previous: str, content: Any, **more: Any) -> dict[str, Any]:
    thread = {"type": "continue", "previous_message_id": previous}
    return with_content(content) | {"thread": thread} | more


def sent(claude: StandIn, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    return posted(claude, body, anthropic_beta=BETA, **headers)


def code_of(answer: dict[str, Any]) -> str:
    return str(answer["error"]["details"]["error_code"])


class Clock:
    """Gives the tool of a runner, and counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def tool(self) -> Any:
        @beta_tool
        def clock(zone: str) -> str:
            """The current time in a time zone."""
            self.runs += 1
            return f"noon in {zone}"

        return clock


def test_a_tool_runner_sends_only_what_is_new(claude: StandIn, sdk: anthropic.Anthropic) -> None:
    clock = Clock()
    asked: Any = [{"role": "user", "content": 'Call clock with {"zone": "UTC"} twice in a row'}]
    runner = sdk.beta.messages.tool_runner(
        model=MODEL, max_tokens=1_000, system="Be kind.", tools=[clock.tool()], messages=asked
    )
    last = runner.until_done()
    assert (clock.runs, last.stop_reason) == (2, "end_turn")
    assert str(last.content[-1].to_dict()["text"]).endswith("noon in UTC\nThe tool clock answered: noon in UTC")
    bodies = [each.body for each in claude.requests if each.body]
    assert [each["thread"]["type"] for each in bodies] == ["create", "continue", "continue"]
    assert [len(each["messages"]) for each in bodies] == [1, 1, 1]
    assert ["tools" in each for each in bodies] == [True, False, False]


def test_a_thread_of_the_sdk_remembers(claude: StandIn, sdk: anthropic.Anthropic) -> None:
    thread = sdk.beta.messages.thread(model=MODEL, max_tokens=500, thinking={"type": "adaptive"})
    thread.send({"role": "user", "content": "My name is Ada."})
    reply = thread.send({"role": "user", "content": "What is my name?"})
    assert "Ada" in str(reply.content[-1])
    assert [len(each.body["messages"]) for each in claude.requests if each.body] == [1, 1]


def test_it_replies_as_if_all_had_been_sent(claude: StandIn) -> None:
    _, first = sent(claude, WELL_FORMED | CREATE)
    whole = [*WELL_FORMED["messages"], {"role": "assistant", "content": first["content"]}]
    _, second = sent(claude, continued(first["id"], "And now?"))
    plain = posted(claude, WELL_FORMED | {"messages": [*whole, {"role": "user", "content": "And now?"}]})[1]
    assert (second["content"], second["id"]) == (plain["content"], plain["id"])


def test_a_reply_is_continued_once(claude: StandIn) -> None:
    """Types ThreadAlreadyContinuedErrorDetails."""
    _, first = sent(claude, WELL_FORMED | CREATE)
    assert sent(claude, continued(first["id"], "And now?"))[0] == 200
    status, answer = sent(claude, continued(first["id"], "And then?"))
    assert (status, code_of(answer)) == (400, "thread_already_continued")


def test_two_cannot_continue_it_at_once() -> None:
    """Types ThreadContinueInFlightErrorDetails."""
    threads = threads_module.Threads()
    with threads.turn("a", WELL_FORMED | CREATE) as turn:
        turn.keep("msg_1", [])
    body = continued("msg_1", "And now?")
    with (
        threads.turn("a", body),
        pytest.raises(ApiError) as raised,
        threads.turn("a", body),
    ):
        pass
    assert raised.value.details == {"error_code": "thread_continue_in_flight"}


@pytest.mark.parametrize("fault", ["overloaded", "error_after_text"])
def test_a_turn_that_failed_can_be_tried_again(claude: StandIn, fault: str) -> None:
    _, first = sent(claude, WELL_FORMED | CREATE)
    claude.fail(fault)
    assert sent(claude, continued(first["id"], "And now?"))[0] == 529
    assert sent(claude, continued(first["id"], [{"type": "hologram"}]))[0] == 400
    assert sent(claude, continued(first["id"], "And now?"))[0] == 200


@pytest.mark.parametrize("previous", ["msg_unheard_of", "another's"])
def test_there_is_no_thread_but_ones_own(claude: StandIn, previous: str) -> None:
    """Types ThreadNotFoundErrorDetails."""
    _, first = sent(claude, with_content("A thread of another") | CREATE, x_api_key="another")
    named = first["id"] if previous == "another's" else previous
    status, answer = sent(claude, continued(named, "And now?"))
    assert (status, answer["error"]["type"], code_of(answer)) == (404, "not_found_error", "thread_not_found")


def test_a_refused_turn_is_not_kept(claude: StandIn) -> None:
    _, first = sent(claude, with_content("Stop with refusal") | CREATE)
    assert code_of(sent(claude, continued(first["id"], "And now?"))[1]) == "thread_not_found"


def test_a_stream_begins_and_continues_a_thread(claude: StandIn) -> None:
    first = streamed(claude, WELL_FORMED | CREATE, anthropic_beta=BETA).events[0]["message"]["id"]
    stream = streamed(claude, continued(first, "And now?"), anthropic_beta=BETA)
    assert "This is message 2" in stream.text


def test_a_paused_turn_goes_on_with_no_message(claude: StandIn) -> None:
    """The file lib/threads/_thread_state.py."""
    _, first = sent(claude, with_content("Stop with pause_turn") | CREATE)
    assert first["stop_reason"] == "pause_turn"
    _, second = sent(claude, continued(first["id"], "") | {"messages": []})
    assert second["stop_reason"] == "end_turn"


@pytest.mark.parametrize(
    ("field", "value"),
    [("cache_control", {"type": "ephemeral"}), ("context_management", {"edits": []}), ("fallbacks", "default")],
)
def test_some_fields_do_not_go_with_threads(claude: StandIn, field: str, value: object) -> None:
    """Types ThreadUnsupportedRequestErrorDetails."""
    betas = f"{BETA},context-management-2025-06-27,server-side-fallback-2026-06-01"
    status, answer = posted(claude, WELL_FORMED | CREATE | {field: value}, anthropic_beta=betas)
    details = {"error_code": "thread_unsupported_request", "unsupported": [field]}
    assert (status, answer["error"]["details"]) == (400, details)


@pytest.mark.parametrize(("field", "value"), [("system", "Be brief."), ("tools", [])])
def test_what_the_thread_keeps_is_not_sent_again(claude: StandIn, field: str, value: object) -> None:
    """The file lib/threads/_thread_state.py."""
    _, first = sent(claude, WELL_FORMED | CREATE)
    assert sent(claude, continued(first["id"], "And now?", **{field: value}))[0] == 400
    assert sent(claude, continued(first["id"], "And now?"))[0] == 200


@pytest.mark.parametrize(
    "thread", ["create", {}, {"type": "fork"}, {"type": "create", "previous_message_id": "m"}, {"type": []}]
)
def test_what_is_no_thread_is_refused(claude: StandIn, thread: object) -> None:
    assert sent(claude, WELL_FORMED | {"thread": thread})[0] == 400


def test_without_the_beta_there_are_no_threads(claude: StandIn) -> None:
    status, answer = posted(claude, WELL_FORMED | CREATE)
    assert (status, answer["error"]["message"]) == (400, "thread: Extra inputs are not permitted")
    assert sent(claude, WELL_FORMED | {"thread": None})[0] == 200


def test_old_threads_are_forgotten(claude: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads_module, "KEPT_THREADS", 2)
    first, *_, last = [sent(claude, with_content(f"Hello {number}") | CREATE)[1]["id"] for number in range(3)]
    assert code_of(sent(claude, continued(first, "And now?"))[1]) == "thread_not_found"
    assert sent(claude, continued(last, "And now?"))[0] == 200
