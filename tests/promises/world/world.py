"""The world of one run: its tables, its time, and all acts of a process, done by the shipped code."""

from __future__ import annotations

import base64
import hashlib
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from tests.fakes import MODEL, START_MS
from tests.promises.simulator.attribute_values import Item
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from tests.promises.simulator.faults import Plan
from tests.promises.simulator.network import Client, Network, Process
from tests.promises.simulator.schedule import Crash, Schedule
from tests.promises.world.history import (
    Acknowledged,
    Act,
    Address,
    Cancelling,
    Creating,
    Deleting,
    Erasing,
    Forking,
    Moving,
    Reading,
    Sweeping,
    Taking,
    Want,
)
from tests.promises.world.journal import LATER, Journal
from tests.promises.world.model import OWN_TOOL, Renewals, SimulatedModel, SimulatedTools
from tests.promises.world.run_config import RunConfig
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.dynamodb.encode import lease_item
from turnlog.adapters.dynamodb.items import owner_partition, partition
from turnlog.adapters.dynamodb.table import EMPTY, item_that_failed
from turnlog.domain.limits import creation_charges
from turnlog.domain.messages import Message
from turnlog.domain.quotas import QuotaCharge, QuotaCharges
from turnlog.domain.sessions import Move, Session, SessionSettings, SessionView
from turnlog.domain.turn_stream import TurnStream
from turnlog.domain.turns import Lease, Slot, Step
from turnlog.errors import KeysUnavailable, LeaseLost, SessionNotFound, TurnlogError, TurnNotRunning
from turnlog.usecases.caller import Caller
from turnlog.usecases.cancel_turn import cancel_turn
from turnlog.usecases.held_lease import lease_ms
from turnlog.usecases.transfers import move_whole
from turnlog.usecases.turn_protocol import run_turn
from turnlog.usecases.turn_request import TurnRequest

SESSIONS, USAGE, KEYS = "sessions", "usage", "keys"
LEASE_MS = lease_ms(600)
ALL_TURNS = 10_000

Some = TypeVar("Some", bound=Act[Any])
Store = TypeVar("Store", bound=DynamoDBSessionStore)


def address(owner: str, session_id: str) -> Address:
    return Address(owner, session_id, partition(owner, session_id))


def hashed(text: str) -> bytes:
    """Returns a hash as long as a real key or fingerprint."""
    return hashlib.sha256(text.encode()).digest()[:16]


def whole(store: DynamoDBSessionStore, view: SessionView) -> SessionView:
    """The view with the content of all its turns. Raises SessionNotFound when they are gone since it was read."""
    if all(turn.is_read for turn in view.turns):
        return view
    turns = store.turns(view.session, view.turns[0].number, view.count)
    if len(turns) < len(view.turns):
        raise SessionNotFound
    return replace(view, turns=tuple(turns))


def session_id(*parts: str) -> str:
    """Returns the id for these parts, always the same."""
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return "ses_" + base64.urlsafe_b64encode(digest).decode()[:22]


def want(text: str, key: str = "") -> Want:
    return Want(hashed("key " + (key or text)), hashed("body " + text), Message.of_text(text))


def ttl_s(item: Item) -> int:
    """Returns the time after which TTL may remove the item, in seconds; one that never comes for an item without."""
    return int(item["ttl"]["N"]) if "ttl" in item else 1 << 62


@cache
def _left_by_a_sweep() -> list[Item]:
    service: Any = SimulatedDynamoDB()
    DynamoDBSessionStore(service, SESSIONS, USAGE).sweep(START_MS)
    return list(service.tables.items(SESSIONS))


class NotingStore(DynamoDBSessionStore):
    """Notes each lease that a handler tries to acquire, and each write of it, in the handler's record."""

    taking: Taking

    def now_ms(self) -> int:
        """True time."""
        return self.taking.process.network.schedule.now_ms

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        self.taking.leases.append(lease)
        return self._noted(super().acquire(session, lease, over), lease)

    def renew(self, session: Session, lease: Lease, seen: int) -> Slot | None:
        with self._noting_loss():
            return self._noted(super().renew(session, lease, seen), lease)

    def checkpoint(
        self,
        session: Session,
        lease: Lease,
        seen: int,
        step: Step,
        *,
        message: Sequence[Message] = (),
        settlement: tuple[QuotaCharge, ...] = (),
        charges: tuple[QuotaCharge, ...] = (),
    ) -> Slot | None:
        found = super().checkpoint(session, lease, seen, step, message=message, settlement=settlement, charges=charges)
        return self._noted(found, lease, step)

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except (SessionNotFound, LeaseLost):
            self._note_loss()
            raise

    def _note_loss(self) -> None:
        if self.taking.lost_ms < 0:
            self.taking.lost_ms = self.now_ms()

    def _noted(self, found: Slot | None, lease: Lease, step: Step | None = None) -> Slot | None:
        if isinstance(found, Lease) and (found.token, found.sequence) == (lease.token, lease.sequence):
            self.taking.written.append(Acknowledged(self.now_ms(), lease, step))
        elif lease.sequence and not (isinstance(found, Lease) and found.token == lease.token):
            self._note_loss()
        return found


