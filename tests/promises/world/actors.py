"""Those who live in a world: what each wants, and how often it asks again when it does not get it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.promises.world.history import Address, Want
from tests.promises.world.world import LEASE_MS, SESSIONS, USAGE, World, address, session_id, ttl_s, want
from turnlog.errors import (
    AttemptsExhausted,
    KeyReused,
    LeaseLost,
    QuotaExceeded,
    SessionLimitReached,
    SessionNotFound,
    TurnlogError,
)

_GATEWAY_MS = 29_000
_LONGEST_WAY_MS = 120_000  # of a write that comes late


@dataclass
class KnownAddresses:
    """Where a session is said to be: everyone hears of a move when it is done, and some remember the old place."""

    addresses: list[Address]
    forks: list[Address] = field(default_factory=list)

    def pick(self, world: World) -> Address:
        if len(self.addresses) > 1 and world.chance.random() < 0.2:
            return world.chance.choice(self.addresses)
        return self.addresses[-1]


def converse(world: World, name: str, known: KnownAddresses, wants: Sequence[Want]) -> None:
    """Takes the turns one after the other, each under its key until it is answered or there is no hope."""
    for wanted in wants:
        if not _take(world, known, name, wanted):
            return


def _take(world: World, known: KnownAddresses, name: str, wanted: Want) -> bool:
    """False when the session is gone."""
    for _ in range(world.config.tries):
        at = known.pick(world)
        if _gives_up(world, name, partial(world.take, wanted, at, name)):
            continue
        taking = world.take(wanted, at, name)
        if taking.succeeded:
            _perhaps_again(world, name, at, wanted)
            return True
        if isinstance(taking.error, SessionNotFound) and at == known.addresses[-1]:
            return False
        if isinstance(taking.error, KeyReused | SessionLimitReached | QuotaExceeded):
            return True
        if isinstance(taking.error, AttemptsExhausted):
            wanted = wanted.anew()
        _wait(world, taking.error)
    return True


def _perhaps_again(world: World, name: str, at: Address, wanted: Want) -> None:
    """As a caller does whose answer was lost on the last yards."""
    if world.chance.random() < 0.2:
        world.schedule.pause(world.chance.randint(0, 40 * world.config.latency_ms))
        world.take(wanted, at, name)


def _gives_up(world: World, name: str, act: Callable[[], object]) -> bool:
    """As a caller does who no longer waits for the answer: what was asked for goes on beside the next try."""
    if world.chance.random() >= world.config.gives_up:
        return False
    world.schedule.spawn(f"{name} unheard", act)
    world.schedule.pause(_GATEWAY_MS)
    return True


def _wait(world: World, error: TurnlogError | None) -> None:
    """As long as the error says, or a moment, or until a lease is over."""
    if world.chance.random() < world.config.patience:
        world.schedule.pause(LEASE_MS + 2 * world.config.skew_ms + 10)
    elif error and error.retry_after_s and world.chance.random() < 0.5:
        world.schedule.pause(error.retry_after_s * 1000)
    else:
        world.schedule.pause(world.chance.randint(1, 1_000))


def delete(world: World, name: str, known: KnownAddresses) -> None:
    """Until it is answered."""
    at = known.pick(world)
    for _ in range(world.config.tries):
        if _gives_up(world, name, partial(world.delete, at, name)):
            continue
        if world.delete(at, name).succeeded:
            return
        _wait(world, None)


def erase(world: World, name: str, owner: str) -> None:
    """Until it is answered."""
    for _ in range(world.config.tries):
        if world.erase(owner, name).succeeded:
            return
        _wait(world, None)


def heir(mover: str) -> str:
    """To whom it moves a session."""
    return f"owner after {mover}"


def move(world: World, name: str, known: KnownAddresses) -> None:
    """To another owner and id, under one key until it is done, or under another when that one was undone."""
    at = known.addresses[-1]
    key = name
    for _ in range(world.config.tries):
        to = address(heir(name), session_id(at.pk, key))
        if _gives_up(world, name, partial(world.move, at, to, key, name)):
            continue
        moving = world.move(at, to, key, name)
        if moving.succeeded:
            known.addresses.append(to)
            return
        if isinstance(moving.error, SessionNotFound):
            return
        if isinstance(moving.error, LeaseLost) and world.chance.random() < 0.7:
            key += "'"
        _wait(world, moving.error)


def fork(world: World, name: str, known: KnownAddresses, number: int) -> None:
    """Copies the first turns into a session of the same owner and takes a turn there, and perhaps deletes it then."""
    at = known.pick(world)
    child = address(at.owner, session_id("fork", name))
    known.forks.append(child)
    for _ in range(world.config.tries):
        if _gives_up(world, name, partial(world.fork, at, number, child, name)):
            continue
        forking = world.fork(at, number, child, name)
        if forking.succeeded:
            nest = KnownAddresses([child])
            # Under a key of the parent's, too, which names nothing in the child.
            converse(world, name, nest, [want("before 0"), want(f"{name} after the fork")])
            if world.chance.random() < 0.3:
                delete(world, name, nest)
            return
        if isinstance(forking.error, SessionNotFound):
            return
        _wait(world, forking.error)


def create(world: World, name: str, known: KnownAddresses) -> None:
    """A session under a key that others may use too, until it is there; then a turn, and perhaps a delete."""
    for _ in range(world.config.tries):
        if _gives_up(world, name, partial(world.create, known.addresses[0], name)):
            continue
        creating = world.create(known.addresses[0], name)
        if creating.succeeded:
            converse(world, name, known, [want(f"{name} after the creation")])
            if world.chance.random() < 0.3:
                delete(world, name, known)
            return
        if isinstance(creating.error, SessionNotFound):
            return
        _wait(world, creating.error)


def read_often(world: World, name: str, known: KnownAddresses, times: int) -> None:
    for _ in range(times):
        world.read(known.pick(world), name)
        world.schedule.pause(world.chance.randint(1, 20 * world.config.latency_ms))


def sweep_often(world: World, name: str, times: int) -> None:
    for _ in range(times):
        world.sweep(name)
        world.schedule.pause(world.chance.choice([10, 1_000, 60_000]))


def reap_often(world: World, name: str, times: int) -> None:
    """As DynamoDB's TTL: single items whose time has come, in no order, some time after it."""
    for _ in range(times):
        reap(world, most=1)
        world.schedule.pause(world.chance.choice([10, 1_000, 60_000]))


def reap(world: World, most: int) -> None:
    """Removes some of what TTL may remove by now."""
    tables = world.service.tables
    now_s = world.schedule.now_ms // 1000
    due = [(table, item) for table in (SESSIONS, USAGE) for item in tables.items(table) if ttl_s(item) < now_s]
    for table, item in world.chance.sample(due, min(most, len(due))):
        tables.write(table, (item["pk"]["S"], item["sk"]["S"]), None)


def let_time_jump(world: World, name: str, jumps_ms: Sequence[int]) -> None:
    """For everyone at once."""
    for ms in jumps_ms:
        world.schedule.pause(world.chance.randint(1, 30 * world.config.latency_ms))
        if ms > _LONGEST_WAY_MS:
            world.network.land_all()
        world.schedule.now_ms += ms
