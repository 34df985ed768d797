"""The composition root: the only place where clients are made, each once, when it is first needed.

Tests replace these functions; nothing else in Turnlog knows where a store or a model comes from.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from turnlog.clock import system_clock
from turnlog.config import (
    ClaudeSettings,
    DocumentSettings,
    ModelSettings,
    ServerKeySettings,
    SessionLimits,
    TokenSettings,
)
from turnlog.crypto import ServerKey
from turnlog.errors import SecretUnavailable
from turnlog.model import ChatModel
from turnlog.sessions import SessionStore
from turnlog.window import WindowPolicy

if TYPE_CHECKING:
    from turnlog.documents import DocumentStore
    from turnlog.tokens import TokenVerifier

_SECRET_AGE_S = 300  # a rotated secret is taken up within five minutes

now_ms = system_clock
window_policy = WindowPolicy()


def load_claude() -> None:
    """Imports the SDK, which is most of a cold start, and does nothing else.

    Functions that ask Claude call this while they are loaded: there Lambda gives a full processor, SnapStart keeps the
    result, and the first request's time budget is not spent on it.
    """
    import turnlog.claude  # noqa: F401


@cache
def model_settings() -> ModelSettings:
    return ModelSettings.read(os.environ)


@cache
def session_limits() -> SessionLimits:
    return SessionLimits.read(os.environ)


@cache
def chat_model() -> ChatModel:
    from turnlog.claude import Claude

    settings = ClaudeSettings.read(os.environ)
    return Claude(
        settings.claude_base_url,
        lambda: secret(settings.claude_key_secret),
        allows_stand_in=settings.allows_stand_in,
    )


@cache
def session_store() -> SessionStore:
    settings = session_limits()
    if settings.session_store == "memory":
        from turnlog.stores.memory import MemorySessionStore

        return MemorySessionStore()
    from turnlog.stores.dynamodb import DynamoDBSessionStore

    return DynamoDBSessionStore(_client("dynamodb"), settings.sessions_table)


@cache
def server_key() -> ServerKey:
    return ServerKey(secret(ServerKeySettings.read(os.environ).server_key_secret))


@cache
def token_verifier() -> TokenVerifier:
    from turnlog.tokens import TokenVerifier

    settings = TokenSettings.read(os.environ)
    return TokenVerifier(settings.token_issuer, settings.token_audience, settings.token_jwks_url)


@cache
def documents() -> DocumentStore:
    from turnlog.documents import DocumentStore

    return DocumentStore(_client("s3"), DocumentSettings.read(os.environ).documents_bucket)


def secret(name: str) -> str:
    """A secret's value, kept for five minutes. Raises SecretUnavailable."""
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    try:
        return str(_secrets().get(name, max_age=_SECRET_AGE_S))
    except GetParameterError as error:
        raise SecretUnavailable from error


@cache
def _secrets() -> Any:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

    return SecretsProvider(boto3_client=_client("secretsmanager", attempts=3))


def _client(service: str, attempts: int = 1) -> Any:
    """A client whose calls end soon, since a request has no time to wait for a socket."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=1,
        read_timeout=3,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        tcp_keepalive=True,
    )
    return boto3.client(service, config=config)  # type: ignore[call-overload] # the name is a variable
