"""Mutants of what a later version stored before a rollback."""

from __future__ import annotations

from tests.promises.mutants.code_patterns import Field, calls, comparisons, conditions, results
from tests.promises.mutants.mutant import mutant
from tests.promises.mutants.patching import Edit
from turnlog.adapters.dynamodb import decode, deletion, sweeper
from turnlog.adapters.dynamodb.items import EXTENDED_VERSION, HEADER, META, is_of_later_version
from turnlog.domain.sessions import SessionView
from turnlog.usecases.turn_protocol import _Taking

MUTANTS = (
    mutant(
        "an item of a later version is not damaged",
        Edit(is_of_later_version, results(), "False"),
    ),
    mutant(
        "an unknown lease is not taken over",
        Edit(is_of_later_version, results(), "False"),
        Edit(decode._require_version, comparisons(EXTENDED_VERSION).first, "False"),
    ),
    mutant(
        "an unknown lease is looked at before the slot is taken",
        Edit(_Taking._next_lease, conditions(Field(SessionView, "unknown_lease")), "False"),
        harmless="the slot is not empty, and so the condition of the lease fails",
    ),
    mutant(
        "a sweep leaves what a later version stored",
        Edit(sweeper._check, calls(any, is_of_later_version), "False"),
        Edit(sweeper._may_be_swept, calls(any, is_of_later_version), "False"),
    ),
    mutant(
        "a delete removes items of every kind",
        Edit(deletion._delete_the_rest, comparisons(META, HEADER), 'item["sk"]["S"][:1].isdigit()'),
    ),
)
