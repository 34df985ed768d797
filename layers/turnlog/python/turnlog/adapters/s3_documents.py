"""Documents that people drop into a bucket, and the summaries laid down for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from turnlog.domain.messages import to_json
from turnlog.errors import StoreUnavailable, TurnlogError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

INBOX, OUTBOX = "inbox/", "outbox/"

MAX_KEY = 1024 - len(OUTBOX) + len(INBOX) - len(".summary.json")
"""Bytes of a document's key, so that its summary's is one that S3 takes (1,024 bytes)."""

_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")

MAX_DOCUMENT = 1024 * 1024
"""Bytes of a document; about 250,000 tokens, a quarter of the models' context."""


class DocumentRefused(TurnlogError):
    """The document can never be summarized; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class SummaryTaken(TurnlogError):
    """Another handler has laid something down at the place of the summary."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One object as S3 reports it: `inbox/<owner>/<name>`. Of two events for a key the higher `sequencer` is newer."""

    key: str
    sequencer: str
    version: str | None = None

    @property
    def summary_key(self) -> str:
        """In another prefix, so that no summary is summarized."""
        return OUTBOX + self.key.removeprefix(INBOX) + ".summary.json"

    def is_newer_than(self, sequencer: str) -> bool:
        """Sequencers compare as text once the shorter is padded with zeros on the right (S3's rule)."""
        width = max(len(self.sequencer), len(sequencer))
        return self.sequencer.ljust(width, "0") > sequencer.ljust(width, "0")


@dataclass(frozen=True, slots=True)
class Document:
    """Something in the bucket, a document or a summary; `size` is in bytes."""

    key: str
    size: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Filed:
    """A summary that lies at its place, or is being made until `until_ms`; 0 once it is whole."""

    etag: str
    sequencer: str
    lease_expires_ms: int

    def makes_room_for(self, upload: Upload, now_ms: int) -> bool:
        """Whether the upload has still to be summarized: it is newer, or the handler that began it has died."""
        return upload.is_newer_than(self.sequencer) or 0 < self.lease_expires_ms < now_ms


class S3DocumentStore:
    """The bucket. Needs s3:GetObject and s3:GetObjectVersion on inbox/*, s3:GetObject and s3:PutObject on outbox/*, and
    s3:ListBucket, without which S3 answers 403 for what is not there, as for what it refuses. To erase an owner it
    needs only s3:ListBucketVersions, and s3:DeleteObjectVersion on both prefixes.

    All methods raise StoreUnavailable when S3 fails or refuses.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def has(self, upload: Upload) -> bool:
        """Whether the document is still there."""
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

    def text(self, upload: Upload) -> str:
        """The document. Raises DocumentRefused when it is gone, empty, too large or not UTF-8."""
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
        if not text.strip():
            raise DocumentRefused("object_empty")
        return text

    def filed(self, upload: Upload) -> Filed | None:
        """What lies at the place of the document's summary; None when there is nothing."""
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=upload.summary_key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return None
            raise StoreUnavailable from error
        except BotoCoreError as error:
            raise StoreUnavailable from error
        until = found["Metadata"].get("until", "")
        return Filed(found["ETag"], found["Metadata"].get("sequencer", ""), int(until) if until.isdigit() else 0)

    def file(
        self, upload: Upload, summary: Mapping[str, object], over: Filed | None, lease_expires_ms: int = 0
    ) -> Filed:
        """Lays the summary down as JSON, in the place of what was seen there; `until_ms` says that it is being made.

        Raises SummaryTaken when something else was laid down meanwhile; then nothing has changed.
        """
        condition = {"IfMatch": over.etag} if over else {"IfNoneMatch": "*"}
        try:
            done = self._client.put_object(
                Bucket=self._bucket,
                Key=upload.summary_key,
                Body=to_json(summary).encode(),
                ContentType="application/json; charset=utf-8",
                Metadata={"sequencer": upload.sequencer, "until": str(lease_expires_ms)},
                **condition,  # type: ignore[arg-type]
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _TAKEN:
                raise SummaryTaken from error
            raise StoreUnavailable from error
        except BotoCoreError as error:
            raise StoreUnavailable from error
        return Filed(done["ETag"], upload.sequencer, lease_expires_ms)

    def of(self, owner: str) -> list[Document]:
        """What lies there of the owner, who is named by owner_hash: documents and summaries."""
        return [
            Document(each["Key"], each["Size"], round(each["LastModified"].timestamp() * 1000))
            for page in self._pages("list_objects_v2", owner)
            for each in page.get("Contents", [])
        ]

    def erase(self, owner: str) -> int:
        """Removes all that lies there of the owner, in every version; says of how many keys. May be repeated."""
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
