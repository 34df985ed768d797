"""Notes of the calls of the provider, for the log."""

from __future__ import annotations

from typing import Protocol


class NoteCall(Protocol):
    """Notes one HTTP call of the provider, also one that failed, for the log.

    `provider_request_id` is what the provider's support asks for, `status` that of HTTP, and `code` that of the error.
    `first_event_ms` is the time to the first event of a stream. The rest is how much the provider says is left of its
    rate limits. Fields that are not known are empty.
    """

    def __call__(
        self,
        *,
        model: str,
        ms: int,
        provider_request_id: str,
        status: int | None = None,
        code: str = "",
        first_event_ms: int | None = None,
        requests_left: int | None = None,
        input_tokens_left: int | None = None,
        output_tokens_left: int | None = None,
    ) -> None: ...


def note_nothing(**_: object) -> None:
    """A NoteCall for those who keep no log."""
