"""Mutants of turns that are shown as they come: their end, their stop, and the reply of another."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import Field, Local, calls, conditions, keyword, uses
from tests.promises.mutants.mutant import mutant
from tests.promises.mutants.patching import Edit
from turnlog.domain.turn_stream import _ENDS, TurnStream
from turnlog.domain.turns import INTERRUPTED, Lease
from turnlog.usecases.held_lease import HeldLease
from turnlog.usecases.running_turn import RunningTurn

MUTANTS = (
    mutant(
        "the end of a stream is shown after the commit",
        Edit(TurnStream.listener, conditions(_ENDS), "True"),
        scenario="streamed-writers-under-one-key",
    ),
    mutant(
        "a reply is stopped once its turn is to stop",
        Edit(HeldLease.is_unwanted, uses(Field(Lease, "stop_asked")), "False"),
        scenario="streamed-writers-and-canceller",
    ),
    mutant(
        "a reply is stopped once its turn cannot be stored",
        Edit(HeldLease.is_unwanted, uses(Field(HeldLease, "is_lost")), "False"),
        scenario="streamed-writer-and-deleter",
    ),
    mutant(
        "what was shown of a stopped reply is stored",
        Edit(RunningTurn._take_up, calls(RunningTurn._commit_stopped), 'self._commit("stopped")'),
        scenario="streamed-writers-and-canceller",
    ),
    mutant(
        "a stopped call stays reserved",
        Edit(RunningTurn._commit_stopped, keyword("settles").every, "True"),
        scenario="streamed-writers-and-canceller-under-a-budget",
    ),
    mutant(
        "who was shown another reply than the stored one is told so",
        Edit(RunningTurn._own, uses(Local("is_mine")), "True"),
        scenario="streamed-writer-overtaken-by-its-key",
    ),
    mutant(
        "the steps that another key kept are not all that was shown",
        Edit(RunningTurn._own, uses(INTERRUPTED), '"no such reason"'),
        scenario="streamed-writer-overtaken-by-another",
    ),
    mutant(
        "the steps of an earlier handler are shown first",
        Edit(RunningTurn.finish, calls(RunningTurn._show_steps), "None"),
        scenario="streamed-writers-after-a-dead-step",
    ),
    mutant(
        "a turn that nobody asked to stop is not stored as stopped",
        Edit(RunningTurn._commit_stopped, conditions(Field(Lease, "stop_asked")), "False"),
    ),
)
