"""The HTTP API as an OpenAPI 3.1 document, put together from what the code says."""

from turnlog.entrypoints.http.openapi.document import document

__all__ = ["document"]
