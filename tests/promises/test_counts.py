"""The tests hold no fewer promises, scenarios, mutants and facts than before."""

from __future__ import annotations

from tests.promises.counts import FLOORS, counts, is_fewer, line


def test_the_tests_hold_no_less_than_before() -> None:
    found = counts()
    assert not is_fewer(found), line(found)


def test_a_number_below_its_floor_is_named() -> None:
    fewer = FLOORS | {"mutants": 3}
    assert is_fewer(fewer)
    assert "3 mutants (FEWER THAN" in line(fewer)
    assert "FEWER" not in line(FLOORS)
