"""The composition root: the only place where clients are made, each once, when it is first needed.

Tests replace these functions; nothing else in Turnlog knows where a store or a model comes from.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from turnlog.adapters import telemetry
from turnlog.clock import system_clock
from turnlog.config import (
    AnonymousLifeSettings,
    AnonymousLimitSettings,
    AuditSettings,
    ClaudeSettings,
    ContentSettings,
    CorsSettings,
    DiagnosisSettings,
    DocumentSettings,
    GatewaySettings,
    LambdaSettings,
    ModelSettings,
    OwnerLimitSettings,
    OwnerSessionSettings,
    PassingSettings,
    ServerKeySettings,
    SessionLifeSettings,
    SessionLimitSettings,
    StoreSettings,
    TokenSettings,
    ToolSettings,
)
from turnlog.domain.chosen_tools import OfferedTools
from turnlog.domain.limits import DEFAULT_MAX_TOKENS, OwnerLimits
from turnlog.domain.passing.rules import PassingRules
from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionSettings
from turnlog.domain.window import WindowPolicy
from turnlog.errors import SecretUnavailable
from turnlog.ports.audit_trail import AuditTrail
from turnlog.ports.chat_model import ChatModel
from turnlog.ports.document_store import DocumentStore
from turnlog.ports.inbox import Inbox
from turnlog.ports.messages_api import MessagesApi
from turnlog.ports.quota_store import QuotaStore
from turnlog.ports.session_store import SessionStore
from turnlog.ports.token_verifier import TokenVerifier
from turnlog.ports.tool_runner import ToolRunner
from turnlog.usecases.list_sessions import READS_AT_ONCE
from turnlog.usecases.policy import AnonymousLimits, CreationPolicy, SessionLife
from turnlog.usecases.turn_request import TurnPolicy

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from turnlog.adapters.dynamodb import OwnerKeys
    from turnlog.adapters.local.locked_store import LockedSessionStore
    from turnlog.adapters.tool_runner import ThreadToolRunner

_Client = TypeVar("_Client")

_SECRET_AGE_S = 300  # a rotated secret is taken up within five minutes

LEAST_BOTOCORE = (1, 35, 69)
"""Of November 2024: the first that sends a condition with an object that replaces another (If-Match of PutObject)."""


class SdkTooOld(Exception):
    """The botocore of Lambda's runtime is older than LEAST_BOTOCORE, so a promise could not be kept."""


_making_client = threading.Lock()
"""Held while a client is made, since tools make theirs in threads and boto3 makes one at a time (its documentation)."""

now_ms = system_clock
sleep = time.sleep


def load_claude() -> None:
    """Imports the SDK, which is most of a cold start, and does nothing else.

    Functions that ask Claude call this while they are loaded: there Lambda gives a full processor, SnapStart keeps the
    result, and the first request's time budget is not spent on it.
    """
    import turnlog.adapters.claude  # noqa: F401


@cache
def models() -> tuple[str, ...]:
    """The models that a caller may name; the first one answers when none is named."""
    return ModelSettings.read(os.environ).claude_models


@cache
def cors_origin() -> str | None:
    """The origin whose pages may call the API; None when no page may."""
    origin = CorsSettings.read(os.environ).cors_origin
    return None if origin == "closed" else origin


def source_line(error: BaseException) -> str:
    """The kind and place of an unexpected error, for the log; on a developer's machine its traceback is printed too."""
    if DiagnosisSettings.read(os.environ).prints_tracebacks:
        telemetry.print_traceback(error)
    return telemetry.source_line(error)


@cache
def gateway_s() -> int:
    """The seconds for which the gateway waits for an answer."""
    return GatewaySettings.read(os.environ).gateway_seconds


@cache
def is_behind_adapter() -> bool:
    """True if the Lambda Web Adapter hands over the requests, and with them who calls, as the gateway verified it."""
    return LambdaSettings.read(os.environ).is_behind_adapter


@cache
def session_life() -> SessionLife:
    return SessionLifeSettings.read(os.environ).life


@cache
def anonymous_life() -> SessionLife:
    return AnonymousLifeSettings.read(os.environ).life


