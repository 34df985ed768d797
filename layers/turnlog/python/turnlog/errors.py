"""Every error of Turnlog and its meaning: one class for each decision that a caller can make.

Messages are fixed texts: no content, no raw id and no text of another library ever gets into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any


class TurnlogError(Exception):
    """The root of every error that is raised on purpose. `code` names it for programs, the same everywhere."""

    code = "internal_error"

    retry_after_s: int | None = None
    """Seconds after which a repeat may succeed; None when the error cannot say."""


class Refusal(TurnlogError):
    """The caller may not have this, or not now. Nothing failed; a refused act is noted in the audit trail."""


# --- the request ---


class InvalidRequest(Refusal):
    """The request is refused before anything is paid or stored.

    `code` names the rule and `pointer` (RFC 6901) the place, if any. `details` says what would be valid, such as
    bounds. It holds documented values only, never the request's own.
    """

    def __init__(self, code: str, pointer: str | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.pointer = pointer
        self.details = details or {}


class ValueRefused(InvalidRequest):
    """The value is well formed, but out of range, empty, too long or not in the list."""


class BodyTooLarge(InvalidRequest):
    """The body has more bytes than the service takes."""


class BodyStalled(InvalidRequest):
    """The client has stopped in the middle of the body."""


class MediaTypeUnsupported(InvalidRequest):
    """The body is not JSON in UTF-8 without a content encoding."""


class Unauthorized(Refusal):
    """The request has no usable credential: it is missing, malformed, forged, expired, or meant for somebody else."""

    code = "unauthorized"


class Forbidden(Refusal):
    """The caller is verified, and is of a kind that may not do this."""

    code = "forbidden"


# --- sessions ---


class SessionNotFound(Refusal):
    """The session is gone, somebody else's, or never was: nobody can tell which."""

    code = "session_not_found"


class KeyUsedUp(SessionNotFound):
    """The session that was made under this key or secret is gone, and no other is made under it."""


class TurnNotFound(Refusal):
    """The session has no such turn."""

    code = "turn_not_found"


class TurnInProgress(Refusal):
    """A turn of the session is running, maybe the requested one; nothing was paid for this try."""

    code = "turn_in_progress"

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("turn in progress")
        self.retry_after_s = retry_after_s


class LeaseLost(Refusal):
    """The turn outlived its lease and another one took its slot; its reply was not stored."""

    code = "claim_lost"  # its name on the wire
    retry_after_s = 1


class StreamOvertaken(Refusal):
    """Another handler stored the turn of this key, while a reply of this one was being shown.

    What was shown is not what is stored. The same key gets the stored turn.
    """

    code = "stream_overtaken"
    retry_after_s = 1


class MoveLost(Refusal):
    """Another request took the session before it could move, so it stays as it was. Another key may move it."""

    code = "move_lost"
    retry_after_s = 1


class AlreadyOwned(Refusal):
    """The caller claims a session that is the caller's own."""

    code = "already_owned"


class KeyReused(Refusal):
    """The idempotency key already stands for a request with another body."""

    code = "idempotency_key_reused"


class ToolResultsExpected(Refusal):
    """The last turn waits for results of the caller's tools; `missing` are the ids of their calls."""

    code = "tool_results_expected"

    def __init__(self, missing: Sequence[str]) -> None:
        super().__init__("tool results expected")
        self.missing = tuple(missing)


class ToolResultUnexpected(Refusal):
    """The message has a result for which there is no call, or two for one."""

    code = "tool_result_unexpected"


class TurnUnfinished(TurnlogError):
    """The turn needs more time than this request has. Its finished steps are kept: the same key goes on after them."""

    code = "turn_unfinished"


class TurnStopped(Refusal):
    """The owner stopped the turn before anything of it was there; `billed` if its call had been made by then."""

    code = "turn_stopped"

    def __init__(self, *, billed: bool = False) -> None:
        super().__init__()
        self.billed = billed


class TurnNotRunning(Refusal):
    """No turn of this number is running, so there is nothing to stop."""

    code = "turn_not_running"


class TurnNumberTaken(Refusal):
    """The next turn of the session has another number than the caller expects; nothing was paid."""

    code = "turn_number_taken"

    def __init__(self, next_turn: int) -> None:
        super().__init__("turn number taken")
        self.next_turn = next_turn


class LimitReached(Refusal):
    """One more would exceed a limit. `limit` names which; nothing was stored, paid or charged."""

    def __init__(self, limit: str, retry_after_s: int | None = None) -> None:
        super().__init__(limit)
        self.limit = limit
        self.retry_after_s = retry_after_s


class SessionLimitReached(LimitReached):
    """A limit of the session is reached. A rate among them resets; the others end the session's use."""

    code = "session_limit"


class QuotaExceeded(LimitReached):
    """A quota of the owner, shared by all of the owner's sessions, is used up until its period ends."""

    code = "allowance_used_up"


class QuotaTooSmall(QuotaExceeded):
    """The request could use more than the whole of a quota, of which `most` is all that there is: no waiting helps."""

    code = "quota_too_small"

    def __init__(self, limit: str, most: Decimal, needed: Decimal) -> None:
        super().__init__(limit)
        self.most = most
        self.needed = needed


class TurnTooLarge(Refusal):
    """Message and reply together are, or could become, larger than one turn may be."""

    code = "turn_too_large"


class ErasureInProgress(Refusal):
    """Everything of the owner is being erased, and nothing begins before that is done. A repeat finishes it."""

    code = "erasure_in_progress"
    retry_after_s = 5


