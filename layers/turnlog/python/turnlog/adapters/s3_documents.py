"""DocumentStore on an S3 bucket: documents under inbox/, their summaries under outbox/."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from turnlog.domain.documents import INBOX, MAX_DOCUMENT, OUTBOX, Document, SummaryState, Upload, inbox_of
from turnlog.domain.messages import has_foreign_controls, to_json
from turnlog.errors import DocumentRefused, StoreUnavailable, SummaryTaken

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TAKEN = ("PreconditionFailed", "NoSuchKey")
_UNDECIDED = "ConditionalRequestConflict"  # another write of the key is under way, and may fail
_TRIES = 3


class S3DocumentStore:
    """Documents in one bucket.

    Needs s3:GetObject and s3:GetObjectVersion on inbox/*, s3:GetObject and s3:PutObject on outbox/*, and s3:ListBucket,
    without which S3 answers 403 for an object that is not there. To erase an owner it needs only s3:ListBucketVersions,
    and s3:DeleteObjectVersion on both prefixes. An Inbox needs s3:GetObject on inbox/* and s3:ListBucket.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def exists(self, upload: Upload) -> bool:
        version = {"VersionId": upload.version} if upload.version else {}
        try:
            self._client.head_object(Bucket=self._bucket, Key=upload.key, **version)  # type: ignore[arg-type]
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchVersion"):
                return False
            raise StoreUnavailable from error
        except BotoCoreError as error:
            raise StoreUnavailable from error
        return True

    def read_text(self, upload: Upload) -> str:
        version = {"VersionId": upload.version} if upload.version else {}
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=upload.key, **version)  # type: ignore[arg-type]
            with found["Body"] as body:
                size = found["ContentLength"]
                content = body.read() if 0 < size <= MAX_DOCUMENT else b""
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchVersion"):
                raise DocumentRefused("object_gone") from error
            raise StoreUnavailable from error
        except BotoCoreError as error:
            raise StoreUnavailable from error
        if size > MAX_DOCUMENT:
            raise DocumentRefused("object_too_large")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DocumentRefused("object_not_text") from error
        if has_foreign_controls(text):
            raise DocumentRefused("object_not_text")
        if not text.strip():
            raise DocumentRefused("object_empty")
        return text

    def find_summary(self, upload: Upload) -> SummaryState | None:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=upload.summary_key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise StoreUnavailable from error
        except BotoCoreError as error:
            raise StoreUnavailable from error
        until = found["Metadata"].get("until", "")
        return SummaryState(found["ETag"], found["Metadata"].get("sequencer", ""), int(until) if until.isdigit() else 0)

    def put_summary(
        self, upload: Upload, summary: Mapping[str, object], over: SummaryState | None, lease_expires_ms: int = 0
    ) -> SummaryState:
        # S3's ETag is a hash of the body. So no two puts have one body, or the ETag of one would let another pass.
        content = {**summary, "sequencer": upload.sequencer, "try": secrets.token_urlsafe(12)}
        metadata = {"sequencer": upload.sequencer, "until": str(lease_expires_ms)}
        etag = self._put(upload.summary_key, to_json(content).encode(), metadata, over)
        return SummaryState(etag, upload.sequencer, lease_expires_ms)

    def _put(self, key: str, body: bytes, metadata: Mapping[str, str], over: SummaryState | None) -> str:
        condition = {"IfMatch": over.etag} if over else {"IfNoneMatch": "*"}
        for tries_left in reversed(range(_TRIES)):
            try:
                done = self._client.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=body,
                    ContentType="application/json; charset=utf-8",
                    Metadata=metadata,
                    **condition,  # type: ignore[arg-type]
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _TAKEN:
                    raise SummaryTaken from error
                if code != _UNDECIDED or not tries_left:
                    raise StoreUnavailable from error
            except BotoCoreError as error:
                raise StoreUnavailable from error
            else:
                return done["ETag"]
        raise AssertionError  # the last try returned or raised

    def list_documents(self, owner: str) -> list[Document]:
        return [_document(each) for page in self._pages("list_objects_v2", owner) for each in page.get("Contents", [])]

    def list_inbox(self, owner: str, most: int) -> list[Document]:
        try:
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=inbox_of(owner), MaxKeys=most)
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable from error
        return [_document(each) for each in page.get("Contents", [])]

    def erase(self, owner: str) -> int:
        keys: set[str] = set()
        for page in self._pages("list_object_versions", owner):
            held = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if held:
                self._remove([{"Key": each["Key"], "VersionId": each["VersionId"]} for each in held])
                keys |= {each["Key"] for each in held}
        return len(keys)

    def _pages(self, operation: Literal["list_objects_v2", "list_object_versions"], owner: str) -> Iterator[Any]:
        try:
            for prefix in (INBOX, OUTBOX):
                pages: Any = self._client.get_paginator(operation)
                yield from pages.paginate(Bucket=self._bucket, Prefix=f"{prefix}{owner}/")
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable from error

    def _remove(self, objects: list[Any]) -> None:
        try:
            done = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailable from error
        if done.get("Errors"):
            raise StoreUnavailable


def _document(listed: Any) -> Document:
    return Document(listed["Key"], listed["Size"], round(listed["LastModified"].timestamp() * 1000))
