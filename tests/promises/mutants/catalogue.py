"""All mutants: each rule that carries the protocol's safety is taken out in turn.

The suite must notice, or the mutant says why it need not.
"""

from __future__ import annotations

from tests.promises.mutants import (
    charging,
    deleting,
    encrypting,
    moving,
    reading,
    rolling_back,
    stepping,
    streaming,
    taking,
)

MUTANTS = (
    *taking.MUTANTS,
    *reading.MUTANTS,
    *deleting.MUTANTS,
    *moving.MUTANTS,
    *charging.MUTANTS,
    *encrypting.MUTANTS,
    *rolling_back.MUTANTS,
    *stepping.MUTANTS,
    *streaming.MUTANTS,
)
