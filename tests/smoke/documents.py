"""The check of a document that is put into the bucket and summarized."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from tests.smoke.account import Account, answers
from tests.smoke.api import Api
from tests.smoke.outcome import LeftOut, Unexpected

PATIENCE_S = 60
_PAUSE_S = 1.0
_DOCUMENT = (
    b"Herons nest in colonies near water. They hunt fish in the shallows. Most of them live for about five years."
)
_ABSENT = ("NoSuchKey", "404")


class Documents:
    """A document in the folder of the token's owner. `erase` removes it and its summary, with all their versions."""

    def __init__(
        self,
        api: Api,
        account: Account,
        token: str,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._account = account
        self._token = token
        self._sleep = sleep
        self._monotonic = monotonic
        self._keys: list[str] = []

    def upload(self) -> str:
        """A document is put into the inbox, and its summary comes into the outbox."""
        folder, name = _folder_of(self._token), f"smoke-{secrets.token_hex(4)}.txt"
        inbox, outbox = f"inbox/{folder}/{name}", f"outbox/{folder}/{name}.summary.json"
        bucket, s3 = self._account.bucket, self._account.client("s3")
        began = self._monotonic()
        self._keys = [inbox, outbox]  # before it is put, since the answer may be lost
        try:
            with answers("s3:PutObject under inbox/"):
                s3.put_object(Bucket=bucket, Key=inbox, Body=_DOCUMENT)
        except ClientError as error:
            raise Unexpected(f"the document cannot be put: {error}") from error
        except LeftOut:
            self._keys = []
            raise
        summary = self._wait(bucket, outbox, began + PATIENCE_S)
        if summary["status"] != "done":
            raise Unexpected(f"the summary is {summary['status']} with {summary.get('code')}, not done")
        if not summary.get("text"):
            raise Unexpected("the summary is done without a text")
        return f"a summary after {self._monotonic() - began:.1f} s, {self._api.charge(summary)}"

    def _wait(self, bucket: str, key: str, until: float) -> dict[str, Any]:
        """Waits for a summary that is no longer running."""
        status = "none"
        while self._monotonic() < until:
            found = self._read(bucket, key)
            if found and (status := str(found.get("status"))) != "running":
                return {**found, "status": status}
            self._sleep(_PAUSE_S)
        raise Unexpected(
            f"after {PATIENCE_S} s the summary is {status}: is the key for Claude put in? "
            "The queue of failed events has an event that was given up, and the log has its error"
        )

    def _read(self, bucket: str, key: str) -> dict[str, Any] | None:
        s3 = self._account.client("s3")
        try:
            with answers("s3:GetObject under outbox/"), s3.get_object(Bucket=bucket, Key=key)["Body"] as body:
                parsed = json.loads(body.read())
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return None
            raise Unexpected(f"the summary cannot be read: {error}") from error
        except ValueError as error:
            raise Unexpected("the summary is no JSON") from error
        if not isinstance(parsed, dict):
            raise Unexpected("the summary is no JSON object")
        return parsed

    def erase(self) -> int:
        """Removes every version of what was put. Returns the number of objects. Raises Unexpected if one stays."""
        erased = 0
        for key in self._keys:  # the document first: without it no summary is written
            try:
                with answers("s3:DeleteObjectVersion"):
                    erased += self._erase(key)
            except (LeftOut, ClientError) as error:
                raise Unexpected(f"{key.partition('/')[0]}/ keeps a document of this test: {error}") from error
        self._keys = []
        return erased

    def _erase(self, key: str) -> int:
        bucket, s3 = self._account.bucket, self._account.client("s3")
        found = s3.list_object_versions(Bucket=bucket, Prefix=key)
        versions = [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
        for each in versions:
            s3.delete_object(Bucket=bucket, Key=key, VersionId=each["VersionId"])
        return 1 if versions else 0


def _folder_of(token: str) -> str:
    """The name of the token's owner in keys of the bucket, as docs/api.md says. Raises LeftOut if it is no JWT."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        owner = f"v1|{claims['iss']}|{claims['sub']}"
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise LeftOut("TOKEN is no JWT with iss and sub, so its owner's folder is not known") from error
    return base64.urlsafe_b64encode(hashlib.sha256(owner.encode()).digest()).rstrip(b"=").decode()
