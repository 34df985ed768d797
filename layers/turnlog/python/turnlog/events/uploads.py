"""The event edge: what S3 reports is read as untrusted input, and takes effect once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from turnlog import runtime, telemetry
from turnlog.documents import INBOX, DocumentRefused, Upload
from turnlog.errors import ContextTooLong, ModelRejected, TurnlogError
from turnlog.messages import Message
from turnlog.model import ModelRequest
from turnlog.prompts import SUMMARIZE
from turnlog.turns import ask

_MAX_TOKENS = 4096
_PUT_RESERVE_S = 10.0


class SummarizeUploads:
    """The Lambda handler for S3's ObjectCreated events.

    A document that can never be summarized gets a summary that says why. Any other failure is raised once the other
    records are done, so that Lambda tries the event again and at last sends it to the failure queue; what was done
    before is not paid for again.
    """

    def __call__(self, event: Mapping[str, Any], context: Any) -> None:
        uploads = list(_uploads(event))
        if not uploads:
            telemetry.note("unknown event", request_id=context.aws_request_id)
        failure: TurnlogError | None = None
        for upload in uploads:
            try:
                self._summarize(upload, context)
            except TurnlogError as error:
                telemetry.note("upload failed", request_id=context.aws_request_id, code=type(error).__name__)
                failure = error
        if failure:
            raise failure

    def _summarize(self, upload: Upload, context: Any) -> None:
        documents = runtime.documents()
        if documents.is_summarized(upload):
            return
        try:
            text = documents.text(upload)
            question = ModelRequest(
                runtime.model_settings().claude_models[0], (Message.of_text(text),), _MAX_TOKENS, SUMMARIZE
            )
            seconds = context.get_remaining_time_in_millis() / 1000 - _PUT_RESERVE_S
            reply, cost_usd = ask(question, model=runtime.chat_model(), seconds=seconds, clock=runtime.now_ms)
        except (DocumentRefused, ContextTooLong, ModelRejected) as error:
            code = error.code if isinstance(error, DocumentRefused) else "model_refused"
            documents.put_summary(upload, {"status": "failed", "code": code, "document": upload.key})
            telemetry.note("upload refused", request_id=context.aws_request_id, code=code)
            return
        summary = {
            "status": "done",
            "document": upload.key,
            "text": reply.text,
            "model": reply.model,
            "stop_reason": reply.stop_reason,
            "usage": reply.usage.fields,
            "cost_usd": None if cost_usd is None else f"{cost_usd:f}",
        }
        documents.put_summary(upload, summary)
        telemetry.note(
            "upload summarized",
            request_id=context.aws_request_id,
            model=reply.model,
            tokens=reply.usage.tokens,
            cost_usd=cost_usd,
        )


def _uploads(event: Mapping[str, Any]) -> Iterator[Upload]:
    """The objects that the event names; records of another source or form are left out."""
    for record in event.get("Records") or []:
        if record.get("eventSource") != "aws:s3" or not str(record.get("eventName", "")).startswith("ObjectCreated:"):
            continue
        found = record["s3"]["object"]
        key = unquote_plus(found["key"])
        owner, _, name = key.removeprefix(INBOX).partition("/")
        if key.startswith(INBOX) and owner and name:
            yield Upload(key, found.get("sequencer", ""), found.get("versionId"))
