"""Turns, questions and documents that are shown as they come, as an entry point asks for them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import MODEL, SERVER_KEY, HeldClock, ScriptedModel, called
from tests.readers import Events
from tests.unit.desk import CountingTools
from tests.usecases.conftest import ADA, Service
from tests.usecases.test_long_documents import Reader, answered, document
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, to_json
from turnlog.domain.turn_stream import TurnStream
from turnlog.errors import KeyReused, ModelUnavailable, OutputInvalid, QuotaExceeded, ToolResultUnexpected
from turnlog.usecases.ask import QueryResult, ask
from turnlog.usecases.document_tasks import ANALYZE, SUMMARIZE

ADD = called(("add", {"a": 1}), ("add", {"a": 2}))


def results(*ids: str, said: str = "4") -> Message:
    return Message("user", to_json([{"type": "tool_result", "tool_use_id": each, "content": said} for each in ids]))


@pytest.fixture
def events() -> Events:
    return Events()


class TestATurn:
    def test_a_turn_is_shown_as_it_comes(self, service: Service, events: Events) -> None:
        session_id = service.create().session.id
        taken = service.take(ADA, session_id, "one", stream=TurnStream(events.append))
        assert events.message.text == taken.turn.reply.text
        assert events.own("turn")[0]["session_id"] == session_id


class TestAKeyForEveryStep:
    """A tool runner sends one key with every message of its loop."""

    def begun(self, service: Service) -> str:
        service.model = ScriptedModel(script=[(ADD, "tool_use")])
        session_id = service.create().session.id
        service.take(ADA, session_id, "one", "k")
        return session_id

    def test_the_key_of_a_question_is_another_one_with_its_results(self, service: Service) -> None:
        session_id = self.begun(service)
        answer = service.take(ADA, session_id, results("toolu_1", "toolu_2"), "k")
        assert (answer.replayed, answer.turn.number) == (False, 2)

    def test_the_same_results_under_the_key_are_a_replay_in_every_way(self, service: Service, events: Events) -> None:
        session_id = self.begun(service)
        first = service.take(ADA, session_id, results("toolu_1", "toolu_2"), "k")
        again = service.take(ADA, session_id, results("toolu_1", "toolu_2"), "k", stream=TurnStream(events.append))
        assert (again.replayed, again.turn) == (True, first.turn)
        assert events.message.text == first.turn.reply.text
        question = service.take(ADA, session_id, "one", "k")
        assert (question.replayed, question.turn.number) == (True, 1)

    @pytest.mark.parametrize("other", [results("toolu_1", "toolu_2", said="5"), results("toolu_2", "toolu_1")])
    def test_other_results_of_the_same_calls_are_another_body(self, service: Service, other: Message) -> None:
        session_id = self.begun(service)
        service.take(ADA, session_id, results("toolu_1", "toolu_2"), "k")
        with pytest.raises(KeyReused):
            service.take(ADA, session_id, other, "k")

    def test_results_of_fewer_calls_are_another_request(self, service: Service) -> None:
        session_id = self.begun(service)
        service.take(ADA, session_id, results("toolu_1", "toolu_2"), "k")
        with pytest.raises(ToolResultUnexpected):
            service.take(ADA, session_id, results("toolu_1"), "k")

    def test_a_key_without_results_is_the_one_of_every_version(self, service: Service) -> None:
        """Stored turns keep its hash, so a retry after an update must make the same one."""
        taken = service.take(ADA, service.create().session.id, "one", "k")
        assert taken.turn.key == SERVER_KEY.keyed_hash("idempotency-key", b"k")


class TestAQuestion:
    def test_a_question_is_shown_as_it_comes(self, service: Service, events: Events) -> None:
        asked = service.ask(ADA, "one", stream=TurnStream(events.append))
        assert events.types[:2] == ["turnlog.turn", "message_start"]
        assert events.own("turn")[0]["model"] == MODEL
        assert (events.message.text, events.message.usage.fields) == (asked.reply.text, asked.usage.fields)

    def test_the_calls_of_a_tool_loop_are_one_message(self, events: Events) -> None:
        tool_call = called(("look", {}), text="I look.")
        asked = self.asked(events, [(tool_call, "tool_use")])
        assert events.message.message.blocks == tool_call + asked.reply.message.blocks
        assert [each["status"] for each in events.own("tool")] == ["running", "done"]
        assert events.message.usage == asked.usage

    def asked(self, events: Events, script: list[Any]) -> QueryResult:
        settings = ModelSettings(MODEL, 1000, tools="[]", own_tools=("look",))
        return ask(
            ADA,
            ModelRequest(settings, (Message.of_text("one"),)),
            model=ScriptedModel(script=script),
            quotas=Service().store,
            limits=OwnerLimits(),
            seconds=lambda: 20.0,
            clock=HeldClock(),
            tools=CountingTools(),
            stream=TurnStream(events.append),
        )

    def test_a_question_without_a_budget_for_it_shows_nothing(self, service: Service, events: Events) -> None:
        limits = OwnerLimits(budget_a_day=Decimal(10))
        with pytest.raises(QuotaExceeded):
            service.ask(ADA, "one", limits, stream=TurnStream(events.append))
        assert events == []

    def test_a_question_that_fails_has_no_end(self, service: Service, events: Events) -> None:
        service.model.fail_with = [ModelUnavailable(1)]
        with pytest.raises(ModelUnavailable):
            service.ask(ADA, "one", stream=TurnStream(events.append))
        assert events.types == ["turnlog.turn"]

    def test_a_streamed_reply_has_no_bound_of_an_answer(self, service: Service, events: Events) -> None:
        long = [{"type": "text", "text": "x" * 4_000_000}]
        service.model = ScriptedModel(script=[(long, "end_turn")])
        asked = service.ask(ADA, "one", stream=TurnStream(events.append))
        assert len(asked.reply.text) == 4_000_000


class TestADocument:
    def test_a_document_that_fits_is_shown_as_it_comes(self, events: Events) -> None:
        answer = answered(SUMMARIZE, "Herons nest.", Reader(), stream=TurnStream(events.append))
        assert events.types.count("turnlog.turn") == events.types.count("message_stop") == 1
        assert events.message.text == answer.reply.text
        assert events.own("part") == []

    def test_of_parts_that_are_merged_the_last_call_is_shown(self, events: Events) -> None:
        model = Reader()
        answer = answered(SUMMARIZE, document(1000), model, stream=TurnStream(events.append))
        parts = events.own("part")
        assert sorted(each["number"] for each in parts) == list(range(1, len(model.requests)))
        assert events.types.index("message_start") > max(
            index for index, each in enumerate(events.types) if each == "turnlog.part"
        )
        assert events.message.text == answer.reply.text
        assert events.message.usage == answer.reply.usage

    def test_of_parts_that_no_call_merges_all_are_shown_at_the_end(self, events: Events) -> None:
        answer = answered(ANALYZE, document(1000), Reader(), stream=TurnStream(events.append))
        assert events.message.message.blocks == answer.reply.message.blocks

    def test_a_reply_that_is_no_answer_leaves_a_stream_without_an_end(self, events: Events) -> None:
        with pytest.raises(OutputInvalid):
            answered(SUMMARIZE, "Herons.", Reader(stop_reason="refusal"), stream=TurnStream(events.append))
        assert "message_start" in events.types
        assert "message_stop" not in events.types
