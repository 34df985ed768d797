"""Exactly one actor runs at a time, in the order in which they are due, and time is simulated."""

from __future__ import annotations

import pytest

from tests.promises.simulator import schedule as schedules
from tests.promises.simulator.schedule import Crash, Schedule


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(start_ms=1000)


def test_the_actor_that_is_due_first_goes_on(schedule: Schedule) -> None:
    seen: list[tuple[int, str]] = []

    def walk(name: str, *waits: int) -> None:
        for ms in waits:
            schedule.pause(ms)
            seen.append((schedule.now_ms, name))

    schedule.spawn("a", lambda: walk("a", 10, 10, 10))
    schedule.spawn("b", lambda: walk("b", 15, 1), in_ms=2)
    schedule.run()
    assert seen == [(1010, "a"), (1017, "b"), (1018, "b"), (1020, "a"), (1030, "a")]


def test_an_actor_may_spawn_others_and_the_run_ends_with_the_last(schedule: Schedule) -> None:
    seen: list[int] = []
    schedule.spawn("a", lambda: schedule.spawn("b", lambda: seen.append(schedule.now_ms), in_ms=5000))
    schedule.run()
    assert seen == [6000]
    schedule.spawn("c", lambda: seen.append(schedule.now_ms))
    schedule.run()
    assert seen == [6000, 6000]


def test_a_held_actor_goes_on_after_so_many_steps_of_others(schedule: Schedule) -> None:
    seen: list[str] = []

    def walk() -> None:
        for number in range(3):
            schedule.pause(60_000)
            seen.append(f"step {number}")

    def held(steps: int) -> None:
        schedule.hold(steps)
        seen.append(f"held for {steps}")

    schedule.spawn("a", lambda: held(3))
    schedule.spawn("b", lambda: held(99))
    schedule.spawn("c", walk)
    schedule.run()
    assert seen == ["step 0", "held for 3", "step 1", "step 2", "held for 99"]


def test_a_crash_ends_its_actor_alone_and_another_error_is_kept(schedule: Schedule) -> None:
    def dies(error: BaseException) -> None:
        schedule.pause(1)
        raise error

    schedule.spawn("crashes", lambda: dies(Crash()))
    schedule.spawn("fails", lambda: dies(KeyError("unforeseen")))
    schedule.spawn("lives", lambda: schedule.pause(7))
    schedule.run()
    assert [(actor.name, type(actor.error)) for actor in schedule.actors] == [
        ("crashes", type(None)),
        ("fails", KeyError),
        ("lives", type(None)),
    ]
    assert schedule.now_ms == 1007


def test_a_run_without_end_is_given_up(schedule: Schedule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "MOST_STEPS", 50)

    def for_ever() -> None:
        while True:
            schedule.pause(1)

    schedule.spawn("a", for_ever)
    schedule.spawn("b", for_ever)
    schedule.run()
    assert schedule.endless
