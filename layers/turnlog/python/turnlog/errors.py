"""Every error of Turnlog and its meaning: one class for each decision that a caller can make.

Messages are fixed texts: no content, no raw id and no text of another library ever gets into one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TurnlogError(Exception):
    """The root: whatever is raised on purpose is one of these."""

    retry_after_s: int | None = None
    """Seconds after which a repeat may succeed; None when it cannot say."""


# --- what was asked ---


class InvalidRequest(TurnlogError):
    """The request is refused before any I/O. `code` names the rule, `pointer` (RFC 6901) the place, if any. `told` is
    what else is said of it, such as the bounds of a value: from what the service documents, never from the request.
    """

    status = 400

    def __init__(self, code: str, pointer: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.pointer = pointer
        self.details = details or {}


class ValueRefused(InvalidRequest):
    """Well formed, but the value is out of range, empty, too long or not in the list."""

    status = 422


class BodyTooLarge(InvalidRequest):
    """More bytes than the service takes."""

    status = 413


class MediaTypeUnsupported(InvalidRequest):
    """Another media type, charset or content encoding than JSON in UTF-8."""

    status = 415


class Unauthorized(TurnlogError):
    """No usable credential: it is missing, malformed, forged, expired, or meant for somebody else."""


class Forbidden(TurnlogError):
    """A verified caller of a kind that this route is not for."""


# --- sessions ---


class SessionNotFound(TurnlogError):
    """Gone, somebody else's, or never there: nobody can tell which."""


class NameUsedUp(SessionNotFound):
    """What was made under this key or secret has ended, and nothing else is made under it."""


class TurnNotFound(TurnlogError):
    """The session is there and has no such turn."""


class TurnInProgress(TurnlogError):
    """A turn of the session is running, maybe the one that is asked for; nothing was paid for this try."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("turn in progress")
        self.retry_after_s = retry_after_s


class LeaseLost(TurnlogError):
    """The turn outlived its lease and another one took its slot; its reply was not stored."""

    retry_after_s = 1


class MoveLost(TurnlogError):
    """Another request took the session while it was about to move; it is where it was. Another key may move it."""

    retry_after_s = 1


class AlreadyOwned(TurnlogError):
    """The caller claims a session that is the caller's own."""


class KeyReused(TurnlogError):
    """The idempotency key already stands for a request with another body."""


class TurnNumberTaken(TurnlogError):
    """The caller named the turn that it expected to take, and the session is elsewhere; nothing was paid."""


class LimitReached(TurnlogError):
    """One more would exceed a limit. `limit` names which; nothing was stored or paid, and nothing charged."""

    def __init__(self, limit: str, retry_after_s: int | None = None) -> None:
        super().__init__(limit)
        self.limit = limit
        self.retry_after_s = retry_after_s


class SessionLimitReached(LimitReached):
    """A limit of the session: only a rate among them resets, the others end its use."""


class QuotaExceeded(LimitReached):
    """An allowance of the owner, which all of the owner's sessions share; it resets when its window of time ends."""


class QuotaUnavailable(TurnlogError):
    """An allowance could not be charged, so nothing was asked: money fails closed."""

    retry_after_s = 2


class TurnTooLarge(TurnlogError):
    """Message and reply together are, or could become, more than one turn holds."""


class AttemptsExhausted(TurnlogError):
    """Three handlers in a row died or lost the provider's answer under this key; it is not paid for again."""


class SessionCorrupt(TurnlogError):
    """What is stored is damaged. Nothing was written, and nothing is answered from what is left."""


class TurnsMissing(SessionCorrupt):
    """The turns have a gap."""


class ItemUnreadable(SessionCorrupt):
    """A stored item lacks something, or is in another form than any version gave it."""


class ItemVersionUnknown(SessionCorrupt):
    """A stored item was written by a version that came after this one, in a form that this one does not know."""


class ErasureInProgress(TurnlogError):
    """All of the owner is being erased, and nothing begins before that is done: if it was cut off, ask for it again."""

    retry_after_s = 5


class ClockBehind(TurnlogError):
    """This machine's clock lies far before times that are stored, so nothing can be decided by it."""

    retry_after_s = 5


# --- what we depend on ---


class StoreUnavailable(TurnlogError):
    """The store throttled, failed or could not be reached, also after retries. A write may or may not have happened."""

    retry_after_s = 2


class KeysUnavailable(TurnlogError):
    """The service that unwraps the keys of content refused, failed or could not be reached; nothing was attempted."""

    retry_after_s = 5


class SecretUnavailable(TurnlogError):
    """A secret could not be read; nothing was attempted without it."""

    retry_after_s = 5


class AuditUnavailable(TurnlogError):
    """An act could not be written down, so it did not happen."""

    retry_after_s = 2


class ModelError(TurnlogError):
    """The model gave no usable reply. `billed` says whether the provider may have charged for it."""

    billed = True


class ModelUnavailable(ModelError):
    """Refused, overloaded, rate limited or not reached: certainly not billed."""

    billed = False

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("model unavailable")
        self.retry_after_s = retry_after_s


class ModelAccessDenied(ModelError):
    """The provider does not accept this service's key or account; not billed. Another key may help."""

    billed = False
    retry_after_s = 30


class ContextTooLong(ModelError):
    """The messages do not fit into the model's context; not billed."""

    billed = False


class ModelRejected(ModelError):
    """The provider calls the request invalid; not billed. Repeating it cannot help."""

    billed = False


class ModelTimeout(ModelError):
    """No answer within the time budget; it may have been billed."""


class ModelFailed(ModelError):
    """The provider failed or the connection broke after the request was sent; it may have been billed."""


class ModelProtocolError(ModelError):
    """An answer that breaks the protocol: no stop reason, empty, or not readable. It was billed and is not stored."""
