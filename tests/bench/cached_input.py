"""The share of the input that is read from Claude's prompt cache, by the accounts that the stand-in keeps.

A message of 30 blocks is more than the 20 over which the cache looks back, so one breakpoint alone would read nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any

from local.claude_stand_in import StandIn
from local.claude_stand_in.models import MODELS
from local.claude_stand_in.prompt import Prompt
from tests.bench.conversation import prose
from tests.fakes import MODEL, HeldClock, new_session
from turnlog.adapters.claude import Claude
from turnlog.adapters.local.memory import MemorySessionStore
from turnlog.domain.messages import Message, to_json
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

SYSTEM_CHARACTERS, BLOCK_CHARACTERS = 4_000, 200
MINUTE_S = 60


@dataclass(frozen=True, slots=True)
class InputCost:
    """The input tokens of one turn: all, those read from the cache, and those that could be read.

    What could be is what the prompt and the one before it both begin with, if that is long enough to be cached.
    """

    turn: int
    tokens: int
    read: int
    readable: int


def measure(turns: int = 30, blocks: int = 30) -> list[InputCost]:
    """The input of each turn of a conversation whose messages have so many blocks of prose; a turn a minute."""
    clock = HeldClock()
    with StandIn(clock=lambda: clock() / 1000) as stand_in:
        model = Claude(stand_in.url, lambda *, renewed=False: "a key", allows_stand_in=True)
        begun, store = new_session(), MemorySessionStore()
        settings = replace(begun.settings, system=prose("system", SYSTEM_CHARACTERS))
        session = store.create(replace(begun, settings=settings), "")
        read = []
        for number in range(1, turns + 1):
            said = [{"type": "text", "text": prose(f"{number}.{each}", BLOCK_CHARACTERS)} for each in range(blocks)]
            name = b"%d" % number
            asked = TurnRequest(session.owner, session.id, name, name, Message("user", to_json(said)))
            taken = run_turn(
                asked, store=store, model=model, clock=clock, remaining_s=lambda: MINUTE_S, policy=TurnPolicy()
            )
            read.append(int(taken.turn.usage.fields["cache_read_input_tokens"]))
            clock.tick(seconds=MINUTE_S)
        prompts = [Prompt.of(each.body, MODELS[MODEL]) for each in stand_in.requests if each.body]
    readable = [0, *(_tokens_in_common(before, after) for before, after in pairwise(prompts))]
    rows = zip(prompts, read, readable, strict=True)
    return [InputCost(number, prompt.tokens, *each) for number, (prompt, *each) in enumerate(rows, start=1)]


def share(costs: Sequence[InputCost]) -> float:
    """The part of what could be read that was."""
    return sum(cost.read for cost in costs) / sum(cost.readable for cost in costs)


def table(costs: Sequence[InputCost]) -> list[str]:
    """Returns the table of docs/benchmarks.md: some turns, and the sums of all."""
    shown = [cost for cost in costs if cost.turn in (1, 2, 10, 25, 26, 27, len(costs))]
    lines = ["| turn | input tokens | could be read | read from the cache |", "|---|---|---|---|"]
    lines += [f"| {cost.turn} | {cost.tokens:,} | {cost.readable:,} | {cost.read:,} |" for cost in shown]
    tokens, readable, read = (sum(getattr(cost, name) for cost in costs) for name in ("tokens", "readable", "read"))
    lines.append(f"| **all {len(costs)}** | **{tokens:,}** | **{readable:,}** | **{read:,}, {share(costs):.1%}** |")
    return lines


def _tokens_in_common(before: Prompt, after: Prompt) -> int:
    both: Any = takewhile(
        lambda parts: parts[0].digest == parts[1].digest, zip(before.parts, after.parts, strict=False)
    )
    tokens = sum(part.tokens for part, _ in both)
    return tokens if tokens >= before.model.least_cached else 0
