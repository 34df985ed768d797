"""Errors of the Messages API: an error type, its status, its envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class ApiError(Exception):
    """An answer of the API other than 200. `kind` is one of STATUS_OF; `headers` go with the answer.

    `details` say what kind of error it is to a program.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.status = STATUS_OF[kind]
        self.headers = dict(headers or {})
        self.details = dict(details or {})

    def envelope(self, request_id: str) -> dict[str, Any]:
        """The body of the answer."""
        error = {"type": self.kind, "message": self.message} | ({"details": self.details} if self.details else {})
        return {"type": "error", "error": error, "request_id": request_id}


def invalid(message: str) -> ApiError:
    """The error for a request that is wrong itself."""
    return ApiError("invalid_request_error", message)
