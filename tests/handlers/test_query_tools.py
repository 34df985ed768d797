"""Tools in a question: which are sent, which run here, where it ends, what it says of them and what it costs."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import OWNER, SERVER_KEY, START_MS, ScriptedModel, called
from tests.handlers.conftest import Answered, Backstage, Call
from turnlog import runtime
from turnlog.domain import tool_results
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.tool_functions import Tool
from turnlog.domain.tools import results_in
from turnlog.domain.window import WindowPolicy
from turnlog.errors import ContextTooLong, ModelFailed, ModelUnavailable
from turnlog.ports.tool_context import ToolContext
from turnlog.usecases.ask import MOST_CALLS
from turnlog.usecases.continuations import read_continuation

CLIENT = {"name": "weather", "input_schema": {"type": "object"}}
TIME = ("current_time", {"zone": "UTC"})
TEXT = [{"type": "text", "text": "It is late."}]


def ask(call: Call, tools: list[Any] | None = None, **more: Any) -> Answered:
    return call("query", "POST", "/query", {"message": "What time is it?", "tools": tools or ["current_time"], **more})


def script(stage: Backstage, *replies: tuple[list[dict[str, Any]], str]) -> ScriptedModel:
    model = ScriptedModel(script=list(replies))
    stage.model = model
    return model


def own(stage: Backstage, name: str, function: Any, seconds: float = 5) -> None:
    """Offers a tool more, which takes no input."""

    def named(context: ToolContext) -> object:
        return function(context)

    named.__name__, named.__doc__ = name, "Does something."
    stage.tools = [*stage.tools, Tool(named, seconds, True)]


class TestTheLoop:
    def test_the_service_s_tool_is_run_and_the_model_asked_again_with_its_result(
        self, call: Call, backstage: Backstage
    ) -> None:
        model = script(backstage, (called(TIME, text="I look."), "tool_use"), (TEXT, "end_turn"))
        answer = ask(call)
        assert (answer.status, answer.body["text"], answer.body["stop_reason"]) == (200, "It is late.", "end_turn")
        first, second = model.requests
        (defined,) = json.loads(first.settings.tools)
        assert (defined["name"], first.settings.own_tools) == ("current_time", ("current_time",))
        assert second.settings == first.settings
        assert [message.role for message in second.messages] == ["user", "assistant", "user"]
        (result,) = second.messages[2].blocks
        assert (result["type"], result["tool_use_id"]) == ("tool_result", "toolu_1")
        assert json.loads(result["content"])["time"] == "2026-09-21T14:13:20+00:00"

    def test_the_answer_has_each_step_and_what_all_of_them_used(self, call: Call, backstage: Backstage) -> None:
        script(backstage, (called(TIME), "tool_use"), (TEXT, "end_turn"))
        body = ask(call).body
        (step,) = body["steps"]
        assert step["content"] == called(TIME)
        assert step["results"][0]["tool_use_id"] == "toolu_1"
        assert (step["model"], step["usage"], step["message_id"]) == (
            "claude-sonnet-5-5",
            {"input_tokens": 10, "output_tokens": 5},
            "msg_1",
        )
        assert body["content"] == TEXT
        assert body["usage"] == {"input_tokens": 20, "output_tokens": 10}
        assert Decimal(body["cost_usd"]) == 2 * Decimal(step["cost_usd"])

    def test_an_answer_of_one_call_has_no_steps(self, call: Call, backstage: Backstage) -> None:
        body = ask(call).body
        assert not {"steps", "results"} & set(body)

    def test_calls_of_one_reply_have_their_results_in_one_message(self, call: Call, backstage: Backstage) -> None:
        model = script(backstage, (called(TIME, TIME, TIME), "tool_use"), (TEXT, "end_turn"))
        ask(call)
        assert results_in(model.requests[1].messages[2]) == ("toolu_1", "toolu_2", "toolu_3")

    def test_a_reply_that_pauses_is_sent_back_and_goes_on(self, call: Call, backstage: Backstage) -> None:
        searching = [{"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}]
        model = script(backstage, (searching, "pause_turn"), (TEXT, "end_turn"))
        body = ask(call).body
        assert [message.role for message in model.requests[1].messages] == ["user", "assistant"]
        (step,) = body["steps"]
        assert (step["content"], "results" in step, body["stop_reason"]) == (searching, False, "end_turn")

    @pytest.mark.parametrize(
        "blocks", [called(("weather", {})), called(TIME, ("weather", {})), called(("undeclared", {}))]
    )
    def test_a_call_of_the_callers_tool_ends_it_and_nothing_is_run(
        self, call: Call, backstage: Backstage, blocks: list[dict[str, Any]]
    ) -> None:
        model = script(backstage, (blocks, "tool_use"))
        body = ask(call, ["current_time", CLIENT]).body
        assert (body["stop_reason"], body["content"], "steps" in body) == ("tool_use", blocks, False)
        assert len(model.requests) == 1

    def test_the_web_is_searched_where_the_deployment_allows_it(self, call: Call, backstage: Backstage) -> None:
        assert ask(call, ["web_search"]).body["code"] == "tool_unknown"
        backstage.web = True
        assert ask(call, [{"type": "web_search", "max_uses": 2}]).status == 200
        (request,) = backstage.model.requests
        (search,) = json.loads(request.settings.tools)
        assert (search["name"], search["max_uses"], request.settings.own_tools) == ("web_search", 2, ())

    def test_the_choice_is_sent_with_the_tools_and_not_without(self, call: Call, backstage: Backstage) -> None:
        ask(call, tool_choice="none")
        call("query", "POST", "/query", {"message": "hi", "tool_choice": "none"})
        call("query", "POST", "/query", {"message": "hi", "tools": [], "tool_choice": "none"})
        assert [each.settings.tool_choice for each in backstage.model.requests] == ["none", "", ""]


class TestBounds:
    def test_a_tool_that_asks_for_itself_for_ever_ends_after_so_many_calls(
        self, call: Call, backstage: Backstage
    ) -> None:
        own(backstage, "again", lambda context: "Call the tool again.")
        asking = [(called(("again", {}), first=number), "tool_use") for number in range(50)]
        model = script(backstage, *asking)
        body = ask(call, ["again"]).body
        assert (len(model.requests), len(body["steps"])) == (MOST_CALLS, MOST_CALLS - 1)
        assert (body["stop_reason"], body["content"]) == ("pause_turn", asking[MOST_CALLS - 1][0])

    def test_no_further_call_is_begun_without_time_for_it(self, call: Call, backstage: Backstage) -> None:
        own(backstage, "slow", lambda context: backstage.clock.tick(seconds=23))
        model = script(backstage, (called(("slow", {})), "tool_use"), (TEXT, "end_turn"))
        body = ask(call, ["slow"]).body
        assert (len(model.requests), body["stop_reason"], body["content"]) == (1, "pause_turn", called(("slow", {})))

    def test_tools_leave_time_for_the_call_after_them(self, call: Call, backstage: Backstage) -> None:
        seen: list[float] = []
        own(backstage, "look", lambda context: seen.append(context.seconds_left()), seconds=1000)
        script(backstage, (called(("look", {})), "tool_use"), (TEXT, "end_turn"))
        assert ask(call, ["look"]).body["stop_reason"] == "end_turn"
        assert 20 < seen[0] <= 22.5  # of the gateway's 29 s

    def test_what_no_answer_could_hold_is_not_sent_on(self, call: Call, backstage: Backstage) -> None:
        own(backstage, "large", lambda context: "x" * 390_000)
        model = script(backstage, (called(*[("large", {})] * 8), "tool_use"), (TEXT, "end_turn"))
        answer = ask(call, ["large"])
        assert (len(model.requests), answer.body["stop_reason"]) == (1, "pause_turn")
        assert len(answer.raw) < 6_000_000

    def test_results_that_the_context_cannot_hold_end_it_with_what_was_paid(
        self, call: Call, backstage: Backstage
    ) -> None:
        own(backstage, "large", lambda context: "x" * 390_000)
        asking = [(called(("large", {}), first=number), "tool_use") for number in (1, 2)]
        model = script(backstage, *asking)

        def fill() -> None:
            if len(model.requests) == 3:
                raise ContextTooLong

        model.during = fill
        body = ask(call, ["large"]).body
        assert (body["stop_reason"], body["content"]) == ("model_context_window_exceeded", asking[1][0])
        assert (len(body["steps"]), body["usage"]["input_tokens"]) == (1, 20)

    def test_ten_megabytes_are_an_error_that_the_model_is_told(self, call: Call, backstage: Backstage) -> None:
        own(backstage, "large", lambda context: "x" * 10_000_000)
        script(backstage, (called(("large", {})), "tool_use"), (TEXT, "end_turn"))
        (result,) = ask(call, ["large"]).body["steps"][0]["results"]
        assert (result["content"], result["is_error"]) == (tool_results.TOO_LARGE, True)

    def test_a_tool_that_raises_is_an_error_without_its_text(self, call: Call, backstage: Backstage) -> None:
        error = RuntimeError("Xanary")

        def fail(context: ToolContext) -> object:
            raise error

        own(backstage, "fail", fail)
        script(backstage, (called(("fail", {})), "tool_use"), (TEXT, "end_turn"))
        answer = ask(call, ["fail"])
        (result,) = answer.body["steps"][0]["results"]
        assert (result["content"], result["is_error"]) == (tool_results.FAILED, True)
        assert backstage.tool_failures == [("fail", error)]
        assert "Xanary" not in answer.raw


class TestMoney:
    @pytest.fixture(autouse=True)
    def _limited(self, backstage: Backstage, monkeypatch: pytest.MonkeyPatch) -> None:
        limits = OwnerLimits(turns_a_minute=60, budget_a_day=Decimal(100_000))
        monkeypatch.setattr(runtime, "owner_limits", lambda: limits)

    def charged(self, stage: Backstage) -> dict[str, int]:
        used = stage.store._kept.counters(OWNER).used
        return {name.partition("#")[0]: int(amount) for name, (amount, _) in used.items()}

    def test_each_call_is_charged_and_settled_and_the_question_counted_once(
        self, call: Call, backstage: Backstage
    ) -> None:
        script(backstage, (called(TIME), "tool_use"), (TEXT, "end_turn"))
        assert ask(call).status == 200
        assert self.charged(backstage) == {"turns": 1, "tokens": 30}

    def test_a_later_call_that_fails_unbilled_gives_back_its_own_charge_alone(
        self, call: Call, backstage: Backstage
    ) -> None:
        model = script(backstage, (called(TIME), "tool_use"))
        own(backstage, "break", lambda context: model.fail_with.append(ModelUnavailable(5)))
        model.script = [(called(("break", {})), "tool_use")]
        answer = ask(call, ["break"])
        assert (answer.status, answer.body["code"]) == (503, "model_unavailable")
        assert self.charged(backstage)["tokens"] == 15

    def test_a_later_call_that_may_be_billed_keeps_its_charge(self, call: Call, backstage: Backstage) -> None:
        model = script(backstage)
        own(backstage, "break", lambda context: model.fail_with.append(ModelFailed()))
        model.script = [(called(("break", {})), "tool_use")]
        assert ask(call, ["break"]).body["code"] == "model_failed"
        assert self.charged(backstage)["tokens"] > 4096

    def test_a_budget_ends_the_loop_before_a_call_that_it_cannot_pay(self, call: Call, backstage: Backstage) -> None:
        own(backstage, "large", lambda context: "x" * 99_000)
        model = script(backstage, (called(("large", {})), "tool_use"), (TEXT, "end_turn"))
        answer = ask(call, ["large"])
        assert (answer.status, answer.body["code"]) == (422, "quota_too_small")
        assert len(model.requests) == 1
        assert self.charged(backstage)["tokens"] == 15

    def test_definitions_are_reserved_as_a_part_of_the_prompt(self, call: Call, backstage: Backstage) -> None:
        large = {**CLIENT, "input_schema": {"type": "object", "title": "a" * 30_000}}
        answer = ask(call, [{**large, "name": f"t{number}"} for number in range(3)], max_tokens=16_000)
        assert (answer.status, answer.body["code"]) == (422, "quota_too_small")
        assert backstage.model.requests == []


class TestContinuations:
    def test_the_session_gets_the_tools_and_every_message(self, call: Call, backstage: Backstage) -> None:
        script(backstage, (called(TIME), "tool_use"), (TEXT, "end_turn"))
        answer = ask(call, ["current_time", CLIENT], continuable=True)
        begun = read_continuation(SERVER_KEY, answer.body["continuation"], OWNER, WindowPolicy(), START_MS)
        assert begun.settings.own_tools == ("current_time",)
        assert [each["name"] for each in json.loads(begun.settings.tools)] == ["current_time", "weather"]
        assert [message.role for message in begun.turn.messages] == ["user", "assistant", "user", "assistant"]
        assert begun.turn.reply.text == "It is late."
        assert begun.turn.usage.fields == answer.body["usage"]
        assert f"{begun.turn.cost_usd:f}" == answer.body["cost_usd"]
        assert (begun.turn.totals.tokens, begun.turn.calls[0].id) == (30, "msg_1")

    def test_one_that_is_too_long_for_a_request_is_null(self, call: Call, backstage: Backstage) -> None:
        noise = random.Random(1)
        own(backstage, "large", lambda context: "".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(100_000)))
        script(backstage, (called(("large", {})), "tool_use"), (TEXT, "end_turn"))
        answer = ask(call, ["large"], continuable=True)
        assert (answer.status, answer.body["continuation"]) == (200, None)


class TestSessions:
    def test_a_session_keeps_the_definitions_of_its_creation(self, call: Call, backstage: Backstage) -> None:
        made = call("session", "POST", "/sessions", {"tools": ["current_time", CLIENT], "tool_choice": "auto"})
        assert made.status == 201
        settings = backstage.store.read(OWNER, made.body["session_id"], START_MS, 1).session.settings
        assert [each["name"] for each in json.loads(settings.tools)] == ["current_time", "weather"]
        assert (settings.own_tools, settings.tool_choice) == (("current_time",), "auto")

    def test_a_repeat_finds_its_session_whatever_the_tools_have_become(self, call: Call, backstage: Backstage) -> None:
        body, key = {"tools": ["current_time"]}, {"Idempotency-Key": "k"}
        first = call("session", "POST", "/sessions", body, headers=key)
        backstage.tools = [_another_current_time()]
        again = call("session", "POST", "/sessions", body, headers=key)
        assert (again.status, again.body["session_id"]) == (201, first.body["session_id"])
        other = call("session", "POST", "/sessions", {"tools": []}, headers=key)
        assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")

    @pytest.mark.parametrize("more", [{"tools": []}, {"tools": ["current_time"]}, {"tool_choice": "none"}])
    def test_a_continuation_brings_its_own(self, call: Call, backstage: Backstage, more: dict[str, Any]) -> None:
        continuation = ask(call, continuable=True).body["continuation"]
        refused = call("session", "POST", "/sessions", {"continuation": continuation, **more})
        assert (refused.status, refused.body["code"]) == (422, "continuation_settles")


def _another_current_time() -> Tool:
    def current_time(context: ToolContext) -> str:
        """Returns another time."""
        return "now"

    return Tool(current_time, 1, True)
