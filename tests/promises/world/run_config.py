"""The config of a run: how slow and how faulty its world is, how far the clocks are apart, and the limits."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from decimal import Decimal

from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.domain.window import WindowPolicy
from turnlog.usecases.turn_request import TurnPolicy


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Durations are in milliseconds of true time but for those of the session, which are in seconds.

    `torn` reads see each item as it was at some moment between request and answer; `eventual` ones may be some seconds
    old where the protocol allows it. `freezes` is the share of processes that are frozen at the end of their time and
    go on later, instead of being killed. `gives_up` is the share of calls after which the caller no longer waits and
    asks again; `patience` the share of waits that last for a whole lease. Turns of more than `part_bytes` are stored in
    parts, and a page of a Query holds `page_bytes`; each turn remembers the key of every `key_stride`th one before it.
    With `encrypted` content, `keyless` is the share of tries in which no key can be had.

    A process has `handler_s` seconds to live. With `steps` the service has tools, and a turn has up to so many steps
    before its last reply; each use of the tools takes `tools_take_ms`. `streams` is the share of turns that are shown
    event by event, as they come, and `leaves` that of their readers who leave before the end.
    """

    latency_ms: int = 5
    thinks_ms: tuple[int, int] = (20, 60)
    skew_ms: int = 0
    torn: bool = False
    eventual: bool = False
    policy: TurnPolicy = field(default_factory=lambda: TurnPolicy(window=WindowPolicy(turns=4)))
    idle_s: int = 1800
    life_s: int = 86_400
    freezes: float = 0.0
    gives_up: float = 0.0
    patience: float = 0.2
    tries: int = 5
    part_bytes: int | None = None
    page_bytes: int | None = None
    key_stride: int = 2
    encrypted: bool = False
    keyless: float = 0.0
    handler_s: int = 60
    steps: int = 0
    tools_take_ms: tuple[int, int] = (1, 30)
    streams: float = 0.0
    leaves: float = 0.0

    @property
    def quotas(self) -> dict[str, Decimal]:
        """Returns the limit of an owner for each kind of use."""
        limits = self.policy.owner
        given: dict[str, int | Decimal | None] = {"turns": limits.turns_a_minute, "sessions": limits.sessions_a_day}
        given[limits.budget_unit] = limits.budget_a_day
        return {kind: Decimal(limit) for kind, limit in given.items() if limit is not None}


def random_config(chance: random.Random) -> RunConfig:
    eventual = chance.random() < 0.25
    return RunConfig(
        latency_ms=chance.choice([2, 10, 40]),
        thinks_ms=chance.choice([(1, 30), (20, 200), (500, 20_000), (100, 80_000), (40_000, 110_000)]),
        skew_ms=chance.choice([0, 0, 1_500, 20_000]),
        torn=chance.random() < 0.5,
        eventual=eventual,
        policy=TurnPolicy(
            window=WindowPolicy(turns=chance.choice([2, 3, 5])),
            session=chance.choice([SessionLimits()] * 4 + [SessionLimits(turns=5), SessionLimits(turns_a_minute=2)]),
            owner=chance.choice([OwnerLimits()] * 3 + [_rate(chance), _budget(chance)]),
            reads_cached=eventual,
        ),
        idle_s=chance.choice([90, 200, 1800]),
        life_s=chance.choice([300, 3600, 86_400]),
        freezes=chance.choice([0, 0.5]),
        gives_up=chance.choice([0, 0, 0.2]),
        patience=chance.choice([0.1, 0.2, 0.5]),
        tries=chance.choice([3, 6]),
        part_bytes=chance.choice([None, None, None, 150]),
        page_bytes=chance.choice([None, None, None, 1500]),
        key_stride=chance.choice([2, 3]),
    )


def with_steps(config: RunConfig, chance: random.Random) -> RunConfig:
    """The config of a run whose turns have steps, and may take minutes."""
    owner = config.policy.owner
    if chance.random() < 0.4:
        owner = OwnerLimits(budget_a_day=Decimal(chance.choice([2_500, 4_000, 50_000])))
    return replace(
        config,
        steps=chance.choice([1, 2, 2, 4]),
        handler_s=chance.choice([60, 900, 900]),
        thinks_ms=chance.choice([(1, 30), (500, 20_000), (15_000, 50_000), (10_000, 150_000)]),
        tools_take_ms=chance.choice([(1, 30), (5_000, 30_000), (10_000, 90_000)]),
        policy=replace(config.policy, owner=owner),
    )


def _rate(chance: random.Random) -> OwnerLimits:
    return OwnerLimits(turns_a_minute=chance.choice([1, 3, 10]), sessions_a_day=2)


def _budget(chance: random.Random) -> OwnerLimits:
    rate, budget = chance.choice([None, 10]), Decimal(chance.choice([2500, 50_000]))
    return OwnerLimits(turns_a_minute=rate, budget_a_day=budget, sessions_a_day=2)
