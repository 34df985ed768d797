"""Mutants of moves, forks and creations: how a session comes to another name, and how a new one begins."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import Field, Local, calls, comparisons, conditions, raising, uses
from tests.promises.mutants.mutant import LAPSED_OR_NOT, RUNNING_OF_ANY, mutant
from tests.promises.mutants.patching import Edit, unconditional
from turnlog.adapters.dynamodb import copies, deletion, fork, move
from turnlog.adapters.dynamodb.encode import header_item, lease_item
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import DONE, LABELLED, LAPSED, MINE, TITLED, Table
from turnlog.domain.turns import Lease, Turn
from turnlog.errors import LeaseLost

MOVES = (
    mutant(
        "the commit of a move is conditional on its lease",
        Edit(move._commit, calls(Table.put_action, MINE), unconditional),
    ),
    mutant(
        "the commit of a move is conditional on its own token",
        Edit(move._commit, uses(MINE), RUNNING_OF_ANY),
    ),
    mutant(
        "the new header of a move is conditional",
        Edit(move._commit, calls(Table.put_action, header_item), unconditional),
        harmless="only the holder of the old session's lease can commit, and the address belongs to that old session",
    ),
    mutant(
        "the copies of a move are conditional",
        Edit(copies.copy_turn, calls(Table.put), unconditional),
    ),
    mutant(
        "a move leases the slot conditionally",
        Edit(move._acquire, calls(Table.put), unconditional),
        Edit(move._acquire, calls(Table.put_action), unconditional),
    ),
    mutant(
        "a move waits for a running turn",
        Edit(move.move_session, comparisons(Field(Lease, "lease_expires_ms")), "False"),
        Edit(move._acquire, uses(LAPSED), LAPSED_OR_NOT),
        quick=True,
    ),
    mutant(
        "a lease after an unfinished move undoes it",
        Edit(DynamoDBSessionStore.acquire, conditions(Field(Lease, "moving_to")), "False"),
    ),
    mutant(
        "a lease that undoes a move notes so until it has",
        Edit(
            move.fence_unfinished_move, calls(lease_item), 'lease_item(session, replace(mine, unfinished_move_to=""))'
        ),
    ),
    mutant(
        "a move fences the one before it off",
        Edit(move.fence_unfinished_move, uses("!"), '""'),
    ),
    mutant(
        "a move undoes the one before it",
        Edit(move.fence_unfinished_move, calls(deletion.discard_copies), "None"),
    ),
    mutant(
        "a move that was undone stops",
        Edit(copies.copy_turn, raising(LeaseLost).first, "pass"),
    ),
    mutant(
        "a move that was refused takes its copies back",
        Edit(move._copy_and_commit, calls(move.fence_unfinished_move), "False"),
        harmless="its lease goes on to name the address: the next one to take the slot takes the copies back",
    ),
    mutant(
        "a mover that was overtaken leaves the copies to the one that overtook it",
        Edit(
            move._copy_and_commit,
            conditions(Local("slot")).first,
            'THIS and not discard_copies(table, tombstone["dst"]["S"], view.count, {"N": str(old.ttl_s)})',
        ),
    ),
    mutant(
        "a move takes along the title that was given last",
        Edit(move._commit, uses(TITLED), '"title = :title OR title <> :title"'),
        harmless="nobody here renames; the contract tests do",
    ),
    mutant(
        "a move takes along the metadata that was given last",
        Edit(move._commit, uses(LABELLED), '"(md = :md OR md <> :md)"'),
        harmless="nobody here changes metadata; the contract tests do",
    ),
    mutant(
        "a session that lives where a move was undone is left alone",
        Edit(deletion.discard_copies, calls(deletion.has_session), "False"),
        harmless="each move has an address of its own here; the contract tests move to one that is taken",
    ),
    mutant(
        "a move clears out the address that it leaves",
        Edit(move._remove_moved_session, calls(deletion.replace_with_tombstones), "None"),
        quick=True,
    ),
    mutant(
        "a repeated move knows its key",
        Edit(move._read_once, comparisons("mk"), "False"),
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
        Edit(DynamoDBSessionStore.create, calls(Table.newest), "None"),
        harmless="its transaction finds it too; the look spares four writes",
    ),
    mutant(
        "a fork needs all turns that it copies",
        Edit(fork._turns_of, comparisons(Field(Turn, "number")), "True"),
    ),
    mutant(
        "a fork forgets the keys",
        Edit(fork.fork_session, calls(Turn.forked), "turn"),
    ),
    mutant(
        "a fork is conditional",
        Edit(fork.fork_session, calls(Table.put_action, header_item), unconditional),
        harmless="the id is new, so only a repeat of the same call writes there, and never after the session has ended",
    ),
    mutant(
        "a fork checks that its copies are there",
        Edit(fork.fork_session, uses(DONE), '"st = :done OR st <> :done OR attribute_not_exists(pk)"'),
        harmless="a fork lives for a minute, and no copy is swept before 45 minutes are over",
    ),
)

MUTANTS = MOVES + CREATIONS
