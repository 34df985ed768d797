"""Mutants of turns that take minutes: the renewal of their lease, their steps, and the wish to stop them."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import (
    Field,
    Local,
    assignments,
    calls,
    conditions,
    handling,
    keyword,
    statements,
    uses,
)
from tests.promises.mutants.mutant import LAPSED_OR_NOT, mutant
from tests.promises.mutants.patching import Edit, unheeded
from turnlog.adapters.dynamodb import copies, deletion, move
from turnlog.adapters.dynamodb.encode import last_written
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import UNSTOPPED
from turnlog.domain.limits import settlement
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Lease
from turnlog.errors import StoreUnavailable
from turnlog.usecases import transfers
from turnlog.usecases.finished_turn import keep_interrupted
from turnlog.usecases.held_lease import HeldLease, StopAsked
from turnlog.usecases.running_turn import RunningTurn
from turnlog.usecases.turn_protocol import _Taking

_OF_ANY_NUMBER = "({condition}, lease_values(lease.token))"
_OF_AN_OLDER_NUMBER = (
    '({condition} + " AND (attribute_not_exists(seq) OR seq < :seq)",'
    ' lease_values(lease.token) | {{":seq": {{"N": str(lease.sequence)}}}})'
)
_RENEWAL, _CHECKPOINT = "unstopped", 'f"{MINE} AND {UNSTOPPED}"'

RENEWALS = (
    mutant(
        "a lease is renewed while a call runs",
        Edit(HeldLease.renew, calls(HeldLease.write), "None"),
        scenario="steps-that-take-minutes",
    ),
    mutant(
        "a lease that ends soon is renewed before the next call",
        Edit(HeldLease.renew_if_short, calls(HeldLease.write), "None"),
        harmless="only who stood still begins a call so late: it is overtaken, a call is lost, and no data",
    ),
    mutant(
        "one's own write is for the lease as it was last written",
        Edit(DynamoDBSessionStore.renew, calls(last_written), _OF_ANY_NUMBER.format(condition=_RENEWAL)),
        Edit(DynamoDBSessionStore.checkpoint, calls(last_written), _OF_ANY_NUMBER.format(condition=_CHECKPOINT)),
    ),
    mutant(
        "one's own write is for exactly that number of the lease",
        Edit(DynamoDBSessionStore.renew, calls(last_written), _OF_AN_OLDER_NUMBER.format(condition=_RENEWAL)),
        Edit(DynamoDBSessionStore.checkpoint, calls(last_written), _OF_AN_OLDER_NUMBER.format(condition=_CHECKPOINT)),
        harmless="a step whose fate is unknown ends its handler's turn, so nobody stores or settles it a second time",
    ),
    mutant(
        "a takeover is for the lease as it was last written",
        Edit(DynamoDBSessionStore.acquire, calls(last_written), "(LAPSED, lease_values(over.token, lease.at_ms))"),
        harmless="a lease that was renewed since has not run out, which the condition says too",
    ),
    mutant(
        "a takeover is for the lease as it was last written, or as it has run out",
        Edit(
            DynamoDBSessionStore.acquire,
            calls(last_written),
            f"({LAPSED_OR_NOT}, lease_values(over.token, lease.at_ms))",
        ),
    ),
    mutant(
        "a renewal counts as use",
        Edit(HeldLease.write, keyword("at_ms"), "self.lease.at_ms"),
        scenario="steps-until-the-end",
    ),
    mutant(
        "nothing is written for a turn after the session's absolute end",
        Edit(HeldLease.write, conditions(Field(Session, "expires_ms")), "False"),
        scenario="steps-until-the-end",
    ),
    mutant(
        "nothing is written for a turn after the session's idle end",
        Edit(HeldLease.write, conditions(Field(Session, "idle_ms")), "False"),
    ),
    mutant(
        "a release keeps the use of a lease that was renewed",
        Edit(Lease.after_release, uses(Field(Lease, "sequence")), "0"),
    ),
)

STEPS = (
    mutant(
        "a step is stored before its tools run",
        Edit(RunningTurn._keep_reply, calls(HeldLease.write), "None"),
        scenario="steps",
    ),
    mutant(
        "a turn goes on when its step was acknowledged",
        Edit(RunningTurn._keep, statements(Local("put")).every, unheeded(StoreUnavailable)),
    ),
    mutant(
        "who takes over goes on after the steps that are there",
        Edit(_Taking._read_consistent, conditions(Field(Lease, "steps")), "False"),
        scenario="writers-after-a-dead-step",
    ),
    mutant(
        "a release keeps the steps",
        Edit(Lease.after_release, uses(Field(Lease, "steps")), "0"),
        Edit(Lease.after_release, uses(Field(Lease, "sequence")), "0"),
        quick=True,
    ),
    mutant(
        "another key keeps a dead handler's steps as a turn",
        Edit(_Taking._read_consistent, calls(keep_interrupted), "False"),
        quick=True,
    ),
    mutant(
        "what is kept of a dead handler's turn takes the place of its own lease, when that has run out",
        Edit(DynamoDBSessionStore.interrupt, calls(last_written), '("st = :running", {":running": {"S": "running"}})'),
    ),
    mutant(
        "a move keeps a dead handler's steps as a turn, or waits",
        Edit(transfers.move_whole, calls(keep_interrupted), "None"),
        Edit(move.move_session, conditions(Field(Lease, "steps")), "False"),
        scenario="mover-and-writer-after-a-dead-step",
    ),
    mutant(
        "a move does not begin over a lease with steps",
        Edit(move.move_session, conditions(Field(Lease, "steps")), "False"),
        harmless="whoever moves a session here has kept them as a turn before; the contract tests have not",
    ),
    mutant(
        "a copy of a turn has its steps",
        Edit(copies._copied_with_pieces, assignments("names"), "[]"),
        scenario="stepped-writer-and-mover",
    ),
    mutant(
        "copies that are discarded lose what lies below their slots",
        Edit(deletion.discard_copies, calls(deletion._delete_the_rest), "None"),
    ),
    mutant(
        "attempts are counted anew for each step",
        Edit(RunningTurn._keep_reply, keyword("attempt"), "self.lease.attempt"),
        harmless="a turn of many steps is given up after fewer crashes, and nothing is lost",
    ),
    mutant(
        "a step's call is settled with it",
        Edit(RunningTurn._keep_reply, calls(settlement), "()"),
        scenario="steps-under-a-budget",
    ),
    mutant(
        "the call after a step is reserved with it",
        Edit(RunningTurn._keep, calls(RunningTurn._next_charges), "((), None)"),
        scenario="steps-under-a-budget",
    ),
)

STOPS = (
    mutant(
        "a renewal leaves the wish to stop there",
        Edit(DynamoDBSessionStore.renew, uses(UNSTOPPED), '"attribute_exists(pk)"'),
        scenario="slow-steps-and-canceller",
    ),
    mutant(
        "no step is stored after a wish to stop",
        Edit(DynamoDBSessionStore.checkpoint, uses(UNSTOPPED), '"attribute_exists(pk)"'),
        scenario="stepped-writers-and-canceller",
    ),
    mutant(
        "a call that runs when its turn is to stop keeps the slot",
        Edit(HeldLease.renew, handling(StopAsked), "return False"),
        scenario="slow-steps-and-canceller",
    ),
)

MUTANTS = RENEWALS + STEPS + STOPS
