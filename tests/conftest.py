"""Keeps tests away from every AWS account: they see nothing of the one this machine is signed in to."""

from __future__ import annotations

import gc
import os

import pytest

from tests.fakes import HeldClock, KeptLog
from tests.reached import pytest_deselected, pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
from turnlog import runtime
from turnlog.adapters.cloudwatch_audit import CloudWatchAuditTrail

__all__ = ["pytest_deselected", "pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

_LEFT = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
os.environ.clear()
os.environ.update(
    _LEFT,
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_EC2_METADATA_DISABLED="true",
)


def pytest_collection_finish() -> None:
    """Leaves all that is loaded by now out of every garbage collection: it stays to the end, and is much to look at."""
    gc.freeze()


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> KeptLog:
    """The log behind the audit trail of the code that runs in this process."""
    kept = KeptLog()
    trail = CloudWatchAuditTrail(kept, "audit", HeldClock())  # type: ignore[arg-type] # as much of a client as it uses
    monkeypatch.setattr(runtime, "audit_trail", lambda: trail)
    return kept
