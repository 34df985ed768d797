"""Documents that S3 reports through EventBridge: each takes effect once, however often and in which order it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnlog import runtime
from turnlog.adapters import telemetry
from turnlog.domain.documents import INBOX, Upload
from turnlog.errors import TurnlogError
from turnlog.usecases.summarize_upload import UploadOutcome, summarize_upload


class UploadFailed(Exception):
    """The document was not summarized, for now. There is no message, since Lambda logs what is raised."""


def summarize_uploads(event: Mapping[str, Any], context: Any) -> None:
    """Lambda handler for S3's "Object Created" events, of which EventBridge sends one at a time.

    A document that can never be summarized gets a summary that says why. Any other failure is raised, so that Lambda
    tries the event again and at last sends it to the failure queue. What was done before is not paid for again; what
    another handler is doing is looked at again later.
    """
    upload = _upload(event)
    if upload is None:
        telemetry.note("unknown event", request_id=context.aws_request_id)
    elif not _is_done(upload, context):
        raise UploadFailed


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
        telemetry.note(
            "upload failed", request_id=context.aws_request_id, code=error.code, where=telemetry.source_line(error)
        )
        return False
    except Exception as error:  # noqa: BLE001 (its text must not be logged, as Lambda would)
        telemetry.note("upload failed", request_id=context.aws_request_id, where=runtime.source_line(error))
        return False
    return True


def _note(outcome: UploadOutcome, request_id: str) -> None:
    answer = outcome.answer
    telemetry.note(
        f"upload {outcome.event}",
        request_id=request_id,
        code=outcome.code,
        model=answer.reply.model if answer else "",
        tokens=answer.reply.usage.tokens if answer else None,
        cost_usd=answer.cost_usd if answer else None,
    )


def _upload(event: Mapping[str, Any]) -> Upload | None:
    """The object that the event names; None for an event of another source or form."""
    match event:
        case {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"object": {"key": str(key)} as found},
        }:
            sequencer, version = found.get("sequencer", ""), found.get("version-id")
            owner, _, name = key.removeprefix(INBOX).partition("/")
            well_formed = isinstance(sequencer, str) and isinstance(version, str | None)
            if key.startswith(INBOX) and owner and name and well_formed:
                return Upload(key, sequencer, version)
    return None
