"""The suite notices when a rule of the protocol is missing: a sample here, all of them in `make prove`."""

from __future__ import annotations

import pytest

from tests.promises.mutants.mutants import MUTANTS, Mutant
from tests.promises.mutants.mutation_run import hunt
from tests.promises.mutants.patching import Edit, planted
from turnlog.domain.turns import key_hash

QUICK = [mutant for mutant in MUTANTS if mutant.quick]
SEEDS = 40


def named(mutant: Mutant) -> str:
    return mutant.without.replace(" ", "-")


@pytest.mark.parametrize("mutant", QUICK, ids=named)
def test_the_suite_notices_when_it_is_missing(mutant: Mutant) -> None:
    assert hunt(mutant, range(SEEDS), []).noticed_by


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_every_mutant_still_finds_the_code_that_it_changes(mutant: Mutant) -> None:
    with planted(mutant.edits):
        pass


def test_no_two_mutants_have_the_same_name() -> None:
    assert len({mutant.without for mutant in MUTANTS}) == len(MUTANTS)


def test_a_mutant_is_gone_after_its_hunt() -> None:
    with planted([Edit("domain.turns:key_hash", "KEY_HASH", "2")]):
        assert key_hash(b"abcdef") == b"ab"
    assert key_hash(b"abcdef") == b"abcdef"


def test_a_mutant_of_code_that_has_changed_is_an_error() -> None:
    with pytest.raises(LookupError), planted([Edit("domain.turns:key_hash", "what was there", "")]):
        pass
