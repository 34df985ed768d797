"""Errors and their wordings over HTTP agree on what is a refusal and what is a failure."""

from __future__ import annotations

import pytest

from turnlog import errors
from turnlog.entrypoints.http.problems import INTERNAL, WORDINGS, problem_of


@pytest.mark.parametrize("kind", WORDINGS, ids=lambda kind: kind.__name__)
def test_a_refusal_is_4xx_and_a_failure_5xx(kind: type[errors.TurnlogError]) -> None:
    """The audit trail notes refusals alone."""
    assert issubclass(kind, errors.Refusal) == (WORDINGS[kind].status < 500)


@pytest.mark.parametrize("kind", WORDINGS, ids=lambda kind: kind.__name__)
def test_an_error_with_a_wording_has_a_code_of_its_own(kind: type[errors.TurnlogError]) -> None:
    assert kind.code != errors.TurnlogError.code


def test_an_error_without_a_wording_is_an_internal_one() -> None:
    class Unknown(errors.TurnlogError):
        pass

    assert problem_of(Unknown()) is INTERNAL
