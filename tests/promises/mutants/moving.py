"""Mutants of moves, forks and creations: how a session comes to another name, and how a new one begins."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import Field, Local, calls, comparisons, conditions, raising, uses
from tests.promises.mutants.mutant import LAPSED_OR_NOT, RUNNING_OF_ANY, mutant
from tests.promises.mutants.patching import Edit, unconditional
from turnlog.adapters.dynamodb import deletion, transfer
from turnlog.adapters.dynamodb.items import header_item, lease_item
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import DONE, LAPSED, MINE, TITLED, Table
from turnlog.domain.turns import Lease, Turn
from turnlog.errors import LeaseLost

MOVES = (
    mutant(
        "the flip of a move is conditional on its lease",
        Edit(transfer._flip, calls(Table.put_action, MINE), unconditional),
    ),
    mutant(
        "the flip of a move is conditional on its own token",
        Edit(transfer._flip, uses(MINE), RUNNING_OF_ANY),
    ),
    mutant(
        "the new header of a move is conditional",
        Edit(transfer._flip, calls(Table.put_action, header_item), unconditional),
        harmless="only the holder of the old session's lease can flip, and the address belongs to that old session",
    ),
    mutant(
        "the copies of a move are conditional",
        Edit(transfer._copy, calls(Table.put), unconditional),
    ),
    mutant(
        "a move leases the slot conditionally",
        Edit(transfer._leased, calls(Table.put), unconditional),
        Edit(transfer._leased, calls(Table.put_action), unconditional),
    ),
    mutant(
        "a move waits for a running turn",
        Edit(transfer.move, comparisons(Field(Lease, "lease_expires_ms")), "False"),
        Edit(transfer._leased, uses(LAPSED), LAPSED_OR_NOT),
        quick=True,
    ),
    mutant(
        "a lease after an unfinished move undoes it",
        Edit(DynamoDBSessionStore.acquire, conditions(Field(Lease, "moving_to")), "False"),
    ),
    mutant(
        "a lease that undoes a move notes so until it has",
        Edit(transfer.fence, calls(lease_item), 'lease_item(session, replace(mine, undo=""))'),
    ),
    mutant(
        "a move fences the one before it off",
        Edit(transfer.fence, uses("!"), '""'),
    ),
    mutant(
        "a move undoes the one before it",
        Edit(transfer.fence, calls(deletion.undo_move), "None"),
    ),
    mutant(
        "a move that was undone stops",
        Edit(transfer._copy, raising(LeaseLost), "pass"),
    ),
    mutant(
        "a move that was refused takes its copies back",
        Edit(transfer._carry_over, calls(transfer.fence), "False"),
        harmless="its lease goes on to name the address: the next one to take the slot takes the copies back",
    ),
    mutant(
        "a mover that was overtaken leaves the copies to the one that overtook it",
        Edit(
            transfer._carry_over,
            conditions(Local("slot")).first,
            'THIS and not undo_move(table, marker["dst"]["S"], view.count, {"N": str(old.ttl_s)})',
        ),
    ),
    mutant(
        "a move takes along the title that was given last",
        Edit(transfer._flip, uses(TITLED), '"title = :title OR title <> :title"'),
        harmless="nobody here renames; the contract tests do",
    ),
    mutant(
        "a session that lives where a move was undone is left alone",
        Edit(deletion.undo_move, calls(deletion.has_session), "False"),
        harmless="each move has an address of its own here; the contract tests move to one that is taken",
    ),
    mutant(
        "a move clears out the address that it leaves",
        Edit(transfer._clear_out, calls(deletion.blank), "None"),
        quick=True,
    ),
    mutant(
        "a repeated move knows its key",
        Edit(transfer._look, comparisons("mk"), "False"),
        quick=True,
    ),
)

CREATIONS = (
    mutant(
        "a creation is conditional",
        Edit(DynamoDBSessionStore.create, calls(Table.put_action, header_item), unconditional),
    ),
    mutant(
        "a creation looks for an existing session",
        Edit(DynamoDBSessionStore.create, conditions(Local("there")), "False"),
        harmless="its transaction finds it too; the look spares four writes",
    ),
    mutant(
        "a fork needs all turns that it copies",
        Edit(transfer.fork, comparisons(Field(Turn, "number")), "False"),
    ),
    mutant(
        "a fork forgets the keys",
        Edit(transfer.fork, calls(Turn.forked), "slot"),
    ),
    mutant(
        "a fork is conditional",
        Edit(transfer.fork, calls(Table.put_action, header_item), unconditional),
        harmless="the id is new, so only a repeat of the same call writes there, and never after the session has ended",
    ),
    mutant(
        "a fork checks that its copies are there",
        Edit(transfer.fork, uses(DONE), '"st = :done OR st <> :done OR attribute_not_exists(pk)"'),
        harmless="a fork lives for a minute, and no copy is swept before 45 minutes are over",
    ),
)

MUTANTS = MOVES + CREATIONS
