"""Simulated time, and actors in it: real code in real threads of which exactly one runs at a time.

An actor hands the baton over at each wait: for an answer of DynamoDB or of the model, or asleep. The actor that is due
first goes on, and the time becomes that moment. So the lengths of the waits decide a run, and nothing else.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_STEPS = 20_000
"""The waits after which a run is given up: somebody repeats something for ever."""


class Crash(BaseException):
    """Says that the process of this actor has died. Not an Exception, so that nothing on the way handles it."""


@dataclass
class Actor:
    """An actor with its thread. `error` is the exception that ended it, if that was not foreseen."""

    name: str
    work: Callable[[], object]
    error: BaseException | None = None
    _baton: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._baton.acquire()

    def go_on(self) -> None:
        self._baton.release()

    def stand_still(self) -> None:
        """Waits for the baton."""
        self._baton.acquire()


class Schedule:
    """Decides which actor goes on. `now_ms` is the true time, which need not be the time on any clock of an actor."""

    def __init__(self, start_ms: int) -> None:
        self.now_ms = start_ms
        self.actors: list[Actor] = []
        self.running: Actor | None = None
        self._due: list[tuple[int, int, Actor]] = []  # (when, in order of asking, who)
        self._held: list[tuple[int, int, Actor]] = []  # (after which step of all, in order of asking, who)
        self._asked = 0
        self._steps = 0
        self._all_done = threading.Lock()
        self._all_done.acquire()

    def spawn(self, name: str, work: Callable[[], object], *, in_ms: int = 0) -> None:
        """Adds an actor that begins at that time."""
        actor = Actor(name, work)
        self.actors.append(actor)
        self._wait(actor, in_ms)
        threading.Thread(target=self._live, args=(actor,), name=name, daemon=True).start()

    def run(self) -> None:
        """Returns when all actors have ended, later ones included."""
        if not self._due:
            return
        self._pass_on()
        self._all_done.acquire()
        self.running = None

    def pause(self, ms: int) -> None:
        """Lets the others run for so long, then the running actor goes on. Outside any actor time just passes."""
        actor = self.running
        if actor is None:
            self.now_ms += ms
        else:
            self._step()
            self._wait(actor, ms)
            self._let_others_go_on(actor)

    def hold(self, steps: int) -> None:
        """Lets the others take so many steps, however long they last, or run to their end; then the running actor goes
        on.
        """
        actor = self.running
        if actor is not None:
            self._step()
            self._asked += 1
            heapq.heappush(self._held, (self._steps + steps, self._asked, actor))
            self._let_others_go_on(actor)

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise Crash("endless")

    def _let_others_go_on(self, actor: Actor) -> None:
        if self._pass_on() is not actor:
            actor.stand_still()

    @property
    def endless(self) -> bool:
        return self._steps > MOST_STEPS

    def _wait(self, actor: Actor, ms: int) -> None:
        self._asked += 1
        heapq.heappush(self._due, (self.now_ms + ms, self._asked, actor))

    def _pass_on(self) -> Actor | None:
        """Lets the next one go on, unless it is the one that is running."""
        if self._held and (self._held[0][0] <= self._steps or not self._due):
            _, _, actor = heapq.heappop(self._held)
        elif self._due:
            due_ms, _, actor = heapq.heappop(self._due)
            self.now_ms = max(self.now_ms, due_ms)
        else:
            self._all_done.release()
            return None
        before, self.running = self.running, actor
        if actor is not before:
            actor.go_on()
        return actor

    def _live(self, actor: Actor) -> None:
        actor.stand_still()
        try:
            actor.work()
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 (whatever it is, the run reports it)
            actor.error = error
        self.running = None
        self._pass_on()
