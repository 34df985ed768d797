"""The most that a passed request may use is reserved before it goes on, and settled by what its answer says."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from local.claude_stand_in import StandIn
from local.loopback import GuardedHandler
from tests.handlers.conftest import Backstage
from tests.messages.asking import ADA, ASKED, STREAMED, error_of, post, user
from tests.messages.conftest import (
    MODELS,
    STOP,
    STREAM,
    Before,
    DoorSettings,
    Facing,
    event,
    finished,
    providing,
    said,
    started,
)
from tests.stream.conftest import Served
from turnlog.adapters.messages_api import HttpMessagesApi
from turnlog.domain.limits import OwnerLimits
from turnlog.domain.passing.fields import PassedBody
from turnlog.errors import StoreUnavailable
from turnlog.ports.messages_api import PassedRequest
from turnlog.usecases.caller import Caller
from turnlog.usecases.pass_on import Passing

SONNET, HAIKU = MODELS
OWNER = "https://issuer.example/|ada"
LARGE = 10_000_000
FETCH = {"type": "web_fetch_20260318", "name": "web_fetch", "max_uses": 2}
_PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\0\0\0\0").decode()
NO_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PIXEL + "A" * 100_000}}
"""Looks like an image of one pixel, and is a text of 100 KB where it is data."""


def used(backstage: Backstage, counter: str = "tokens") -> Decimal:
    """The part of a quota that the caller has used, reservations included."""
    counters = backstage.store._memory.counters(OWNER).used
    return sum((amount for name, (amount, _) in counters.items() if name.startswith(f"{counter}#")), Decimal(0))


@pytest.fixture
def budget(settings: DoorSettings) -> None:
    settings.limits = OwnerLimits(budget_a_day=Decimal(LARGE))


@pytest.mark.usefixtures("budget")
class TestSettlement:
    """Exactly what was used is charged in the end, as far as anybody has said it."""

    @pytest.mark.parametrize("body", [ASKED, STREAMED])
    def test_what_was_used_is_charged(
        self, body: dict[str, Any], door: Served, claude: StandIn, backstage: Backstage
    ) -> None:
        answer = post(door.url, ASKED)
        usage = answer.json()["usage"]
        assert used(backstage) == usage["input_tokens"] + usage["output_tokens"]
        before = used(backstage)
        post(door.url, body)
        assert used(backstage) == 2 * before

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("fault", ["rate_limit", "overloaded", "credit", "retired"])
    def test_what_is_refused_is_given_back(
        self, fault: str, streamed: bool, door: Served, claude: StandIn, backstage: Backstage
    ) -> None:
        claude.fail(fault)
        assert post(door.url, STREAMED if streamed else ASKED).status_code >= 400
        assert used(backstage) == 0

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("fault", ["server_error", "cut", "garbage"])
    def test_what_may_have_been_billed_stays_reserved(
        self, fault: str, streamed: bool, door: Served, claude: StandIn, backstage: Backstage
    ) -> None:
        claude.fail(fault)
        post(door.url, STREAMED if streamed else ASKED)
        assert 500 < used(backstage) < 1500  # max_tokens, and the prompt at its largest

    @pytest.mark.parametrize(
        ("parts", "tokens"),
        [
            ([started(9), said("Hello."), finished(5), STOP], 14),
            ([started(9), said("Hello."), finished(5)], 14),
            ([started(9), finished(3, stop_reason=None), finished(5), STOP], 14),
            ([started(9), finished(5), finished(2), STOP], 14),
            ([started(9), started(1), finished(5), STOP], 14),
            ([started(1), started(9), finished(5, input_tokens=0), STOP], 14),
            ([started(9, cache_read_input_tokens=100), finished(5, cache_creation_input_tokens=50), STOP], 164),
            (
                [
                    started(9),
                    finished(5, iterations=[{"type": "message", "input_tokens": 9, "output_tokens": 5}]),
                    STOP,
                ],
                14,
            ),
            (
                [
                    started(9),
                    finished(5, iterations=[{"type": "compaction", "input_tokens": 900, "output_tokens": 50}]),
                    STOP,
                ],
                950,
            ),
            (
                [
                    started(900),
                    finished(
                        5,
                        iterations=[{"type": "advisor_message", "model": HAIKU, "input_tokens": 9, "output_tokens": 2}],
                    ),
                    STOP,
                ],
                916,
            ),
        ],
    )
    def test_the_most_that_a_stream_says_is_charged(
        self, parts: list[bytes], tokens: int, facing: Facing, backstage: Backstage
    ) -> None:
        with facing(b"".join(parts), headers=STREAM) as (url, _):
            post(url, STREAMED)
        assert used(backstage) == tokens

    @pytest.mark.parametrize(
        "parts",
        [
            [started(9), said("Hello.")],
            [started(9), said("Hello."), STOP],
            [started(9), finished(5, stop_reason=None)],
            [started(9), finished(-5), STOP],
            [started(9), finished(5, input_tokens="9"), STOP],
            [started(9), finished(10**12), STOP],
            [started(9), event("message_delta", delta={"stop_reason": "end_turn"}, usage=[5]), STOP],
            [event("message_start", message={"usage": {}}), event("message_delta", delta={"stop_reason": "x"}), STOP],
            [event("message_start", message=[]), STOP],
            [started(9), said("Hello."), event("error", error={"type": "overloaded_error", "message": "x"})],
            [said("Hello."), event("error", error={"type": "overloaded_error", "message": "x"})],
        ],
    )
    def test_a_stream_that_does_not_say_what_it_used_stays_reserved(
        self, parts: list[bytes], facing: Facing, backstage: Backstage
    ) -> None:
        with facing(b"".join(parts), headers=STREAM) as (url, _):
            post(url, STREAMED)
        assert 500 < used(backstage) < 1500

    @pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
    def test_what_was_never_sent_is_given_back(
        self, body: dict[str, Any], before: Before, settings: DoorSettings, backstage: Backstage
    ) -> None:
        assert post(before("http://127.0.0.1:9"), body).status_code == 503
        settings.keys = ["refused"]
        with providing(b"{}", 401) as provider:
            assert post(before(provider.url), body).status_code == 503
        assert used(backstage) == 0

    def test_a_stream_that_is_refused_in_its_first_event_is_given_back(
        self, facing: Facing, backstage: Backstage
    ) -> None:
        parts = event("ping") + event("error", error={"type": "overloaded_error", "message": "x"})
        with facing(parts, headers=STREAM) as (url, _):
            assert "overloaded_error" in post(url, STREAMED).text
        assert used(backstage) == 0

    def test_who_hangs_up_is_charged_exactly(
        self, facing: Facing, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        has_hung_up, is_settled = threading.Event(), threading.Event()
        settle = backstage.store.settle

        def tell(*given: Any) -> None:
            settle(*given)
            is_settled.set()

        monkeypatch.setattr(backstage.store, "settle", tell)

        def send(handler: GuardedHandler) -> None:
            handler.wfile.write(started(9))
            assert has_hung_up.wait(10)
            for _ in range(50):
                handler.wfile.write(said("Hello." * 1000))
            handler.wfile.write(finished(5) + STOP)

        with facing(send, headers=STREAM) as (url, _):
            with httpx2.stream("POST", f"{url}/v1/messages", json=STREAMED, headers=ADA, timeout=30) as answer:
                next(answer.iter_lines())
            has_hung_up.set()
            assert is_settled.wait(10)
        assert used(backstage) == 14

    def test_a_budget_is_settled_before_the_last_event(
        self, claude: StandIn, settings: DoorSettings, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        settle = backstage.store.settle

        def tell(*given: Any) -> None:
            settle(*given)
            order.append("settled")

        monkeypatch.setattr(backstage.store, "settle", tell)
        api = HttpMessagesApi(claude.url, settings.key, allows_stand_in=True)
        passing = Passing(api, backstage.store, settings.limits, lambda: 30.0, backstage.clock)
        headers = {"anthropic-version": "2026-10-21"}
        request = PassedRequest("messages", json.dumps(STREAMED).encode(), SONNET, headers)
        passing.stream(
            Caller(OWNER), request, PassedBody(STREAMED), lambda event: order.append(event.type), lambda _: None
        )
        assert order[-3:] == ["message_delta", "settled", "message_stop"]

    def test_an_answer_is_not_withheld_because_it_cannot_be_settled(
        self, door: Served, backstage: Backstage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(backstage.store, "settle", fail)
        assert post(door.url, ASKED).status_code == 200


class TestABudgetInDollars:
    """The dearest of what a request can lead to is reserved; what has no price that is known is refused."""

    def reserve(self, settings: DoorSettings, facing: Facing, backstage: Backstage, body: dict[str, Any]) -> Decimal:
        """The dollars that are reserved for the request, of which nobody says what it used."""
        settings.limits = OwnerLimits(budget_a_day=Decimal(10_000), budget_unit="usd")
        settings.web = True
        with facing(b"{}") as (url, _):
            assert post(url, ASKED | body).status_code == 200
        return used(backstage, "usd")

    @pytest.mark.parametrize(
        ("body", "least", "most"),
        [
            ({}, "0.005", "0.006"),  # 500 tokens at $10 a million, and a short prompt
            ({"model": HAIKU}, "0.0025", "0.003"),
            ({"model": HAIKU, "fallbacks": [{"model": SONNET}]}, "0.0075", "0.009"),
            ({"model": HAIKU, "fallbacks": [{"model": SONNET, "max_tokens": 100_000}]}, "1.0", "1.1"),
            ({"max_tokens": 10**9}, "1.28", "1.29"),  # what the model has at most
            ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 5}]}, "0.45", "0.47"),
            ({"tools": [FETCH | {"max_content_tokens": 10_000}]}, "0.08", "0.1"),
            ({"tools": [FETCH]}, "8.0", "8.1"),
            ({"tools": [FETCH | {"max_content_tokens": -1}]}, "8.0", "8.1"),
            (
                {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": SONNET, "max_uses": 2}]},
                "2.5",
                "2.7",
            ),
            (
                {"tools": [{"type": "advisor_20260301", "name": "advisor", "model": HAIKU, "max_uses": 10**30}]},
                "900",
                "10000",
            ),
            ({"compaction": {"type": "x"}}, "0.010", "0.012"),
            ({"messages": user({"type": "image", "source": {"type": "url", "url": "https://x"}})}, "0.02", "0.03"),
            ({"messages": user({"type": "document", "source": {"type": "url", "url": "https://x"}})}, "4.0", "4.1"),
            ({"tools": [{"name": "buy", "input_schema": {}, "input_examples": [NO_IMAGE]}]}, "0.4", "0.5"),
            ({"messages": user(NO_IMAGE | {"type": "later"})}, "0.4", "0.5"),
        ],
    )
    def test_the_most_is_reserved(
        self,
        body: dict[str, Any],
        least: str,
        most: str,
        settings: DoorSettings,
        facing: Facing,
        backstage: Backstage,
    ) -> None:
        reserved = self.reserve(settings, facing, backstage, body)
        assert Decimal(least) <= reserved <= Decimal(most)

    @pytest.mark.parametrize(
        "body",
        [
            {"speed": "fast"},
            {"inference_geo": "us"},
            {"fallbacks": [{"model": HAIKU, "speed": "fast"}]},
            {"fallbacks": [{"model": HAIKU, "inference_geo": "us"}]},
        ],
    )
    def test_what_has_another_price_is_refused(
        self, body: dict[str, Any], door: Served, settings: DoorSettings, claude: StandIn
    ) -> None:
        settings.limits = OwnerLimits(budget_a_day=Decimal(1000), budget_unit="usd")
        assert error_of(post(door.url, ASKED | body)) == (429, "rate_limit_error", "allowance_used_up")
        assert claude.requests == []

    def test_the_price_is_that_of_the_answer(self, settings: DoorSettings, door: Served, backstage: Backstage) -> None:
        settings.limits = OwnerLimits(budget_a_day=Decimal(1000), budget_unit="usd")
        usage = post(door.url, ASKED).json()["usage"]
        assert used(backstage, "usd") == (usage["input_tokens"] * 2 + usage["output_tokens"] * 10) / Decimal(1_000_000)

    def test_a_request_that_may_turn_to_too_many_models_is_refused(
        self, door: Served, settings: DoorSettings, claude: StandIn
    ) -> None:
        settings.limits = OwnerLimits(budget_a_day=Decimal(1000))
        answer = post(door.url, ASKED | {"fallbacks": [{"model": HAIKU}] * 50_000})
        assert error_of(answer)[2] == "possible_calls_range"
        assert claude.requests == []

    @pytest.mark.parametrize("kind", ["web_search_20250305", "web_fetch_20260318", "advisor_20260301"])
    def test_a_tool_without_a_bound_is_refused(
        self, kind: str, door: Served, settings: DoorSettings, claude: StandIn
    ) -> None:
        settings.limits, settings.web = OwnerLimits(budget_a_day=Decimal(1000), budget_unit="usd"), True
        tool = {"type": kind, "name": "x", "model": SONNET}
        assert error_of(post(door.url, ASKED | {"tools": [tool]}))[2] == "max_uses_missing"
        assert claude.requests == []


def test_a_budget_that_is_used_up_is_a_rate_limit_that_no_client_waits_for(
    settings: DoorSettings, door: Served, claude: StandIn
) -> None:
    settings.limits = OwnerLimits(budget_a_day=Decimal(900))
    sent = [post(door.url, ASKED) for _ in range(60)]
    refused = next(answer for answer in sent if answer.status_code != 200)
    assert error_of(refused) == (429, "rate_limit_error", "allowance_used_up")
    assert int(refused.headers["retry-after"]) > 60
    assert refused.headers["x-should-retry"] == "false"
    assert len(claude.requests) == sum(answer.status_code == 200 for answer in sent) > 0


def test_what_can_never_fit_into_a_budget_is_not_repeated(door: Served, settings: DoorSettings) -> None:
    settings.limits = OwnerLimits(budget_a_day=Decimal(100))
    answer = post(door.url, ASKED)
    assert error_of(answer) == (422, "invalid_request_error", "quota_too_small")
    assert answer.headers["x-should-retry"] == "false"


def test_a_rate_is_waited_for_by_the_sdk(door: Served, settings: DoorSettings, claude: StandIn) -> None:
    settings.limits = OwnerLimits(turns_a_minute=1)
    assert post(door.url, ASKED).status_code == 200
    refused = post(door.url, ASKED)
    assert error_of(refused)[:2] == (429, "rate_limit_error")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers
    assert len(claude.requests) == 1


def test_tokens_are_counted_without_a_charge_within_a_rate_of_their_own(
    door: Served, settings: DoorSettings, backstage: Backstage
) -> None:
    settings.limits = OwnerLimits(turns_a_minute=2, budget_a_day=Decimal(LARGE))
    counted = {name: value for name, value in ASKED.items() if name != "max_tokens"}
    statuses = [post(door.url, counted, "/v1/messages/count_tokens").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert post(door.url, ASKED).status_code == 200
    assert used(backstage, "turns") == 1


def test_many_at_once_get_no_more_than_there_is(door: Served, settings: DoorSettings, claude: StandIn) -> None:
    settings.limits = OwnerLimits(turns_a_minute=5)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(door.url, ASKED).status_code, range(20)))
    assert answers.count(200) == 5
    assert len(claude.requests) == 5


def test_a_request_that_is_refused_here_is_not_charged(
    door: Served, settings: DoorSettings, backstage: Backstage
) -> None:
    settings.limits = OwnerLimits(turns_a_minute=5, budget_a_day=Decimal(LARGE))
    for body in ({"model": "x"}, {"container": "c"}, {"stream": 1}):
        post(door.url, ASKED | body)
    assert used(backstage, "turns") == 0


def test_what_cannot_be_charged_is_not_asked(
    door: Served, settings: DoorSettings, backstage: Backstage, monkeypatch: pytest.MonkeyPatch, claude: StandIn
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable

    settings.limits = OwnerLimits(turns_a_minute=5)
    monkeypatch.setattr(backstage.store, "charge", fail)
    assert post(door.url, ASKED).status_code == 503
    assert claude.requests == []
