"""Documents that S3 reports: each takes effect once, whatever is reported how often and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote_plus

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.domain.documents import INBOX, MAX_DOCUMENT_KEY, Upload
from turnlog.errors import TurnlogError
from turnlog.usecases.summarize_upload import UploadOutcome, summarize_upload


class UploadsFailed(Exception):
    """Documents were not summarized, for now. The message has only numbers, since Lambda logs what is raised."""


class SummarizeUploads:
    """The Lambda handler for S3's ObjectCreated events.

    A document that can never be summarized gets a summary that says why. Any other failure is raised once the other
    records are done, so that Lambda tries the event again and at last sends it to the failure queue. What was done
    before is not paid for again; what another handler is doing is looked at again later.
    """

    def __call__(self, event: Mapping[str, Any], context: Any) -> None:
        uploads = list(_uploads(event))
        if not uploads:
            telemetry.note("unknown event", request_id=context.aws_request_id)
        failed = sum(not _is_done(upload, context) for upload in uploads)
        if failed:
            raise UploadsFailed(f"{failed} of {len(uploads)}")


def _is_done(upload: Upload, context: Any) -> bool:
    try:
        summarize_upload(
            upload,
            documents=runtime.document_store(),
            model=runtime.chat_model(),
            model_name=runtime.models()[0],
            clock=runtime.now_ms,
            remaining_s=lambda: context.get_remaining_time_in_millis() / 1000,
            tell=lambda outcome: _note(outcome, context.aws_request_id),
        )
    except TurnlogError as error:
        telemetry.note("upload failed", request_id=context.aws_request_id, code=type(error).__name__)
        return False
    except Exception as error:  # noqa: BLE001 (the other records go on, and its text must not be logged)
        telemetry.note("upload failed", request_id=context.aws_request_id, where=telemetry.source_line(error))
        return False
    return True


def _note(outcome: UploadOutcome, request_id: str) -> None:
    reply = outcome.reply
    telemetry.note(
        f"upload {outcome.event}",
        request_id=request_id,
        code=outcome.code,
        model=reply.model if reply else "",
        tokens=reply.usage.tokens if reply else None,
        cost_usd=outcome.cost_usd,
    )


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
                if key.startswith(INBOX) and owner and name and well_formed and len(key.encode()) <= MAX_DOCUMENT_KEY:
                    yield Upload(key, sequencer, version)
