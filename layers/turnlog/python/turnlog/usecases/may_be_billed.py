"""may_be_billed(): the errors after which a call may be on the provider's bill."""

from __future__ import annotations

from turnlog.errors import ModelError, QuotaExceeded, SecretUnavailable, TurnStopped, TurnUnfinished


def may_be_billed(error: Exception) -> bool:
    """True if the provider may charge for a call that ended with this error."""
    if isinstance(error, ModelError | TurnStopped):
        return error.billed
    return not isinstance(error, SecretUnavailable | QuotaExceeded | TurnUnfinished)
