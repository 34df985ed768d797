"""MiniStack is told of a request what it needs to check a role as AWS does."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from local import iam_request


@pytest.fixture
def ministack() -> tuple[Any, Any]:
    """Its two modules, as far as they are completed."""
    app = SimpleNamespace(pin_request_origin=lambda ip, is_tls: (ip, is_tls))
    actions = SimpleNamespace(
        request_tag_context=lambda service, action, body, params: {"aws:TagKeys": ["stage"]},
        extract_iam_action=lambda service, method, path, headers, body, params: "s3:DeleteObject",
        _s3_batch_delete_targets=lambda bucket, body: [(f"arn:aws:s3:::{bucket}/a", body.decode())],
        s3_additional_checks=lambda method, path, headers, body, params: [],
    )
    s3 = SimpleNamespace(_buckets={"bucket": {"objects": {"outbox/a": {}}}})
    iam_request.complete(app, actions, s3)
    return app, actions


def test_every_request_counts_as_one_by_tls(ministack: tuple[Any, Any]) -> None:
    app, _ = ministack
    assert app.pin_request_origin("127.0.0.1", False) == ("127.0.0.1", True)


def test_a_request_to_kms_has_the_keys_of_its_encryption_context(ministack: tuple[Any, Any]) -> None:
    _, actions = ministack
    body = json.dumps({"KeyId": "k", "EncryptionContext": {"owner": "abc"}}).encode()
    assert actions.request_tag_context("kms", "kms:Decrypt", body, {}) == {
        "aws:TagKeys": ["stage"],
        "kms:EncryptionContext:owner": "abc",
        "kms:EncryptionContextKeys": ["owner"],
    }
    assert actions.request_tag_context("dynamodb", "dynamodb:PutItem", body, {}) == {"aws:TagKeys": ["stage"]}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"EncryptionContext":{}}', b'{"EncryptionContext":"a"}'])
def test_without_an_encryption_context_its_keys_are_absent(body: bytes) -> None:
    assert iam_request.encryption_context(body) == {}


@pytest.mark.parametrize(
    ("method", "version", "action"), [("POST", "v1", "Version"), ("POST", "", ""), ("DELETE", "v1", "")]
)
def test_deleting_a_version_is_an_action_of_its_own(
    ministack: tuple[Any, Any], method: str, version: str, action: str
) -> None:
    _, actions = ministack
    said = actions.extract_iam_action("s3", method, "/bucket", {}, version.encode(), {})
    assert said == f"s3:DeleteObject{action}"


@pytest.mark.parametrize(
    ("method", "path", "params"),
    [
        ("HEAD", "/bucket/outbox/a", {}),
        ("PUT", "/bucket/outbox/b", {}),
        ("GET", "/bucket/outbox/b", {"versionId": ["1"]}),
        ("GET", "/bucket", {}),
        ("GET", "/no-bucket/outbox/b", {}),
    ],
)
def test_only_a_read_of_a_missing_object_needs_the_right_to_list(
    ministack: tuple[Any, Any], method: str, path: str, params: dict[str, list[str]]
) -> None:
    _, actions = ministack
    assert actions.s3_additional_checks(method, path, {}, b"", params) == []
    missing = actions.s3_additional_checks("HEAD", "/bucket/outbox/b", {}, b"", {})
    assert missing == [("s3:ListBucket", "arn:aws:s3:::bucket")]
