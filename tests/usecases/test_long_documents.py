"""Documents of any length: cut into parts, asked side by side, put together, and paid for as they were asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import OWNER, HeldClock, tell
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.document_parts import MOST_PARTS, parts_of
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, Reply, Usage, to_json
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.turn_stream import TurnStream
from turnlog.errors import (
    ContextTooLong,
    ModelError,
    ModelFailed,
    ModelProtocolError,
    ModelUnavailable,
    OutputInvalid,
    QuotaTooSmall,
    QuotaUnavailable,
    StoreUnavailable,
    Unauthorized,
)
from turnlog.usecases.caller import Caller
from turnlog.usecases.document_tasks import ANALYZE, SUMMARIZE, DocumentTask
from turnlog.usecases.long_documents import AT_ONCE, DocumentAnswer, NoPurse, answer_document, ask_about_document

SMALL = "claude-haiku-4-5"  # 200,000 tokens of context
SETTINGS = ModelSettings(SMALL, 1000)
CONTEXT = 200_000


def document(thousands: int) -> str:
    """A text of so many thousand bytes in paragraphs of ten lines, each of 100 bytes; each line says its number."""
    lines = (f"{number:<99}\n" if number % 10 else f"{number:<98}\n\n" for number in range(1, thousands * 10 + 1))
    return "".join(lines)[: thousands * 1000]


@dataclass
class Reader:
    """A model that answers what it was shown: a finding in the first line, and the first words of the text."""

    fail: Callable[[str], ModelError | None] = lambda text: None
    stop_reason: str = "end_turn"
    requests: list[ModelRequest] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    meet: threading.Barrier | None = None

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        text = _text(request)
        with self._lock:
            self.requests.append(request)
            self.seconds.append(seconds)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            if self.meet and not text.startswith("["):
                self.meet.wait(30)
            if error := self.fail(text):
                raise error
        finally:
            with self._lock:
                self._now -= 1
        words = text.split()[0]
        finding = {"severity": "info", "rule": "r", "message": words, "suggestion": None}
        said: dict[str, Any] = {"title": words, "summary": text[:40], "key_points": [], "language": "en"}
        if "findings" in request.settings.output_schema:
            lines = [1, 2, 10**6, 0, None]
            said = {"overview": words, "findings": [{**finding, "line": line} for line in lines]}
        content = to_json([{"type": "text", "text": to_json(said)}])
        reply = Reply(SMALL, content, self.stop_reason, Usage('{"input_tokens":100,"output_tokens":10}'))
        return tell(reply, on_event) if on_event else reply


def _text(request: ModelRequest) -> str:
    block = request.messages[0].blocks[-1]
    return str(block["text"] if block["type"] == "text" else block["source"]["data"])


def answered(
    task: DocumentTask,
    text: str,
    model: Reader,
    settings: ModelSettings = SETTINGS,
    seconds: float = 30,
    stream: TurnStream | None = None,
) -> DocumentAnswer:
    return answer_document(
        task,
        Message.of_text(text),
        settings,
        model=model,
        purse=NoPurse(),
        seconds=lambda: seconds,
        clock=HeldClock(),
        stream=stream,
    )


class TestParts:
    def test_what_fits_is_one_part_as_it_came(self) -> None:
        message = Message.of_text(document(390))
        (part,) = parts_of(message, SETTINGS, 2)
        assert (part.message, part.lines_before) == (message, 0)

    def test_parts_are_the_text_cut_between_paragraphs(self) -> None:
        text = document(1000)
        parts = parts_of(Message.of_text(text), SETTINGS, 2)
        texts = [part.message.text for part in parts]
        assert len(parts) == 3
        assert "".join(texts) == text
        assert all(each.endswith("\n\n") for each in texts[:-1])
        for part, said in zip(parts, texts, strict=True):
            assert said.split()[0] == text.split("\n")[part.lines_before].strip()
            assert part.lines == said.count("\n") + 1

    @given(st.text(st.sampled_from("aé鷺🐦 \n"), max_size=40), st.integers(1, 9))
    def test_pieces_make_up_the_text_whatever_its_characters(self, text: str, times: int) -> None:
        whole = (text or "a") * (5000 * times)
        message = Message.of_text(whole)
        settings = ModelSettings(SMALL, 1000, system="s" * 170_000)  # leaves 27 KB of the context
        try:
            parts = parts_of(message, settings, 1)
        except ContextTooLong:
            assert len(whole.encode()) > 27_000 * MOST_PARTS // 2
            return
        if whole.strip():
            assert "".join("".join(part.message.text.split()) for part in parts) == "".join(whole.split())
        assert all(len(part.message.text.encode()) <= 29_000 for part in parts)

    @pytest.mark.parametrize("model", ["claude-sonnet-5-5", "some-other-model"])
    def test_a_model_with_room_or_of_unknown_size_gets_all_in_one(self, model: str) -> None:
        assert len(parts_of(Message.of_text(document(1000)), ModelSettings(model, 1000), 2)) == 1

    def test_only_the_longest_text_is_cut_and_all_else_is_in_each_part(self) -> None:
        source = {"type": "text", "media_type": "text/plain", "data": document(500)}
        blocks = [{"type": "text", "text": "In German."}, {"type": "document", "title": "Herons", "source": source}]
        parts = parts_of(Message("user", to_json(blocks)), SETTINGS, 2)
        assert len(parts) == 2
        for part in parts:
            first, second = part.message.blocks
            assert (first, second["title"]) == (blocks[0], "Herons")
            assert part.lines is None
        assert "".join(part.message.blocks[1]["source"]["data"] for part in parts) == source["data"]

    @pytest.mark.parametrize("thousands", [3200, 5000])
    def test_too_many_parts_are_refused(self, thousands: int) -> None:
        with pytest.raises(ContextTooLong):
            parts_of(Message.of_text(document(thousands)), SETTINGS, 2)

    def test_other_blocks_that_fill_the_context_leave_no_room_for_parts(self) -> None:
        blocks = [{"type": "text", "text": "a" * 199_000}, {"type": "text", "text": "b" * 199_500}]
        with pytest.raises(ContextTooLong):
            parts_of(Message("user", to_json(blocks)), SETTINGS, 1)

    def test_a_message_without_text_is_never_cut(self) -> None:
        message = Message("user", to_json([{"type": "image", "source": {"type": "base64", "data": "a" * 10**6}}]))
        assert [part.message for part in parts_of(message, SETTINGS, 1)] == [message]

    def test_a_part_of_blank_lines_is_left_out(self) -> None:
        text = "first\n" + "\n" * 900_000 + "last"
        parts = parts_of(Message.of_text(text), SETTINGS, 2)
        assert [part.message.text.strip() for part in parts] == ["first", "last"]
        assert parts[-1].lines_before + parts[-1].lines == 900_002  # type: ignore[operator]


class TestAnswers:
    def test_one_part_is_one_call_with_the_task_s_own_prompt(self) -> None:
        model = Reader()
        answer = answered(SUMMARIZE, "Herons nest.", model)
        (request,) = model.requests
        assert (request.settings.system, request.settings.output_schema) == (SUMMARIZE.system, SUMMARIZE.schema)
        assert (answer.output["title"], answer.reply.usage.tokens) == ("Herons", 110)

    def test_summaries_of_parts_are_merged_by_a_last_call(self) -> None:
        model = Reader()
        answer = answered(SUMMARIZE, document(1000), model)
        *parts, merge = model.requests
        assert len(parts) == 3
        assert {request.settings.system[-9:] for request in parts} == {f"{n} of 3 of it."[-9:] for n in (1, 2, 3)}
        assert merge.settings.system == SUMMARIZE.merge_system
        in_order = [each["title"] for each in json.loads(_text(merge))]
        assert in_order == sorted(in_order, key=int)
        assert json.loads(answer.reply.message.text) == answer.output
        assert answer.reply.usage.tokens == 4 * 110
        assert answer.cost_usd == 4 * Decimal("0.00015")  # 100 at $1 and 10 at $5 a million

    def test_findings_of_parts_have_the_lines_of_the_whole_document(self) -> None:
        text = document(1000)
        answer = answered(ANALYZE, text, Reader())
        lines = text.split("\n")
        found = answer.output["findings"]
        assert len(found) == 15
        for finding in found[::5]:  # the first of each part names its first line
            assert lines[finding["line"] - 1].strip() == finding["message"]
        assert [each["line"] for each in found[1::5]] == [each["line"] + 1 for each in found[::5]]
        assert {each["line"] for each in (*found[2::5], *found[3::5], *found[4::5])} == {None}
        assert len(answer.reply.message.blocks) == 3

    def test_a_line_that_a_short_document_has_not_is_null(self) -> None:
        found = answered(ANALYZE, "a\nb", Reader()).output["findings"]
        assert [each["line"] for each in found] == [1, 2, None, None, None]

    def test_parts_are_asked_side_by_side_but_not_all_at_once(self) -> None:
        model = Reader(meet=threading.Barrier(AT_ONCE))
        answered(ANALYZE, document(2900), model)
        assert len(model.requests) == 8
        assert model.most_at_once == AT_ONCE

    def test_time_is_kept_back_for_the_call_that_merges(self) -> None:
        model = Reader()
        answered(SUMMARIZE, document(1000), model, seconds=30)
        assert model.seconds == [20, 20, 20, 30]

    def test_dense_text_that_does_not_fit_is_cut_anew(self) -> None:
        def dense(text: str) -> ModelError | None:
            return ContextTooLong() if len(text) > CONTEXT else None

        model = Reader(fail=dense)
        assert len(answered(ANALYZE, document(300), model).output["findings"]) == 10
        assert [len(_text(request)) > CONTEXT for request in model.requests] == [True, False, False]

    def test_what_would_not_be_cut_smaller_stays_too_long(self) -> None:
        model = Reader(fail=lambda _: ContextTooLong())
        with pytest.raises(ContextTooLong):
            answered(SUMMARIZE, "Herons.", model)
        assert len(model.requests) == 1

    def test_the_whole_fails_with_the_error_of_a_part_and_begins_no_other(self) -> None:
        model = Reader(fail=lambda text: ModelFailed() if text.startswith("1 ") else None)
        with pytest.raises(ModelFailed):
            answered(SUMMARIZE, document(2900), model)
        assert len(model.requests) < 9
        assert SUMMARIZE.merge_system not in {request.settings.system for request in model.requests}

    @pytest.mark.parametrize("reason", ["max_tokens", "refusal", "tool_use"])
    def test_a_reply_that_ended_otherwise_is_no_answer(self, reason: str) -> None:
        with pytest.raises(OutputInvalid) as invalid:
            answered(SUMMARIZE, "Herons.", Reader(stop_reason=reason))
        assert invalid.value.stop_reason == reason

    def test_text_says_what_the_object_says(self) -> None:
        assert answered(SUMMARIZE, "Herons nest.", Reader()).text == "Herons\n\nHerons nest."
        text = answered(ANALYZE, "a\nb", Reader()).text
        assert text.startswith("a\n\n1. Line 1, info (r): a\n\n2. Line 2, info (r): a\n\n3. info (r): a")


class TestMoney:
    LIMITS = OwnerLimits(turns_a_minute=5, budget_a_day=Decimal(2_000_000))

    def asked(
        self, model: Reader, store: MemorySessionStore, text: str, *, limits: OwnerLimits = LIMITS, owner: str = OWNER
    ) -> DocumentAnswer:
        return ask_about_document(
            Caller(owner),
            SUMMARIZE,
            Message.of_text(text),
            SETTINGS,
            model=model,
            quotas=store,
            limits=limits,
            seconds=lambda: 30,
            clock=HeldClock(),
        )

    def used(self, store: MemorySessionStore) -> dict[str, int]:
        used = store._kept.counters(OWNER).used
        return {name.partition("#")[0]: int(amount) for name, (amount, _) in used.items()}

    def test_all_parts_are_reserved_before_the_first_is_asked(self) -> None:
        store = MemorySessionStore()
        reserved: list[int] = []
        model = Reader(fail=lambda _: reserved.append(self.used(store)["tokens"]))
        self.asked(model, store, document(1000))
        assert min(reserved) == max(reserved) > 1_000_000
        assert self.used(store) == {"turns": 1, "tokens": 440}

    def test_a_document_that_a_budget_cannot_pay_is_not_begun(self) -> None:
        model, store = Reader(), MemorySessionStore()
        with pytest.raises(QuotaTooSmall):
            self.asked(model, store, document(1000), limits=replace(self.LIMITS, budget_a_day=Decimal(900_000)))
        assert model.requests == []
        assert self.used(store) == {}

    @pytest.mark.parametrize(("error", "kept"), [(ModelUnavailable(5), 0), (ModelFailed(), 400_000)], ids=repr)
    def test_what_was_paid_before_a_failure_stays_charged(self, error: ModelError, kept: int) -> None:
        store, started = MemorySessionStore(), threading.Barrier(3)
        model = Reader(fail=lambda text: error if text.startswith("1 ") else None, meet=started)
        with pytest.raises(type(error)):
            self.asked(model, store, document(1000))
        used = self.used(store)
        assert used["turns"] == 1
        assert kept + 220 <= used["tokens"] <= kept + 1_220

    def test_a_document_of_which_nothing_can_have_been_paid_is_not_counted(self) -> None:
        model, store = Reader(fail=lambda _: ModelUnavailable(5)), MemorySessionStore()
        with pytest.raises(ModelUnavailable):
            self.asked(model, store, document(1000))
        assert set(self.used(store).values()) <= {0}

    def test_a_reply_that_is_no_answer_is_paid(self) -> None:
        store = MemorySessionStore()
        with pytest.raises(OutputInvalid):
            self.asked(Reader(stop_reason="max_tokens"), store, "Herons.")
        assert self.used(store) == {"turns": 1, "tokens": 110}

    def test_quotas_that_cannot_be_reached_let_nothing_be_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, store = Reader(), MemorySessionStore()

        def fails(*_: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(store, "charge", fails)
        with pytest.raises(QuotaUnavailable):
            self.asked(model, store, "Herons.")
        assert model.requests == []

    def test_a_settlement_that_fails_withholds_no_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        store = MemorySessionStore()

        def fails(*_: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(store, "settle", fails)
        assert self.asked(Reader(), store, "Herons.").output["title"] == "Herons."

    def test_a_stranger_asks_nothing(self) -> None:
        model = Reader()
        with pytest.raises(Unauthorized):
            self.asked(model, MemorySessionStore(), "Herons.", owner="")
        assert model.requests == []

    def test_an_answer_that_would_be_too_large_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("turnlog.usecases.long_documents.MOST_TURN_BYTES", 300)
        with pytest.raises(ModelProtocolError):
            self.asked(Reader(), MemorySessionStore(), "Herons.")
