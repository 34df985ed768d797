"""Mutants of reading a session."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import (
    Field,
    Local,
    choices,
    comparisons,
    handling,
    results,
    uses,
    value_under,
)
from tests.promises.mutants.mutant import mutant
from tests.promises.mutants.patching import Edit, otherwise
from turnlog.adapters.dynamodb import reads
from turnlog.adapters.dynamodb.reads import READS
from turnlog.adapters.dynamodb.table import Table
from turnlog.domain.turns import Turn
from turnlog.errors import TurnlogError
from turnlog.usecases.turn_protocol import TakenTurn, _Taking

MUTANTS = (
    mutant(
        "a page has room for the header, the meta item and a lease",
        Edit(reads.page_size, results(), "newest"),
        harmless="the store reads on until it has all turns: it costs a call, and no turn",
    ),
    mutant(
        "a lease does not count as one of the newest turns",
        Edit(reads.has_all, uses(Local("running")), "0"),
        Edit(reads.page_size, results(), "newest + 2"),
        quick=True,
    ),
    mutant(
        "pages are read until all turns are there",
        Edit(Table.query, comparisons("LastEvaluatedKey"), "True"),
        quick=True,
    ),
    mutant(
        "turns have no gap",
        Edit(reads.view_of, comparisons(Field(Turn, "number"), range), "False"),
    ),
    mutant(
        "slots that seem to be damaged are looked at again",
        Edit(reads.slots_between, uses(READS), "1"),
    ),
    mutant(
        "reads are strongly consistent",
        Edit(Table.query, value_under("ConsistentRead"), "False"),
        quick=True,
    ),
    mutant(
        "nothing is refused on the strength of an old view",
        Edit(_Taking._read_cached, handling(TurnlogError), "raise"),
        quick=True,
    ),
    mutant(
        "nothing is replayed on the strength of an old view",
        Edit(_Taking._read_cached, choices(TakenTurn), otherwise),
    ),
)
