"""summarize_upload(): a document that was uploaded gets a summary beside it, once, however often it is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from turnlog.clock import Clock
from turnlog.domain.documents import SummaryState, Upload
from turnlog.domain.messages import Message, ModelSettings
from turnlog.errors import ContextTooLong, DocumentRefused, ModelRejected, OutputInvalid, SummaryTaken, TurnlogError
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.document_store import DocumentStore
from turnlog.usecases.document_tasks import SUMMARIZE
from turnlog.usecases.long_documents import DocumentAnswer, NoPurse, answer_document

_PUT_RESERVE_S = 10.0  # kept back from the model's time for storing the summary
_SUMMARY_TOKENS = 8_192  # a summary has some hundreds; the rest is for thinking, which is paid out of the same
_LOOKS = 3  # at the summary's state, when others change it meanwhile
_RUNNING = {"status": "running"}


@dataclass(frozen=True, slots=True)
class UploadOutcome:
    """The fate of an upload: summarized by `answer`, refused for `code`, or overtaken by a newer one.

    `stop_reason` is that of a reply that was no summary.
    """

    event: Literal["summarized", "refused", "overtaken"]
    code: str = ""
    answer: DocumentAnswer | None = None
    stop_reason: str = ""


def summarize_upload(
    upload: Upload,
    *,
    documents: DocumentStore,
    model: ChatModel,
    model_name: str,
    clock: Clock,
    remaining_s: Callable[[], float],
    tell: Callable[[UploadOutcome], None],
) -> None:
    """Writes the document's summary. One that can never be summarized gets a summary that says why.

    `tell` is called with each outcome when it is known: with a summary before that is stored, since it is paid whatever
    comes. An upload that was summarized before, or that a newer one replaces, has none.

    If the document has been deleted by then, no summary is written. What another handler has done is not paid for
    again. Raises SummaryTaken if another handler is making this very summary, StoreUnavailable, or a ModelError that
    may pass: then the upload is to be tried again.
    """
    if not documents.exists(upload):  # perhaps because its owner was erased
        tell(UploadOutcome("refused", "object_gone"))
        return
    begun = _begin(upload, documents, clock, remaining_s)
    if begun is None:
        return
    try:
        outcome = _summarize(upload, documents, model, model_name, clock, remaining_s)
        tell(outcome)  # before it is stored, since it is paid whatever comes
        documents.put_summary(upload, _summary(upload, outcome), over=begun)
    except SummaryTaken:
        tell(UploadOutcome("overtaken"))
    except Exception:
        with suppress(TurnlogError):  # the lease expires by itself, only later
            documents.put_summary(upload, _RUNNING, over=begun, lease_expires_ms=1)  # so the next try need not wait
        raise


def _begin(
    upload: Upload, documents: DocumentStore, clock: Clock, remaining_s: Callable[[], float]
) -> SummaryState | None:
    """Takes the lease of the summary; None if it is made, or a newer version's is made or being made.

    Raises SummaryTaken if another handler is making this very one: if that handler dies, this event is what is left.
    """
    for _ in range(_LOOKS):
        now_ms = clock()
        found = documents.find_summary(upload)
        if found and not found.can_be_replaced_by(upload, now_ms):
            if found.lease_expires_ms and found.sequencer == upload.sequencer:
                raise SummaryTaken
            return None
        lease_expires_ms = now_ms + int(remaining_s() * 1000)
        with suppress(SummaryTaken):
            return documents.put_summary(upload, _RUNNING, over=found, lease_expires_ms=lease_expires_ms)
    raise SummaryTaken


def _summarize(
    upload: Upload,
    documents: DocumentStore,
    model: ChatModel,
    model_name: str,
    clock: Clock,
    remaining_s: Callable[[], float],
) -> UploadOutcome:
    try:
        answer = answer_document(
            SUMMARIZE,
            Message.of_text(documents.read_text(upload)),
            ModelSettings(model_name, _SUMMARY_TOKENS),
            model=model,
            purse=NoPurse(),
            seconds=lambda: remaining_s() - _PUT_RESERVE_S,
            clock=clock,
        )
    except DocumentRefused as error:
        return UploadOutcome("refused", error.code)
    except OutputInvalid as error:  # another try would be paid, too, and hardly end otherwise
        code = "model_refused" if error.stop_reason == "refusal" else error.code
        return UploadOutcome("refused", code, stop_reason=error.stop_reason)
    except (ContextTooLong, ModelRejected):
        return UploadOutcome("refused", "model_refused")
    return UploadOutcome("summarized", answer=answer)


def _summary(upload: Upload, outcome: UploadOutcome) -> Mapping[str, object]:
    """Returns the summary as it is stored."""
    answer = outcome.answer
    if answer is None:
        stopped = {"stop_reason": outcome.stop_reason} if outcome.stop_reason else {}
        return {"status": "failed", "code": outcome.code, "document": upload.key, **stopped}
    return {
        "status": "done",
        "document": upload.key,
        "text": answer.text,
        "summary": answer.output,
        "model": answer.reply.model,
        "stop_reason": answer.reply.stop_reason,
        "usage": answer.reply.usage.fields,
        "cost_usd": None if answer.cost_usd is None else f"{answer.cost_usd:f}",
    }
