"""SessionStore on DynamoDB: one item is one turn, and a turn costs one Query and two conditional writes."""

from turnlog.stores.dynamodb.keys import OwnerKeys
from turnlog.stores.dynamodb.kms import KmsWrapper
from turnlog.stores.dynamodb.store import DynamoDBSessionStore

__all__ = ["DynamoDBSessionStore", "KmsWrapper", "OwnerKeys"]
