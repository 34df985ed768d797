"""The facts of a request that AWS knows when it checks a role, and MiniStack leaves out.

These are facts about requests. The policies that are checked stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Params = dict[str, Any]
_CONTEXT = "kms:EncryptionContext"


def complete(app: Any, iam_actions: Any, s3: Any) -> None:
    """Makes MiniStack check these facts too; `app`, `iam_actions` and `s3` are its modules of these names."""
    app.pin_request_origin = _over_tls(app.pin_request_origin)
    iam_actions.request_tag_context = _with_encryption_context(iam_actions.request_tag_context)
    objects = iam_actions._s3_batch_delete_targets
    iam_actions.extract_iam_action = _with_versions(iam_actions.extract_iam_action, objects)
    iam_actions.s3_additional_checks = _with_listing(iam_actions.s3_additional_checks, s3)


def _over_tls(pin: Callable[[str, bool], None]) -> Callable[[str, bool], None]:
    """Says aws:SecureTransport of every request: here nothing has TLS, and on AWS the functions use nothing else."""
    return lambda source_ip, _: pin(source_ip, True)


def _with_encryption_context(found: Callable[[str, str, bytes, Params], Params]) -> Callable[..., Params]:
    """Adds the condition keys of a request's encryption context, which are those of KMS."""

    def context(service: str, action: str, body: bytes, params: Params) -> Params:
        keys = found(service, action, body, params)
        return keys | encryption_context(body) if service == "kms" else keys

    return context


def encryption_context(body: bytes) -> Params:
    """Returns the condition keys that KMS takes from a request with this body."""
    try:
        asked = json.loads(body)
    except ValueError:
        return {}
    pairs = asked.get("EncryptionContext") if isinstance(asked, dict) else None
    if not isinstance(pairs, dict) or not pairs:
        return {}
    return {f"{_CONTEXT}:{name}": str(value) for name, value in pairs.items()} | {f"{_CONTEXT}Keys": list(pairs)}


def _with_versions(
    found: Callable[..., str | None], objects: Callable[[str, bytes], list[tuple[str, str]]]
) -> Callable[..., str | None]:
    """Says s3:DeleteObjectVersion for the first object of a DeleteObjects too, if it names a version."""

    def action(service: str, method: str, path: str, headers: Params, body: bytes, params: Params) -> str | None:
        name = found(service, method, path, headers, body, params)
        if name == "s3:DeleteObject" and method == "POST":
            deleted = objects(path.strip("/"), body)
            if deleted and deleted[0][1]:
                return "s3:DeleteObjectVersion"
        return name

    return action


def _with_listing(found: Callable[..., list[tuple[str, str]]], s3: Any) -> Callable[..., list[tuple[str, str]]]:
    """Asks for s3:ListBucket where an object is read that is not there: without it AWS answers 403 and not 404."""

    def checks(method: str, path: str, headers: Params, body: bytes, params: Params) -> list[tuple[str, str]]:
        name, _, key = path.lstrip("/").partition("/")
        bucket = s3._buckets.get(name)
        is_read = method in ("GET", "HEAD") and key != "" and "versionId" not in params
        is_missing = is_read and bucket is not None and key not in bucket["objects"]
        more = [("s3:ListBucket", f"arn:aws:s3:::{name}")] if is_missing else []
        return found(method, path, headers, body, params) + more

    return checks