class StoppingStore(DynamoDBSessionStore):
    """Notes the lease whose handler is asked to stop."""

    cancelling: Cancelling

    def ask_to_stop(self, session: Session, lease: Lease) -> bool:
        self.cancelling.number, self.cancelling.token = lease.number, lease.token
        return super().ask_to_stop(session, lease)


class LaterStore(NotingStore):
    """The store of a later version, whose leases have another form and a step of their turn beside them.

    The rest is as in this version, so what it finishes is read here.
    """

    def acquire(self, session: Session, lease: Lease, over: Lease | None) -> Slot | None:
        if over:
            return super().acquire(session, lease, over)
        self.taking.leases.append(lease)
        item = lease_item(session, lease) | LATER
        step = item | {"sk": {"S": f"!{lease.number:09d}.s00"}}
        actions = [self._sessions.put_action(item, EMPTY), self._sessions.put_action(step)]
        found = item_that_failed(self._sessions.transact(actions))
        return self._noted(lease if found is None else self._slot_in(session, lease.number, found), lease)

    def release(self, session: Session, lease: Lease, billed: bool, now_ms: int) -> None:
        """Leaves the lease in any case, so that whoever removes it is another version."""
        super().release(session, lease, billed=True, now_ms=now_ms)


class _Environment(LocalWrapper):
    """A Lambda environment in which one process follows the other, so that the next one finds the unwrapped keys."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__()
        self._world = world
        self.process = process
        self._client = Client(process)
        client: Any = self._client
        self.keys = OwnerKeys(client, KEYS, self, self._clock, sleep=self._sleep)

    def hand_over(self, process: Process) -> None:
        self.process = process
        self._client.hand_over(process)

    def _clock(self) -> int:
        return self.process.clock()

    def _note(self, call: str) -> None:
        self.process.pause(self._world.latency_ms())
        if self._world.schedule.running and self._world.chance.random() < self._world.config.keyless:
            raise KeysUnavailable

    def _sleep(self, seconds: float) -> None:
        self.process.sleep(seconds)


class World:
    """Holds the tables and the time of a run. `acts` lists all acts in the order of their beginnings. An act raises
    only errors that are not Turnlog's.
    """

    def __init__(self, config: RunConfig, plan: Plan, chance: random.Random) -> None:
        self.config, self.chance = config, chance
        self.schedule = Schedule(START_MS)
        self.service = SimulatedDynamoDB(lambda: self.schedule.now_ms, chance)
        self.service.page_bytes = config.page_bytes or self.service.page_bytes
        self.network = Network(self.schedule, self.service, plan, chance, self.latency_ms, config.torn)
        self.journal = Journal(self.service.tables, SESSIONS, USAGE, KEYS, config.encrypted, config.quotas)
        self.acts: list[Act[Any]] = []
        self.jumps_ms: list[int] = []
        self._call_ids = 0
        self._idle: list[_Environment] = []
        self._busy: dict[str, _Environment] = {}

    def was_swept_before(self) -> None:
        """Acts as if a sweep had just ended. Otherwise the first sweep reads back over a day, which takes time."""
        for item in _left_by_a_sweep():
            self.service.tables.write(SESSIONS, (item["pk"]["S"], item["sk"]["S"]), item)

    def done(self, kind: type[Some]) -> list[Some]:
        return [act for act in self.acts if isinstance(act, kind)]

    # --- processes ----------------------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """Starts a process with a clock of its own."""
        return Process(
            self.network,
            f"{name}.{len(self.acts)}",
            self.chance.randint(-self.config.skew_ms, self.config.skew_ms),
            self.schedule.now_ms + self.config.handler_s * 1000,
            frozen=self.chance.random() < self.config.freezes,
        )

    def _store(self, process: Process, kind: type[Store]) -> Store:
        client: Any = Client(process)
        keys = self._environment(process).keys if self.config.encrypted else None
        return kind(client, SESSIONS, USAGE, keys=keys, eventual=self.config.eventual, sleep=process.sleep)

    def _environment(self, process: Process) -> _Environment:
        """Returns the environment of the process; at first the free one that was used last."""
        if process.name not in self._busy:
            self._busy[process.name] = self._idle.pop() if self._idle else _Environment(self, process)
            self._busy[process.name].hand_over(process)
        return self._busy[process.name]

    def _plain_store(self, process: Process) -> DynamoDBSessionStore:
        return self._store(process, DynamoDBSessionStore)

    def latency_ms(self) -> int:
        slow = 40 if self.chance.random() < 0.04 else 1
        return 1 + round(self.chance.expovariate(1 / self.config.latency_ms) * slow)

    def _thinks_ms(self) -> int:
        return self._between(*self.config.thinks_ms)

    def _tools_take_ms(self) -> int:
        return self._between(*self.config.tools_take_ms)

    def _between(self, least: int, most: int) -> int:
        return self.chance.randint(least, most) if self.schedule.running else 1

    def _new_call_id(self) -> str:
        self._call_ids += 1
        return f"toolu_{self._call_ids}"

    # --- acts of a process --------------------------------------------------------------------------------------------

    def take(
        self,
        wanted: Want,
        at: Address,
        name: str,
        kind: type[NotingStore] = NotingStore,
        *,
        dies_with_tools: bool = False,
        stands_still_in_step: int = 0,
    ) -> Taking:
        process = self.process(name)
        process.dies_with_tools, process.stands_still_in_step = dies_with_tools, stands_still_in_step
        taking = Taking(want=wanted, **self._beginning(at, process))
        store = self._store(process, kind)
        store.taking = taking
        request = TurnRequest(at.owner, at.id, wanted.key, wanted.fingerprint, wanted.message)
        renewals = Renewals(process)
        tools = SimulatedTools(taking, renewals, self._tools_take_ms) if self.config.steps else None
        stream = self._stream_of(taking)
        return self._do(
            taking,
            lambda: run_turn(
                request,
                store=store,
                model=SimulatedModel(taking, renewals, self._thinks_ms, self.config.steps, self._new_call_id),
                tools=tools,
                clock=process.clock,
                remaining_s=process.remaining_s,
                renewing=renewals,
                policy=self.config.policy,
                stream=stream,
            ),
        )

    def _stream_of(self, taking: Taking) -> TurnStream | None:
        if not (self.config.streams and self.schedule.running and self.chance.random() < self.config.streams):
            return None
        taking.is_streamed = True
        if self.config.leaves and self.chance.random() < self.config.leaves:
            taking.leaves_after = self.chance.randint(0, 12)
        return TurnStream(taking.show)

    def read(self, at: Address, name: str) -> Reading:
        process = self.process(name)
        reading = Reading(**self._beginning(at, process))
        store = self._plain_store(process)
        return self._do(reading, lambda: whole(store, store.read(at.owner, at.id, process.clock(), ALL_TURNS)))

    def cancel(self, at: Address, name: str) -> Cancelling:
        """Asks the turn that runs by then to stop."""
        process = self.process(name)
        cancelling = Cancelling(**self._beginning(at, process))
        store = self._store(process, StoppingStore)
        store.cancelling = cancelling

        def work() -> bool:
            now_ms = process.clock()
            running = store.read(at.owner, at.id, now_ms, 1, with_content=False).running
            if running is None:
                raise TurnNotRunning
            cancel_turn(Caller(at.owner), at.id, running.number, store=store, now_ms=now_ms)
            return True

        return self._do(cancelling, work)

    def create(self, at: Address, name: str) -> Creating:
        process = self.process(name)
        session = self._session(at, process.clock())
        creating = Creating(**self._beginning(at, process))
        quota = self._quota(at, process)
        return self._do(
            creating,
            lambda: self._plain_store(process).create(session, f"title of {at.id}", quota=quota),
        )

    def delete(self, at: Address, name: str) -> Deleting:
        process = self.process(name)
        deleting = Deleting(**self._beginning(at, process))
        return self._do(deleting, lambda: self._plain_store(process).delete(at.owner, at.id, process.clock()))

    def erase(self, owner: str, name: str) -> Erasing:
        """Notes a Deleting for each address that the owner had or was given meanwhile."""
        process = self.process(name)
        held = self.service.tables.partition(KEYS, owner_partition(owner))
        keys = [(item["pk"]["S"], item["sk"]["S"]) for item in held]
        erasing = Erasing(keys=keys, **self._beginning(Address(owner, "", ""), process))
        try:
            erased = self._do(erasing, lambda: self._plain_store(process).erase(owner, process.clock()))
            if erased.succeeded:
                self.journal.require_nothing_under(keys)
            return erased
        finally:
            for at in [at for at in self._addresses() if at.owner == owner]:
                deleting = Deleting(address=at, process=process, began_ms=erasing.began_ms, clock_ms=erasing.clock_ms)
                deleting.ended_ms, deleting.ended_clock_ms = self.schedule.now_ms, process.clock()
                deleting.result, deleting.error = True if erasing.succeeded else None, erasing.error
                self.acts.append(deleting)

    def _addresses(self) -> list[Address]:
        found = dict.fromkeys(act.address for act in self.acts if act.address.id)
        found |= dict.fromkeys(act.to for act in self.done(Moving))
        return list(found | dict.fromkeys(act.child for act in self.done(Forking)))

    def move(
        self, at: Address, to: Address, key: str, name: str, *, dies_when_copied: bool = False, commits_in_ms: int = 0
    ) -> Moving:
        process = self.process(name)
        process.dies_when_copied, process.stands_still_when_copied_ms = dies_when_copied, commits_in_ms
        now_ms = process.clock()
        asked = Move(
            at.owner,
            at.id,
            to.owner,
            to.id,
            hashed("move " + key),
            secrets.token_urlsafe(12),
            now_ms,
            now_ms + LEASE_MS,
            self._quota(to, process),
        )
        moving = Moving(to=to, key=key, **self._beginning(at, process))
        window = self.config.policy.window

        def work() -> Session:
            store = self._plain_store(process)
            return move_whole(asked, store=store, window=window) if self.config.steps else store.move(asked)

        return self._do(moving, work)

    def fork(self, at: Address, number: int, child: Address, name: str) -> Forking:
        process = self.process(name)
        forking = Forking(number=number, child=child, **self._beginning(at, process))

        def work() -> bool:
            store, now_ms = self._plain_store(process), process.clock()
            parent = store.read(at.owner, at.id, now_ms, 1).session
            session, quota = self._session(child, now_ms), self._quota(child, process)
            store.fork(parent, number, session, f"title of {child.id}", quota=quota)
            return True

        return self._do(forking, work)

    def abandon(self, at: Address, name: str, kind: type[NotingStore] = NotingStore) -> None:
        """Leaves a lease that is over and whose handler has died."""
        process = self.process(name)
        store, now_ms = self._store(process, kind), process.clock()
        store.taking = Taking(want=want(name), **self._beginning(at, process))
        view = store.read(at.owner, at.id, now_ms, 1)
        key, fingerprint = hashed(f"key {name}"), hashed(f"body {name}")
        token = secrets.token_urlsafe(12)
        store.acquire(view.session, Lease(view.count + 1, token, now_ms - 1, key, fingerprint, now_ms - LEASE_MS), None)

    def abandon_steps(self, at: Address, text: str, name: str) -> None:
        """Leaves a turn whose handler died when it began to run the tools of a step, and whose lease is over."""
        self.take(want(text), at, name, dies_with_tools=True)
        self.schedule.now_ms += LEASE_MS + 2 * self.config.skew_ms + 1

    def abandon_move(self, at: Address, to: Address, name: str) -> None:
        """Leaves a move whose handler died after the last copy, and whose lease is over."""
        self.move(at, to, name, name, dies_when_copied=True)
        self.schedule.now_ms += LEASE_MS + 2 * self.config.skew_ms + 1

    def sweep(self, name: str) -> Sweeping:
        process = self.process(name)
        sweeping = Sweeping(**self._beginning(Address("", "", ""), process))
        return self._do(sweeping, lambda: self._plain_store(process).sweep(process.clock()))

    def _quota(self, at: Address, process: Process) -> QuotaCharges | None:
        return creation_charges(at.owner, self.config.policy.owner, process.clock())

    def _session(self, at: Address, now_ms: int) -> Session:
        settings = SessionSettings(MODEL, 1000, "Be brief.", own_tools=(OWN_TOOL,) if self.config.steps else ())
        return Session(at.owner, at.id, now_ms, now_ms + self.config.life_s * 1000, self.config.idle_s * 1000, settings)

    def _beginning(self, at: Address, process: Process) -> dict[str, Any]:
        return {"address": at, "process": process, "began_ms": self.schedule.now_ms, "clock_ms": process.clock()}

    def _do(self, act: Some, work: Callable[[], Any]) -> Some:
        self.acts.append(act)
        try:
            act.result = work()
        except TurnlogError as error:
            act.error = error
        except Crash:
            if self.schedule.endless:
                raise
        act.ended_ms, act.ended_clock_ms = self.schedule.now_ms, act.process.clock()
        if (environment := self._busy.pop(act.process.name, None)) and not act.process.dead:
            self._idle.append(environment)
        return act
