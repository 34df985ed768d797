"""The actors of a world: the turns and changes that each wants, and how long it tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.promises.world.history import Address, Want
from tests.promises.world.journal import LATER, is_later
from tests.promises.world.world import (
    LEASE_MS,
    SESSIONS,
    USAGE,
    LaterStore,
    World,
    address,
    session_id,
    ttl_s,
    want,
)
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
    """The addresses of a session. Everyone hears of a move when it is done, and some still use an old address."""

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
    """Returns false when the session is gone."""
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
    """Repeats the request, like a caller whose answer was lost on its last way."""
    if world.chance.random() < 0.2:
        world.schedule.pause(world.chance.randint(0, 40 * world.config.latency_ms))
        world.take(wanted, at, name)


def _gives_up(world: World, name: str, act: Callable[[], object]) -> bool:
    """Stops waiting for the answer, like a caller that times out: the act goes on beside the next try."""
    if world.chance.random() >= world.config.gives_up:
        return False
    world.schedule.spawn(f"{name} unheard", act)
    world.schedule.pause(_GATEWAY_MS)
    return True


def _wait(world: World, error: TurnlogError | None) -> None:
    """Waits for the time in the error, or a moment, or until a lease is over."""
    if world.chance.random() < world.config.patience:
        world.schedule.pause(LEASE_MS + 2 * world.config.skew_ms + 10)
    elif error and error.retry_after_s and world.chance.random() < 0.5:
        world.schedule.pause(error.retry_after_s * 1000)
    else:
        world.schedule.pause(world.chance.randint(1, 1_000))


def delete(world: World, name: str, known: KnownAddresses) -> None:
    """Deletes the session, and repeats it until it is answered."""
    at = known.pick(world)
    for _ in range(world.config.tries):
        if _gives_up(world, name, partial(world.delete, at, name)):
            continue
        if world.delete(at, name).succeeded:
            return
        _wait(world, None)


def erase(world: World, name: str, owner: str) -> None:
    """Erases the owner, and repeats it until it is answered."""
    for _ in range(world.config.tries):
        if world.erase(owner, name).succeeded:
            return
        _wait(world, None)


def heir(mover: str) -> str:
    """Returns the owner to whom the mover moves a session."""
    return f"owner after {mover}"


def move(world: World, name: str, known: KnownAddresses) -> None:
    """Moves the session to another owner and id: under one key until it is done, or under another when that one was
    undone.
    """
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
    """Creates a session under a key that others may use too, until it is there; then takes a turn, and perhaps deletes
    it.
    """
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


def cancel_often(world: World, name: str, known: KnownAddresses, times: int) -> None:
    """Asks whatever turn runs to stop, now and then."""
    for _ in range(times):
        world.cancel(known.pick(world), name)
        world.schedule.pause(world.chance.choice([20 * world.config.latency_ms, 10_000, 60_000]))


def read_often(world: World, name: str, known: KnownAddresses, times: int) -> None:
    for _ in range(times):
        world.read(known.pick(world), name)
        world.schedule.pause(world.chance.randint(1, 20 * world.config.latency_ms))


def sweep_often(world: World, name: str, times: int) -> None:
    for _ in range(times):
        world.sweep(name)
        world.schedule.pause(world.chance.choice([10, 1_000, 60_000]))


def reap_often(world: World, name: str, times: int) -> None:
    """Acts like DynamoDB's TTL: removes single items some time after their end, in no order."""
    for _ in range(times):
        reap(world, most=1)
        world.schedule.pause(world.chance.choice([10, 1_000, 60_000]))


def reap(world: World, most: int) -> None:
    """Removes some of the items that TTL may remove by now."""
    tables = world.service.tables
    now_s = world.schedule.now_ms // 1000
    due = [(table, item) for table in (SESSIONS, USAGE) for item in tables.items(table) if ttl_s(item) < now_s]
    for table, item in world.chance.sample(due, min(most, len(due))):
        tables.write(table, (item["pk"]["S"], item["sk"]["S"]), None)


def speak_as_later_version(world: World, name: str, known: KnownAddresses, wanted: Want) -> None:
    """Takes a turn once, in a process of a later version."""
    world.take(wanted, known.addresses[-1], name, LaterStore)


def let_later_version_return(world: World, name: str) -> None:
    """Acts like the later version when it is deployed again: it gives what it had stored a form that all know."""
    world.journal.later_has_returned = True
    tables = world.service.tables
    for item in [item for item in tables.items(SESSIONS) if is_later(item)]:
        known = {attribute: value for attribute, value in item.items() if attribute not in LATER}
        tables.write(SESSIONS, (item["pk"]["S"], item["sk"]["S"]), known | {"v": {"N": "1"}})


def let_time_jump(world: World, name: str, jumps_ms: Sequence[int]) -> None:
    """Moves the time forward for everyone at once."""
    for ms in jumps_ms:
        world.schedule.pause(world.chance.randint(1, 30 * world.config.latency_ms))
        if ms > _LONGEST_WAY_MS:
            world.network.land_all()
        world.jumps_ms.append(world.schedule.now_ms)
        world.schedule.now_ms += ms
