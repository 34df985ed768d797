"""The streaming entry points, one ASGI app: the use cases told as they go, and the Messages API at our own door."""

from turnlog.entrypoints.stream.app import make_app
from turnlog.entrypoints.stream.messages.door import MESSAGES
from turnlog.entrypoints.stream.native import NATIVE

__all__ = ["MESSAGES", "NATIVE", "make_app"]
