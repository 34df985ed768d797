"""A data key that KMS wrapped for one owner unwraps for that owner alone; whatever KMS says else is told apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, NoCredentialsError
from moto import mock_aws

from turnlog.adapters.kms import KmsWrapper
from turnlog.domain.content_encryption import KEY_BYTES
from turnlog.errors import ItemUnreadable, KeysUnavailable


@pytest.fixture
def wrapper(monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsWrapper]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("kms", region_name="us-east-1")
        yield KmsWrapper(client, client.create_key()["KeyMetadata"]["Arn"])


class Refusing:
    """A client all of whose calls fail."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise self._error

        return call


def refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Decrypt")


def test_a_key_unwraps_for_its_owner(wrapper: KmsWrapper) -> None:
    secret, wrapped = wrapper.new_key("ada")
    assert len(secret) == KEY_BYTES
    assert secret not in wrapped
    assert wrapper.unwrap("ada", wrapped) == secret
    assert wrapper.new_key("ada")[0] != secret


def test_only_its_owner_s_unchanged_key_unwraps(wrapper: KmsWrapper) -> None:
    _, wrapped = wrapper.new_key("ada")
    for owner, given in (("eve", wrapped), ("ada", wrapped[:-1] + bytes([wrapped[-1] ^ 1]))):
        with pytest.raises(ItemUnreadable):
            wrapper.unwrap(owner, given)


@pytest.mark.parametrize(
    "error",
    [
        refusal("AccessDeniedException"),
        refusal("ThrottlingException"),
        refusal("KMSInternalException"),
        refusal("KMSInvalidStateException"),
        refusal("DisabledException"),
        refusal("NotFoundException"),
        ConnectTimeoutError(endpoint_url="https://kms"),
        NoCredentialsError(),
    ],
    ids=lambda error: str(error)[:60],
)
def test_a_service_that_refuses_or_fails_is_not_damage(error: Exception) -> None:
    client: Any = Refusing(error)
    wrapper = KmsWrapper(client, "key")
    with pytest.raises(KeysUnavailable):
        wrapper.new_key("ada")
    with pytest.raises(KeysUnavailable):
        wrapper.unwrap("ada", b"wrapped")
