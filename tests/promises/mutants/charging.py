"""Mutants of the quotas: the charges, their transactions, and the refunds."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import Field, Local, calls, conditions, keyword
from tests.promises.mutants.mutant import mutant
from tests.promises.mutants.patching import Edit, dropped
from turnlog.adapters.dynamodb import move, quotas
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import Table
from turnlog.domain.sessions import Move

MUTANTS = (
    mutant(
        "a charge is conditional on its limit",
        Edit(quotas.charge_action, conditions(Local("limited")), "False"),
        quick=True,
    ),
    mutant(
        "a charge and its write are one transaction",
        Edit(
            quotas.transact_charged,
            calls(Table.transact),
            "[{} for _ in actions] + refused"
            " if (refused := charges and table.transact(list(map(_room_check, charges)) if check_only else charges))"
            " else table.transact(actions)",
        ),
    ),
    mutant(
        "a move is charged in the transaction that makes it",
        Edit(move._commit, calls(quotas.charge_actions), "()"),
    ),
    mutant(
        "a move is charged once",
        Edit(move._acquire, keyword("check_only"), "False"),
    ),
    mutant(
        "a move that does not fit is refused before it copies",
        Edit(move._acquire, conditions(Field(Move, "quota")), "False"),
        harmless="the transaction that makes it charges for it: it is refused then, after the copies were paid",
    ),
    mutant(
        "a refund and its release are one transaction",
        Edit(
            DynamoDBSessionStore.release,
            calls(Table.transact, Table.delete_action),
            "(self._sessions.transact(refunds), self._sessions.delete(slot, MINE, mine))",
        ),
    ),
    mutant(
        "a settlement and its commit are one transaction",
        Edit(
            DynamoDBSessionStore.commit,
            calls(Table.transact),
            "[self._sessions.transact(actions), *[self._sessions.transact([each]) for each in settled]][0]",
        ),
        harmless="a reservation is the most that a turn can use: without a settlement too much is charged, never less",
    ),
    mutant(
        "a transaction that is sent again is the same one",
        Edit(Table.transact, keyword("ClientRequestToken"), dropped),
        harmless="each begins with a condition that no longer holds after it, and that failure is looked at",
    ),
)
