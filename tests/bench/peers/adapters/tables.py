"""Makes the table that a store's documentation asks for. Needs boto3, which every environment has."""

from __future__ import annotations

import contextlib
from typing import Any

import boto3


def make_table(name: str, hash_key: str, range_key: str = "", **more: Any) -> None:
    """On demand, all keys texts. The address comes from the environment."""
    keys: list[Any] = [{"AttributeName": hash_key, "KeyType": "HASH"}]
    if range_key:
        keys.append({"AttributeName": range_key, "KeyType": "RANGE"})
    attributes: list[Any] = [{"AttributeName": key["AttributeName"], "AttributeType": "S"} for key in keys]
    attributes += more.pop("attributes", [])
    client = boto3.client("dynamodb")
    with contextlib.suppress(client.exceptions.ResourceInUseException):  # another session of the store made it
        client.create_table(
            TableName=name, KeySchema=keys, AttributeDefinitions=attributes, BillingMode="PAY_PER_REQUEST", **more
        )