@cache
def anonymous_limits() -> AnonymousLimits:
    return AnonymousLimitSettings.read(os.environ).limits


@cache
def owner_limits() -> OwnerLimits:
    """The limits of an owner, without the one on new sessions, which only functions that make sessions are told."""
    return OwnerLimitSettings.read(os.environ).limits


@cache
def turn_policy() -> TurnPolicy:
    return TurnPolicy(
        session=SessionLimitSettings.read(os.environ).limits,
        owner=replace(owner_limits(), sessions_a_day=OwnerSessionSettings.read(os.environ).owner_sessions_a_day),
        reads_cached=StoreSettings.read(os.environ).session_store == "hybrid",
    )


def creation_policy() -> CreationPolicy:
    """The rules of sessions that verified callers make."""
    policy = turn_policy()
    return CreationPolicy(_default_settings(), session_life(), policy.owner, anonymous_limits(), policy.window)


def anonymous_creation_policy() -> CreationPolicy:
    """The rules of sessions that strangers make."""
    return CreationPolicy(_default_settings(), anonymous_life(), OwnerLimits(), anonymous_limits(), WindowPolicy())


def _default_settings() -> SessionSettings:
    return SessionSettings(models()[0], DEFAULT_MAX_TOKENS)


@cache
def chat_model() -> ChatModel:
    from turnlog.adapters.claude import Claude

    return _of_provider(Claude)


@cache
def messages_api() -> MessagesApi:
    """The provider's API, for requests that are passed on."""
    from turnlog.adapters.messages_api import HttpMessagesApi

    return _of_provider(HttpMessagesApi)


def _of_provider(make: Callable[..., _Client]) -> _Client:
    telemetry.silence_libraries()
    settings = ClaudeSettings.read(os.environ)
    return make(
        settings.claude_base_url,
        partial(secret, settings.claude_key_secret),
        allows_stand_in=settings.allows_stand_in,
        note_call=partial(telemetry.note, "model call"),
    )


@cache
def passing_rules() -> PassingRules:
    """The rules for requests that are passed on."""
    settings = PassingSettings.read(os.environ)
    web = ToolSettings.read(os.environ).web_tools == "on"
    return PassingRules(models(), web, frozenset(settings.denied_fields), settings.denied_betas)


@cache
def tool_runner() -> ToolRunner:
    """The runner of the tools that the deployment offers."""
    return _thread_tool_runner()


@cache
def offered_tools() -> OfferedTools:
    """The tools that callers may name."""
    return OfferedTools(_thread_tool_runner().definitions(), web=ToolSettings.read(os.environ).web_tools == "on")


@cache
def _thread_tool_runner() -> ThreadToolRunner:
    from turnlog.adapters.lambda_tools import LambdaTools
    from turnlog.adapters.tool_runner import ThreadToolRunner
    from turnlog.tools import tools_named

    settings = ToolSettings.read(os.environ)
    # Once: a call that was begun may go on. The time is that of no tool: the runner gives up before.
    remote = LambdaTools(lambda: _client("lambda", read_timeout_s=20), settings.functions)
    return ThreadToolRunner(tools_named(settings.tools), remote, _tell_of_tool, now_ms)


def _tell_of_tool(name: str, error: BaseException) -> None:
    telemetry.note("tool failed", code=name, where=source_line(error))


@cache
def session_store() -> SessionStore:
    """The store that SESSION_STORE names."""
    if local := _local_store():
        return local
    from turnlog.adapters.dynamodb import DynamoDBSessionStore

    settings = StoreSettings.read(os.environ)
    is_hybrid = settings.session_store == "hybrid"
    tables = settings.sessions_table, settings.usage_table
    # Four tries of a call and the pauses between them take 9 s at the worst; two fit into the reserve of a commit.
    client = _client("dynamodb", read_timeout_s=1)
    durable = DynamoDBSessionStore(client, *tables, keys=_owner_keys(client), eventual=is_hybrid)
    if not is_hybrid:
        return durable
    from turnlog.adapters.read_cache import CachedSessionStore

    return CachedSessionStore(durable)


