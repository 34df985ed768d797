"""SessionStore on DynamoDB: one item is one turn, and a turn costs one Query and two conditional writes."""

from turnlog.adapters.dynamodb.data_keys import OwnerKeys
from turnlog.adapters.dynamodb.store import DynamoDBSessionStore

__all__ = ["DynamoDBSessionStore", "OwnerKeys"]
