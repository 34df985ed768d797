"""The streaming entry points, one ASGI app: the use cases told as they go, and the Messages API at our own door."""