@cache
def _local_store() -> LockedSessionStore | None:
    """The store of sessions and quotas that SESSION_STORE names, if it needs no table."""
    settings = StoreSettings.read(os.environ)
    match settings.session_store:
        case "memory":
            from turnlog.adapters.local.memory import MemorySessionStore

            return MemorySessionStore()
        case "filesystem":
            from turnlog.adapters.local.files import FileSessionStore

            return FileSessionStore(Path(settings.sessions_folder))
        case "write_behind":
            from turnlog.adapters.local.files.write_behind import WriteBehindSessionStore

            store = WriteBehindSessionStore(Path(settings.sessions_folder))
            atexit.register(store.close)
            return store
    return None


def _owner_keys(client: DynamoDBClient) -> OwnerKeys | None:
    from turnlog.adapters.dynamodb import OwnerKeys
    from turnlog.adapters.kms import KmsWrapper

    settings = ContentSettings.read(os.environ)
    if not settings.keys_table:
        return None
    wrapper = KmsWrapper(_client("kms", attempts=3, read_timeout_s=1), settings.content_key)
    return OwnerKeys(client, settings.keys_table, wrapper, now_ms, encrypts=settings.encrypts)


@cache
def quota_store() -> QuotaStore:
    """The counters that `session_store` charges, for functions that may have no right to sessions."""
    if local := _local_store():
        return local
    from turnlog.adapters.dynamodb.quotas import DynamoDBQuotaStore

    return DynamoDBQuotaStore(_client("dynamodb", read_timeout_s=1), StoreSettings.read(os.environ).usage_table)


@cache
def server_key() -> ServerKey:
    return ServerKey(secret(ServerKeySettings.read(os.environ).server_key_secret))


@cache
def audit_trail() -> AuditTrail:
    from turnlog.adapters.cloudwatch_audit import CloudWatchAuditTrail

    # At worst 4 s, which a request has left before its function or the gateway gives up.
    client = _client("logs", attempts=2, read_timeout_s=1)
    return CloudWatchAuditTrail(client, AuditSettings.read(os.environ).audit_log_group, now_ms)


@cache
def token_verifier() -> TokenVerifier:
    from turnlog.adapters.jwt_tokens import JwtVerifier

    settings = TokenSettings.read(os.environ)
    return JwtVerifier(
        settings.token_issuer,
        settings.token_audience,
        settings.token_jwks_url,
        roles_claim=settings.roles_claim,
    )


@cache
def document_store() -> DocumentStore:
    from turnlog.adapters.s3_documents import S3DocumentStore

    return S3DocumentStore(_client("s3", attempts=4), DocumentSettings.read(os.environ).documents_bucket)


@cache
def inbox() -> Inbox:
    """The documents that people upload, for tools that read them."""
    from turnlog.adapters.s3_documents import S3DocumentStore

    # At worst 7 s, within the time of a tool.
    return S3DocumentStore(
        _client("s3", attempts=2, read_timeout_s=2), DocumentSettings.read(os.environ).documents_bucket
    )


def secret(name: str, *, renewed: bool = False) -> str:
    """A secret's value, kept for five minutes unless it is to be `renewed`. Raises SecretUnavailable."""
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    try:
        # A secret that was put in from a file ends with a line end, which no header may hold.
        return str(_secrets().get(name, max_age=_SECRET_AGE_S, force_fetch=renewed)).strip()
    except GetParameterError as error:
        raise SecretUnavailable from error


@cache
def _secrets() -> Any:
    from aws_lambda_powertools.utilities.parameters import SecretsProvider

    return SecretsProvider(boto3_client=_client("secretsmanager", attempts=3))


@cache
def _client(service: str, attempts: int = 1, read_timeout_s: int = 3) -> Any:
    """A client whose calls end soon, since a request has no time to wait for a socket. Raises SdkTooOld."""
    import boto3
    import botocore
    from botocore.config import Config

    if tuple(map(int, botocore.__version__.split(".")[:3])) < LEAST_BOTOCORE:
        raise SdkTooOld(botocore.__version__)
    telemetry.silence_libraries()
    config = Config(
        max_pool_connections=READS_AT_ONCE,
        connect_timeout=1,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        tcp_keepalive=True,
    )
    with _making_client:
        return boto3.client(service, config=config)  # type: ignore[call-overload] # the name is a variable
