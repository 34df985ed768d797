"""KeyWrapper by AWS KMS: a data key unwraps only with the hash of its owner as encryption context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from turnlog.errors import ItemUnreadable, KeysUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


class KmsWrapper:
    """Wraps under the KMS key `key_id`. Needs kms:GenerateDataKey and kms:Decrypt on it, and no other right."""

    def __init__(self, client: KMSClient, key_id: str) -> None:
        self._client = client
        self._key_id = key_id

    def new_key(self, owner: str) -> tuple[bytes, bytes]:
        """Does KeyWrapper.new_key with one call of GenerateDataKey."""
        try:
            made = self._client.generate_data_key(
                KeyId=self._key_id, KeySpec="AES_256", EncryptionContext={"owner": owner}
            )
        except (ClientError, BotoCoreError) as error:
            raise KeysUnavailable from error
        return made["Plaintext"], made["CiphertextBlob"]

    def unwrap(self, owner: str, wrapped: bytes) -> bytes:
        """Does KeyWrapper.unwrap with one call of Decrypt."""
        try:
            answer = self._client.decrypt(
                KeyId=self._key_id, CiphertextBlob=wrapped, EncryptionContext={"owner": owner}
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == "InvalidCiphertextException":
                raise ItemUnreadable from error
            raise KeysUnavailable from error
        except BotoCoreError as error:
            raise KeysUnavailable from error
        return answer["Plaintext"]
