"""A client of moto's DynamoDB with empty tables like those of the template."""

from __future__ import annotations

import boto3
from mypy_boto3_dynamodb import DynamoDBClient

SESSIONS, USAGE, KEYS = "sessions", "usage", "keys"


def client_of_tables() -> DynamoDBClient:
    """Makes the tables SESSIONS, USAGE and KEYS. To be called under moto's mock."""
    client = boto3.client("dynamodb", region_name="us-east-1", aws_access_key_id="bench", aws_secret_access_key="bench")
    for table in (SESSIONS, USAGE, KEYS):
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
    return client