class ErasureUnfinished(TurnlogError):
    """There was no time for all of the owner's sessions: `erased` are gone, and a repeat goes on with those `left`."""

    def __init__(self, erased: int, left: int) -> None:
        super().__init__(erased, left)
        self.erased = erased
        self.left = left


class AttemptsExhausted(TurnlogError):
    """Three handlers that began under this key died, lost the provider's answer or outlived their lease.

    The key is not paid for again.
    """

    code = "attempts_exhausted"


class SessionUnreadable(TurnlogError):
    """The stored session cannot be read here; it can still be deleted. Nothing is answered from what can be read."""


class SessionCorrupt(SessionUnreadable):
    """The stored session is damaged. Nothing was written, and nothing is answered from what is left."""

    code = "session_corrupt"


class TurnsMissing(SessionCorrupt):
    """The turns have a gap."""


class ItemUnreadable(SessionCorrupt):
    """A stored item lacks something, or has a form that no version gave it."""


class ItemVersionUnknown(SessionUnreadable):
    """A stored item was written by a later version, in a form that this one does not know; it is whole, and stays."""

    code = "version_unknown"
    retry_after_s = 60  # a rollback lasts for minutes at least


class ClockBehind(SessionUnreadable):
    """This machine's clock lies far before the session's times, so nothing about it can be decided by the clock."""

    code = "dependency_unavailable"
    retry_after_s = 5


# --- documents ---


class DocumentRefused(Refusal):
    """The document can never be summarized; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class SummaryTaken(TurnlogError):
    """Another handler has written to the place of the summary."""

    code = "summary_taken"


# --- what Turnlog depends on ---


class StoreUnavailable(TurnlogError):
    """The store throttled, failed or could not be reached, also after retries. A write may or may not have happened."""

    code = "dependency_unavailable"
    retry_after_s = 2


class QuotaUnavailable(TurnlogError):
    """A quota could not be charged, so nothing was asked: money fails closed."""

    code = "dependency_unavailable"
    retry_after_s = 2


class KeysUnavailable(TurnlogError):
    """The service that unwraps content keys refused, failed or could not be reached; nothing was attempted."""

    code = "dependency_unavailable"
    retry_after_s = 5


class SecretUnavailable(TurnlogError):
    """A secret could not be read; nothing was attempted without it."""

    code = "dependency_unavailable"
    retry_after_s = 5


class IssuerUnavailable(TurnlogError):
    """The token issuer's keys could not be read, which says nothing about the token. The text says why, for logs."""

    code = "dependency_unavailable"
    retry_after_s = 5


class AuditUnavailable(TurnlogError):
    """The act could not be written down, so it did not happen."""

    code = "dependency_unavailable"
    retry_after_s = 2


# --- the model ---


class ModelError(TurnlogError):
    """The model gave no usable reply. `billed` is true if the provider may have charged for it.

    `provider_request_id` is the provider's name of the call, for the log; empty if it gave none.
    """

    billed = True
    provider_request_id = ""


class ModelUnavailable(ModelError):
    """The provider refused, was overloaded, limited the rate or was not reached: certainly not billed."""

    code = "model_unavailable"
    billed = False

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("model unavailable")
        self.retry_after_s = retry_after_s


class ModelAccessDenied(ModelError):
    """The provider does not accept this service's key or account; not billed. Another key may help."""

    code = "model_unavailable"
    billed = False
    retry_after_s = 30


class ModelCreditUsedUp(ModelError):
    """The service's account with the provider has no credit; not billed. The owner of the service must pay."""

    code = "model_credit_used_up"
    billed = False
    retry_after_s = 300


class ModelNotFound(Refusal):
    """The service offers no such model."""

    code = "model_not_found"


class ModelRetired(ModelError, Refusal):
    """The model that is asked for has retired, so nothing was asked. `successor` is the one to take, if it is known."""

    code = "model_retired"
    billed = False

    def __init__(self, successor: str | None = None) -> None:
        super().__init__("model retired")
        self.successor = successor


class ModelNotServed(ModelError):
    """The provider knows no such model, or none any more; not billed. `successor` is the one to take, if it is known.

    A caller gets the code of ModelRetired, since the same helps against both.
    """

    code = "model_retired"
    billed = False

    def __init__(self, successor: str | None = None) -> None:
        super().__init__("model not served")
        self.successor = successor


class ContextTooLong(ModelError, Refusal):
    """The messages do not fit into the model's context; not billed."""

    code = "context_too_long"
    billed = False


class ModelRejected(ModelError):
    """The provider calls the request invalid; not billed. Repeating it cannot help."""

    code = "model_rejected"
    billed = False


class ModelTimeout(ModelError):
    """The model did not answer within the time budget; it may have been billed."""

    code = "model_timeout"


class ModelFailed(ModelError):
    """The provider failed or the connection broke after the request was sent; it may have been billed."""

    code = "model_failed"


class ModelProtocolError(ModelError):
    """The answer breaks the protocol: no stop reason, empty, or not readable. It was billed and is not stored."""

    code = "model_protocol_error"


class OutputInvalid(ModelError):
    """The reply is no object that its schema allows, or ended before it was one; `stop_reason` is its own. It was
    billed, and is not stored.
    """

    code = "output_invalid"

    def __init__(self, stop_reason: str) -> None:
        super().__init__("output invalid")
        self.stop_reason = stop_reason
