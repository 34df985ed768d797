"""A mutant: the shipped code without one rule; and conditions that replace those of the store."""

from __future__ import annotations

from dataclasses import dataclass

from tests.promises.mutants.patching import Edit

# Conditions with the same placeholders as those that they stand in for, as source text.
ALWAYS = '"attribute_exists(pk) OR attribute_not_exists(pk) OR st = :running OR tok = :token"'
RUNNING_OF_ANY = '"st = :running AND (tok = :token OR tok <> :token)"'
LAPSED_OF_ANY = '"st = :running AND til < :now AND (tok = :token OR tok <> :token)"'
LAPSED_OR_EMPTY = '"attribute_not_exists(pk) OR (st = :running AND tok = :token AND til < :now)"'
LAPSED_OR_NOT = '"st = :running AND tok = :token AND (til < :now OR til >= :now)"'
IMPOSSIBLE = '"st = :token AND tok = :running AND til < :now"'


@dataclass(frozen=True, slots=True)
class Mutant:
    """`rule` is the rule that the code no longer keeps.

    `harmless` is the reason why no run can notice: usually, other rules carry this one. `quick` says that a few random
    runs notice it, so that `make test` can run it, or the one `scenario` without a fault.
    """

    rule: str
    edits: tuple[Edit, ...]
    harmless: str = ""
    quick: bool = False
    scenario: str = ""


def mutant(rule: str, *edits: Edit, harmless: str = "", quick: bool = False, scenario: str = "") -> Mutant:
    return Mutant(rule, edits, harmless, quick or bool(scenario), scenario)
