"""Mutants of the end of a session: by time, by a delete, or by the sweeper."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import Local, assignments, calls, comparisons, keyword, results, uses
from tests.promises.mutants.mutant import RUNNING_OF_ANY, mutant
from tests.promises.mutants.patching import Edit, unconditional
from turnlog.adapters.dynamodb import deletion, sweeper
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore
from turnlog.adapters.dynamodb.table import EMPTY, MINE, Table
from turnlog.domain.conditions import is_due
from turnlog.domain.margins import GRACE
from turnlog.domain.sessions import Session, SessionView

MUTANTS = (
    mutant(
        "an expired session is gone though it is still there",
        Edit(SessionView.alive_at, results(), "True"),
        quick=True,
    ),
    mutant(
        "TTL lies after the absolute end",
        Edit(Session.ttl_s, results(), "-(-(self.created_ms + self.idle_ms) // 1000)"),
    ),
    mutant(
        "TTL lies an hour after the end",
        Edit(Session.ttl_s, uses(GRACE), "GRACE * 0"),
        harmless="nobody sees a session after its end; the grace is for clocks that are further apart than those here",
    ),
    mutant(
        "a delete blanks every slot",
        Edit(deletion._remove, calls(deletion.replace_with_tombstones), "None"),
        quick=True,
    ),
    mutant(
        "a delete removes the parts of large turns",
        Edit(deletion.replace_with_tombstones, calls(deletion._delete_the_rest), "None"),
        quick=True,
    ),
    mutant(
        "a blanked slot keeps a tombstone",
        Edit(
            deletion.replace_with_tombstones,
            calls(Table.put_all),
            'table.delete_all([key(item["pk"]["S"], item["sk"]["S"]) for item, _ in slots])',
        ),
    ),
    mutant(
        "a delete puts a tombstone after the last turn",
        Edit(deletion._block_new_turns, calls(Table.put, EMPTY), "None"),
        quick=True,
    ),
    mutant(
        "a delete's tombstone is conditional",
        Edit(deletion._block_new_turns, calls(Table.put).every, unconditional),
    ),
    mutant(
        "a delete's tombstone over a lease is conditional",
        Edit(deletion._block_new_turns, calls(Table.put, MINE), unconditional),
    ),
    mutant(
        "a delete's tombstone over a lease is for the lease that was seen",
        Edit(deletion._block_new_turns, uses(MINE), RUNNING_OF_ANY),
    ),
    mutant(
        "a delete reads again when no turn can come any more",
        Edit(deletion._block, comparisons(), "True"),
    ),
    mutant(
        "a delete notices that a move was faster",
        Edit(DynamoDBSessionStore.delete, calls(deletion.was_moved), "False"),
    ),
    mutant(
        "a delete removes the header last",
        Edit(
            deletion._remove,
            calls(deletion.replace_with_tombstones),
            "(table.delete_all([key(each.pk, HEADER) for each in blocked]), THIS)",
        ),
    ),
    mutant(
        "a delete undoes the move that it stops",
        Edit(deletion._remove, comparisons("und"), "False"),
    ),
    mutant(
        "the writes that a batch leaves over are repeated",
        Edit(Table._write_all, assignments("requests"), "rest"),
    ),
    mutant(
        "a sweep looks again before it ends a session",
        Edit(sweeper._check, keyword("only_if"), "bool"),
        harmless="only a process that stood still brings life to a session dead for so long, and its turn is stopped",
    ),
    mutant(
        "a sweep leaves alone a session that is alive",
        Edit(sweeper._check, calls(is_due, Local("alive_until_ms")), "True"),
        Edit(sweeper._check, keyword("only_if"), "bool"),
    ),
    mutant(
        "a sweep voids the lease that guards a half-made move",
        Edit(sweeper._check, calls(sweeper._is_abandoned), "True"),
    ),
    mutant(
        "a session that a sweep does not end goes back onto its list",
        Edit(sweeper._reschedule, calls(Table.put), "None"),
    ),
)
