"""The smoke test: asks a deployment, on AWS or on this machine, what its users will ask, and says what it saw."""

from tests.smoke.suite import run
from tests.smoke.target import Target

__all__ = ["Target", "run"]
