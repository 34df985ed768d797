"""The MessagesApi port: a request to the Messages API as a client made it, and the answer as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

ApiPath = Literal["messages", "messages/count_tokens"]


@dataclass(frozen=True, slots=True)
class PassedRequest:
    """A request as it goes on: the client's own body, to the byte, and those of its headers that may go with it.

    `query` is what follows the question mark, "" without one. `model` is for the log. No header brings a credential.
    """

    path: ApiPath
    body: bytes
    model: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = ""


class PassedAnswer(Protocol):
    """The answer to one request: its status, those of its headers that may go back, and its body."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by their names in lower case."""

    def chunks(self) -> Iterator[bytes]:
        """Yields the body as it comes. Raises ModelTimeout or ModelFailed when it does not come to its end."""


class MessagesApi(Protocol):
    """The provider's own API, asked with the service's key. Nothing is tried again, except with a renewed key."""

    def send(self, request: PassedRequest, seconds: float) -> AbstractContextManager[PassedAnswer]:
        """Sends the request. Returns a context of the answer, which ends within about `seconds` from now.

        The provider's errors are answers too. Raises ModelUnavailable when nothing was sent, ModelTimeout or
        ModelFailed when it is not known what came of it, ModelAccessDenied when the service's key is refused, and
        ModelRejected for an answer that is none of the API's.
        """
