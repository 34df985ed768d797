"""The suite notices when a rule of the protocol is missing: the quick mutants here, all of them in `make prove`."""

from __future__ import annotations

import pytest

from tests.promises.mutants.catalogue import MUTANTS
from tests.promises.mutants.code_patterns import Local, calls, comparisons, uses
from tests.promises.mutants.mutant import Mutant
from tests.promises.mutants.mutation_run import Scenarios, run_mutant
from tests.promises.mutants.patching import Edit, patched
from turnlog.domain.turns import KEY_HASH, Lease, key_hash

QUICK = [mutant for mutant in MUTANTS if mutant.quick]
SEEDS = 90


def named(mutant: Mutant) -> str:
    return mutant.rule.replace(" ", "-")


@pytest.mark.parametrize("mutant", QUICK, ids=named)
def test_a_quick_mutant_is_noticed(mutant: Mutant) -> None:
    scenarios: Scenarios = [(mutant.scenario, {})] if mutant.scenario else []
    assert run_mutant(mutant, range(0 if scenarios else SEEDS), scenarios).noticed_by


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_a_mutant_finds_the_code_that_it_changes(mutant: Mutant) -> None:
    with patched(mutant.edits):
        pass


def test_no_two_mutants_drop_the_same_rule() -> None:
    assert len({mutant.rule for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant.edits for mutant in MUTANTS}) == len(MUTANTS)


def test_a_patch_is_gone_after_its_run() -> None:
    with patched([Edit(key_hash, uses(KEY_HASH).every, "2")]):
        assert key_hash(b"abcdef") == b"ab"
    assert key_hash(b"abcdef") == b"abcdef"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(key_hash, uses("what was there"), "2"), "key_hash has 0 times: use of 'what was there'"),
        (Edit(key_hash, calls(Lease.after_release), "2"), "key_hash has 0 times: call of after_release"),
        (Edit(key_hash, uses(KEY_HASH).every, "KEY_HASH"), "key_hash stays as it is"),
        (Edit(key_hash, uses(KEY_HASH).every, "_KEY_BYTES"), "key_hash does not know _KEY_BYTES"),
        (Edit(Lease.after_release, uses(Local("lapsed_ms")), "0"), "after_release has 2 times: use of Local"),
    ],
)
def test_a_patch_that_no_longer_fits_is_an_error(edit: Edit, message: str) -> None:
    with pytest.raises(LookupError, match=message), patched([edit]):
        pass


def test_a_symbol_is_found_under_any_name_of_its_module() -> None:
    """A constant is known by its value and a function by its identity, whatever the module calls it."""
    with patched([Edit(_uses_other_names, comparisons(KEY_HASH), "False")]):
        assert not _uses_other_names(KEY_HASH)
    with patched([Edit(_uses_other_names, calls(key_hash), 'b"a"')]):
        assert _uses_other_names(0)


_SIZE, _hashed = KEY_HASH, key_hash


def _uses_other_names(size: int) -> bool:
    return size == _SIZE or len(_hashed(b"abcdef")) == size + 1
