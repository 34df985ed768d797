"""Documents that S3 reports: each takes effect once, whatever is reported how often and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_plus

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.adapters.s3_documents import INBOX, MAX_KEY, DocumentRefused, Filed, SummaryTaken, Upload
from turnlog.domain.messages import Message, ModelRequest
from turnlog.errors import ContextTooLong, ModelRejected, TurnlogError
from turnlog.usecases.ask import ask
from turnlog.usecases.prompts import SUMMARIZE

_MAX_TOKENS = 4096
_PUT_RESERVE_S = 10.0
_LOOKS = 3  # at what lies there, when others change it meanwhile


class UploadsFailed(Exception):
    """Documents that were not summarized, for now. It says nothing else, since Lambda logs what is raised."""


class SummarizeUploads:
    """The Lambda handler for S3's ObjectCreated events.

    A document that can never be summarized gets a summary that says why. Any other failure is raised once the other
    records are done, so that Lambda tries the event again and at last sends it to the failure queue; what was done
    before is not paid for again, nor what another handler is at, which is looked at again later.
    """

    def __call__(self, event: Mapping[str, Any], context: Any) -> None:
        uploads = list(_uploads(event))
        if not uploads:
            telemetry.note("unknown event", request_id=context.aws_request_id)
        failed = sum(not self._is_done(upload, context) for upload in uploads)
        if failed:
            raise UploadsFailed(f"{failed} of {len(uploads)}")

    def _is_done(self, upload: Upload, context: Any) -> bool:
        try:
            self._summarize(upload, context)
        except TurnlogError as error:
            telemetry.note("upload failed", request_id=context.aws_request_id, code=type(error).__name__)
            return False
        except Exception as error:  # noqa: BLE001 (the other records go on, and its text must not be logged)
            telemetry.note("upload failed", request_id=context.aws_request_id, where=telemetry.place(error))
            return False
        return True

    def _summarize(self, upload: Upload, context: Any) -> None:
        documents = runtime.documents()
        if not documents.has(upload):  # perhaps because its owner was erased, of whom nothing may appear then
            telemetry.note("upload refused", request_id=context.aws_request_id, code="object_gone")
            return
        begun = _begin(upload, context)
        if begun is None:
            return
        try:
            documents.file(upload, _summary(upload, context), over=begun)
        except SummaryTaken:
            telemetry.note("upload overtaken", request_id=context.aws_request_id)
        except Exception:
            with suppress(TurnlogError):  # the mark lapses by itself, only later
                documents.file(upload, _RUNNING, over=begun, lease_expires_ms=1)  # so that the next try need not wait
            raise


_RUNNING = {"status": "running"}


def _begin(upload: Upload, context: Any) -> Filed | None:
    """The mark that the summary is being made; None when it is made, or a newer version's is made or being made.

    Raises SummaryTaken when another handler is at this very one: should that handler die, this event is what is left.
    """
    documents = runtime.documents()
    for _ in range(_LOOKS):
        now_ms = runtime.now_ms()
        there = documents.filed(upload)
        if there and not there.makes_room_for(upload, now_ms):
            if there.lease_expires_ms and there.sequencer == upload.sequencer:
                raise SummaryTaken
            return None
        try:
            lease_expires_ms = now_ms + int(context.get_remaining_time_in_millis())
            return documents.file(upload, _RUNNING, over=there, lease_expires_ms=lease_expires_ms)
        except SummaryTaken:
            continue
    raise SummaryTaken


def _summary(upload: Upload, context: Any) -> Mapping[str, object]:
    """What is laid down for the document. Raises a TurnlogError that may pass."""
    try:
        text = runtime.documents().text(upload)
        question = ModelRequest(
            runtime.model_settings().claude_models[0], (Message.of_text(text),), _MAX_TOKENS, SUMMARIZE
        )
        seconds = context.get_remaining_time_in_millis() / 1000 - _PUT_RESERVE_S
        reply, cost_usd = ask(question, model=runtime.chat_model(), seconds=seconds, clock=runtime.now_ms)
    except (DocumentRefused, ContextTooLong, ModelRejected) as error:
        code = error.code if isinstance(error, DocumentRefused) else "model_refused"
        telemetry.note("upload refused", request_id=context.aws_request_id, code=code)
        return {"status": "failed", "code": code, "document": upload.key}
    tokens = reply.usage.tokens
    telemetry.note(
        "upload summarized", request_id=context.aws_request_id, model=reply.model, tokens=tokens, cost_usd=cost_usd
    )
    return {
        "status": "done",
        "document": upload.key,
        "text": reply.text,
        "model": reply.model,
        "stop_reason": reply.stop_reason,
        "usage": reply.usage.fields,
        "cost_usd": None if cost_usd is None else f"{cost_usd:f}",
    }


def _uploads(event: Mapping[str, Any]) -> Iterator[Upload]:
    """The objects that the event names; records of another source or form are left out."""
    records = event.get("Records")
    for record in records if isinstance(records, list) else []:
        match record:
            case {
                "eventSource": "aws:s3",
                "eventName": str(name),
                "s3": {"object": {"key": str(written)} as found},
            } if name.startswith("ObjectCreated:"):
                key, sequencer, version = unquote_plus(written), found.get("sequencer", ""), found.get("versionId")
                owner, _, name = key.removeprefix(INBOX).partition("/")
                well_formed = isinstance(sequencer, str) and isinstance(version, str | None)
                if key.startswith(INBOX) and owner and name and well_formed and len(key.encode()) <= MAX_KEY:
                    yield Upload(key, sequencer, version)
