"""The accounts of the prompt cache. Sources: the page Prompt caching of the provider's docs, and reports of users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.claude_stand_in import StandIn, cache
from local.claude_stand_in.cache import PromptCache
from local.claude_stand_in.models import MODELS
from local.claude_stand_in.prompt import Prompt
from tests.unit.claude_stand_in.asking import MODEL, posted

MARK: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
HOUR: dict[str, Any] = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
TOOL = {"name": "clock", "input_schema": {"type": "object"}}


class Clock:
    """Seconds since 1970 that stand still unless they are moved."""

    def __init__(self) -> None:
        self.now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def caching(clock: Clock) -> Iterator[StandIn]:
    with StandIn(clock=clock) as claude:
        yield claude


def text(tokens: int, says: str = "x") -> dict[str, Any]:
    """A block of so many tokens."""
    return {"type": "text", "text": says.ljust(4 * tokens, "x")}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def used(claude: StandIn, *messages: dict[str, Any], key: str = "k", **more: Any) -> tuple[int, int, int]:
    """The tokens of a request: read from the cache, written into it, and the rest."""
    body = {"model": MODEL, "max_tokens": 10, "messages": list(messages)} | more
    status, answer = posted(claude, body, x_api_key=key)
    assert status == 200, answer
    usage = answer["usage"]
    written = usage["cache_creation_input_tokens"]
    assert sum(usage["cache_creation"].values()) == written
    return usage["cache_read_input_tokens"], written, usage["input_tokens"]


def test_without_a_mark_nothing_is_cached(caching: StandIn) -> None:
    for _ in range(2):
        assert used(caching, user(text(600))) == (0, 0, 604)


def test_what_is_marked_is_written_once_and_read_again(caching: StandIn) -> None:
    asked = user(text(600) | MARK, text(10))
    assert used(caching, asked) == (0, 604, 10)
    assert used(caching, asked) == (604, 0, 10)


def test_a_conversation_that_goes_on_writes_what_is_new(caching: StandIn) -> None:
    first = user(text(600))
    assert used(caching, user(text(600) | MARK)) == (0, 604, 0)
    assert used(caching, first, assistant(text(5)), user(text(7) | MARK)) == (604, 20, 0)
    assert used(caching, first, assistant(text(5)), user(text(7)), assistant(text(1)), user(text(1) | MARK))[0] == 624


def test_a_mark_at_top_level_is_on_the_last_block(caching: StandIn) -> None:
    assert used(caching, user(text(600)), **MARK) == (0, 604, 0)
    assert used(caching, user(text(600)), assistant(text(5)), user(text(7)), **MARK) == (604, 20, 0)


def test_tools_come_first_then_the_system_prompt(caching: StandIn) -> None:
    system = [text(600, "Be kind.") | MARK]
    first = used(caching, user(text(3)), system=system, tools=[TOOL])
    assert used(caching, user(text(9)), system=system, tools=[TOOL]) == (first[1], 0, 13)
    assert used(caching, user(text(9)), system=system, tools=[TOOL | {"name": "watch"}])[0] == 0
    assert used(caching, user(text(9)), system=[text(600, "Be brief.") | MARK], tools=[TOOL])[0] == 0


def test_any_change_of_the_prefix_reads_nothing(caching: StandIn) -> None:
    used(caching, user(text(600) | MARK))
    assert used(caching, user(text(600, "y") | MARK))[0] == 0
    assert used(caching, user(text(600)), user(text(1) | MARK))[0] == 604


@pytest.mark.parametrize("model", list(MODELS.values()), ids=list(MODELS))
def test_a_prefix_below_the_smallest_is_not_cached(model: Any) -> None:
    """Reports: the smallest prefix by model."""
    found = []
    for tokens in (model.least_cached - 1, model.least_cached):
        body = {"messages": [user(text(tokens - 4) | MARK)]}
        kept = PromptCache()
        found.append([kept.use("a", Prompt.of(body, model), now_s).read for now_s in (0.0, 1.0)])
    assert found == [[0, 0], [0, model.least_cached]]


@pytest.mark.parametrize(
    ("name", "least"),
    [("claude-sonnet-5-5", 512), ("claude-opus-4-8", 1024), ("claude-opus-4-7", 2048), ("claude-haiku-4-5", 4096)],
)
def test_the_smallest_prefixes_are_those_of_the_reports(name: str, least: int) -> None:
    assert MODELS[name].least_cached == least


@pytest.mark.parametrize(("added", "read"), [(19, 604), (20, 0)])
def test_a_mark_looks_back_at_twenty_blocks_itself_among_them(caching: StandIn, added: int, read: int) -> None:
    used(caching, user(text(600) | MARK))
    blocks = [text(1) for _ in range(added)]
    blocks[-1] |= MARK
    assert used(caching, user(text(600)), user(*blocks))[0] == read


def test_a_second_mark_at_the_end_of_the_last_turn_mends_it(caching: StandIn) -> None:
    used(caching, user(text(600) | MARK))
    blocks = [text(1) for _ in range(30)]
    blocks[-1] |= MARK
    assert used(caching, user(text(600) | MARK), user(*blocks)) == (604, 34, 0)


def test_a_run_of_calls_or_of_results_is_one_block(caching: StandIn) -> None:
    """Reports."""
    used(caching, user(text(600) | MARK))
    calls = [{"type": "tool_use", "id": f"t{n}", "name": "clock", "input": {}} for n in range(30)]
    results: list[dict[str, Any]] = [{"type": "tool_result", "tool_use_id": f"t{n}"} for n in range(30)]
    results[-1] |= MARK
    assert used(caching, user(text(600)), assistant(*calls), user(*results))[0] == 604


@pytest.mark.parametrize(("mark", "lifetime_s"), [(MARK, 300), (HOUR, 3600)])
def test_a_prefix_lives_as_long_as_its_mark_says(
    caching: StandIn, clock: Clock, mark: dict[str, Any], lifetime_s: int
) -> None:
    asked = user(text(600) | mark)
    used(caching, asked)
    clock.now_s += lifetime_s - 1
    assert used(caching, asked)[0] == 604
    clock.now_s += lifetime_s
    assert used(caching, asked)[:2] == (0, 604)


def test_a_read_makes_a_prefix_live_anew(caching: StandIn, clock: Clock) -> None:
    asked = user(text(600) | MARK)
    used(caching, asked)
    for _ in range(5):
        clock.now_s += 299
        assert used(caching, asked)[0] == 604


def test_a_lifetime_counts_from_the_start_of_the_request(caching: StandIn, clock: Clock) -> None:
    times = iter([0.0] + [200.0] * 20)
    start_s = clock.now_s
    asked = {"messages": [user(text(600) | MARK)]}
    with StandIn(clock=lambda: start_s + next(times)) as claude:
        assert used(claude, *asked["messages"])[1] == 604
        times = iter([299.0] + [900.0] * 20)
        assert used(claude, *asked["messages"])[0] == 604
        times = iter([598.0] * 20)
        assert used(claude, *asked["messages"])[0] == 604


def test_both_lifetimes_are_counted_by_themselves(caching: StandIn) -> None:
    system = [text(600) | HOUR]
    body = {"model": MODEL, "max_tokens": 10, "system": system, "messages": [user(text(8) | MARK)]}
    usage = posted(caching, body)[1]["usage"]
    assert usage["cache_creation"] == {"ephemeral_1h_input_tokens": 600, "ephemeral_5m_input_tokens": 12}
    assert (usage["cache_creation_input_tokens"], usage["input_tokens"]) == (612, 0)


def test_an_hour_may_not_come_after_five_minutes(caching: StandIn) -> None:
    body = {"model": MODEL, "max_tokens": 10, "messages": [user(text(8) | MARK, text(8) | HOUR)]}
    status, answer = posted(caching, body)
    assert (status, "must not come after" in answer["error"]["message"]) == (400, True)


def test_each_key_and_each_model_has_a_cache_of_its_own(caching: StandIn) -> None:
    asked = user(text(600) | MARK)
    used(caching, asked)
    assert used(caching, asked, key="another")[0] == 0
    assert used(caching, asked, model="claude-haiku-5-5")[0] == 0
    assert used(caching, asked)[0] == 604


def test_the_cache_can_be_warmed_without_a_reply(caching: StandIn) -> None:
    """Page Prompt caching: pre-warming the cache."""
    assert used(caching, user(text(600) | MARK), max_tokens=0) == (0, 604, 0)
    assert used(caching, user(text(600) | MARK))[0] == 604


def test_a_call_that_fails_writes_nothing(caching: StandIn) -> None:
    caching.fail("overloaded")
    body: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": [user(text(600) | MARK)]}
    assert posted(caching, body)[0] == 529
    assert used(caching, *body["messages"])[0] == 0


def test_the_accounts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_PREFIXES", 3)
    kept = PromptCache()
    bodies = [{"messages": [user(text(600, str(number)) | MARK)]} for number in range(4)]
    for body in bodies:
        kept.use("a", Prompt.of(body, MODELS[MODEL]), 0.0)
    assert [kept.use("a", Prompt.of(body, MODELS[MODEL]), 1.0).read for body in reversed(bodies)] == [604, 604, 604, 0]


BEFORE: dict[str, Any] = {"system": "Be kind.", "tools": [TOOL], "messages": [user(text(50))]}


class TestDiagnostics:
    """Page Cache diagnostics; types CacheMissReason."""

    def reason(self, claude: StandIn, previous: str | None = None, **changed: Any) -> Any:
        """The diagnosis of a request that goes on, but for what is `changed`."""
        body = {"model": MODEL, "max_tokens": 10} | BEFORE
        first = posted(claude, body)[1]["id"]
        more = [*BEFORE["messages"], assistant(text(1)), user(text(1))]
        later = body | {"messages": more, "diagnostics": {"previous_message_id": previous or first}} | changed
        return posted(claude, later)[1].get("diagnostics")

    def test_a_prompt_that_goes_on_has_no_diagnosis(self, caching: StandIn) -> None:
        assert self.reason(caching) is None

    @pytest.mark.parametrize(
        ("changed", "kind"),
        [
            ({"model": "claude-haiku-5-5"}, "model_changed"),
            ({"system": "Be brief."}, "system_changed"),
            ({"tools": []}, "tools_changed"),
            ({"messages": [user(text(51))]}, "messages_changed"),
        ],
    )
    def test_the_first_thing_that_changed_is_named(self, caching: StandIn, changed: dict[str, Any], kind: str) -> None:
        found = self.reason(caching, **changed)["cache_miss_reason"]
        assert found["type"] == kind
        assert found["cache_missed_input_tokens"] > 50

    def test_an_unknown_message_is_said_to_be_unknown(self, caching: StandIn) -> None:
        found = self.reason(caching, previous="msg_of_long_ago")
        assert found == {"cache_miss_reason": {"type": "previous_message_not_found"}}
