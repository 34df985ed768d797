"""Settings by concern, each read from the environment only by who needs it.

Lifetimes and limits have no default here, the template has them; only what a function may lack has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from turnlog.domain.limits import OwnerLimits, SessionLimits
from turnlog.domain.window import WindowPolicy
from turnlog.usecases.policy import AnonymousLimits, SessionLife


def _names(text: object) -> object:
    return tuple(name.strip() for name in text.split(",") if name.strip()) if isinstance(text, str) else text


def _limit(text: object) -> object:
    return None if text in ("", "0") else text


class Settings(BaseModel):
    """A field is read from the environment variable of the same name in capitals."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Raises pydantic's ValidationError, which names the variable, when one is missing or makes no sense."""
        return cls.model_validate({name: environ[name.upper()] for name in cls.model_fields if name.upper() in environ})


class ClaudeSettings(Settings):
    """The way to Claude. In production only over https, and never a stand-in."""

    environment: Literal["production", "local"]
    claude_base_url: str
    claude_key_secret: str

    @model_validator(mode="after")
    def _https_in_production(self) -> Self:
        if self.environment == "production" and not self.claude_base_url.startswith("https://"):
            raise ValueError("CLAUDE_BASE_URL must begin with https:// in production")
        return self

    @property
    def allows_stand_in(self) -> bool:
        return self.environment == "local"


class ModelSettings(Settings):
    """The models that a caller may name; the first answers when none is named."""

    claude_models: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]


class ToolSettings(Settings):
    """The service's own tools that callers may name, Claude's web tools, and the functions in which tools run.

    Each function is `name=function`: its name in Lambda by the one that its tools give it.
    """

    tools: Annotated[tuple[str, ...], BeforeValidator(_names)]
    web_tools: Literal["on", "off"]
    tool_functions: Annotated[tuple[str, ...], BeforeValidator(_names)]

    @property
    def functions(self) -> dict[str, str]:
        return {name: function for name, _, function in (each.partition("=") for each in self.tool_functions)}


class PassingSettings(Settings):
    """The fields and betas that are denied in requests that are passed on to the Messages API.

    A beta may be named without its date, which then is any.
    """

    denied_fields: Annotated[tuple[str, ...], BeforeValidator(_names)]
    denied_betas: Annotated[tuple[str, ...], BeforeValidator(_names)]


class StoreSettings(Settings):
    """The store of sessions and quotas, and the names of its tables or its folder.

    A function that keeps no sessions has only the table of quotas. The template allows `dynamodb` and `hybrid`.
    """

    session_store: Literal["dynamodb", "hybrid", "memory", "filesystem", "write_behind"] = "dynamodb"
    sessions_table: str = ""
    usage_table: str = ""
    sessions_folder: str = ""

    @model_validator(mode="after")
    def _with_folder(self) -> Self:
        if self.session_store in ("filesystem", "write_behind") and not self.sessions_folder:
            raise ValueError(f"SESSION_STORE is {self.session_store}, and needs SESSIONS_FOLDER")
        return self


class ContentSettings(Settings):
    """The switch of content encryption, and the names of the table of owners' keys and of the key that wraps them.

    Without that table, content that was encrypted cannot be read; its sessions can be deleted and swept.
    """

    content_encryption: Literal["on", "off"] = "on"
    keys_table: str = ""
    content_key: str = ""

    @model_validator(mode="after")
    def _with_keys(self) -> Self:
        if self.encrypts and not (self.keys_table and self.content_key):
            raise ValueError("CONTENT_ENCRYPTION is on, and needs KEYS_TABLE and CONTENT_KEY")
        return self

    @property
    def encrypts(self) -> bool:
        return self.content_encryption == "on"


class SessionLifeSettings(Settings):
    """The longest that a signed-in caller's session may live."""

    session_idle_minutes: Annotated[int, Field(ge=2)]
    session_lifetime_hours: Annotated[int, Field(ge=1)]

    @property
    def life(self) -> SessionLife:
        return SessionLife(timedelta(minutes=self.session_idle_minutes), timedelta(hours=self.session_lifetime_hours))


class AnonymousLifeSettings(Settings):
    """The longest that an anonymous session may live."""

    anonymous_idle_minutes: Annotated[int, Field(ge=2)]
    anonymous_lifetime_minutes: Annotated[int, Field(ge=2)]

    @property
    def life(self) -> SessionLife:
        idle = timedelta(minutes=self.anonymous_idle_minutes)
        return SessionLife(idle, timedelta(minutes=self.anonymous_lifetime_minutes))


Limit = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_limit)]
"""A number; 0 or nothing is no limit."""


class SessionLimitSettings(Settings):
    """The limits of one session."""

    session_turns: Limit
    session_tokens: Limit
    session_bytes: Limit
    session_turns_a_minute: Annotated[
        Annotated[int, Field(ge=1, le=WindowPolicy().turns)] | None, BeforeValidator(_limit)
    ]

    @property
    def limits(self) -> SessionLimits:
        return SessionLimits(self.session_turns, self.session_tokens, self.session_bytes, self.session_turns_a_minute)


class OwnerLimitSettings(Settings):
    """The limits of all turns and questions of an owner together."""

    owner_turns_a_minute: Limit
    owner_budget_a_day: Annotated[Annotated[Decimal, Field(gt=0)] | None, BeforeValidator(_limit)]
    owner_budget_unit: Literal["tokens", "usd"]

    @property
    def limits(self) -> OwnerLimits:
        return OwnerLimits(self.owner_turns_a_minute, self.owner_budget_a_day, self.owner_budget_unit)


class OwnerSessionSettings(Settings):
    """The number of sessions that an owner may make in a day."""

    owner_sessions_a_day: Limit


class AnonymousLimitSettings(Settings):
    """The limits of anonymous callers, beside those that hold for everybody. `off`: no anonymous session begins."""

    anonymous_sessions: Literal["on", "off"]
    anonymous_turns: Limit
    anonymous_turns_a_minute: Limit
    anonymous_creations_an_hour: Limit

    @property
    def limits(self) -> AnonymousLimits:
        return AnonymousLimits(
            self.anonymous_sessions == "on",
            self.anonymous_turns,
            self.anonymous_turns_a_minute,
            self.anonymous_creations_an_hour,
        )


class ServerKeySettings(Settings):
    """The secret from which fingerprints are derived."""

    server_key_secret: str


class AuditSettings(Settings):
    """The log group of the audit trail."""

    audit_log_group: Annotated[str, Field(min_length=1)]


class CorsSettings(Settings):
    """The origin whose pages may call the API from a browser. A function that is not told of one is closed to all.

    A page in development has no TLS; only on one machine may it call.
    """

    environment: Literal["production", "local"] = "production"
    cors_origin: Annotated[
        str, Field(pattern=r"^(closed|https://[a-z0-9.-]+(:[0-9]+)?|http://(localhost|127\.0\.0\.1)(:[0-9]+)?)$")
    ] = "closed"

    @model_validator(mode="after")
    def _https_in_production(self) -> Self:
        if self.environment == "production" and self.cors_origin.startswith("http://"):
            raise ValueError("CORS_ORIGIN must begin with https:// in production")
        return self


class DiagnosisSettings(Settings):
    """The place where the function runs. One that is not told runs in production, where no traceback is printed."""

    environment: Literal["production", "local"] = "production"

    @property
    def prints_tracebacks(self) -> bool:
        return self.environment == "local"


class TokenSettings(Settings):
    """The issuer whose tokens are believed, for any of the audiences. Only on one machine may it lack TLS."""

    environment: Literal["production", "local"]
    token_issuer: str
    token_audience: Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]
    token_jwks_url: str
    roles_claim: str

    @model_validator(mode="after")
    def _https_in_production(self) -> Self:
        for name in ("token_issuer", "token_jwks_url"):
            if self.environment == "production" and not getattr(self, name).startswith("https://"):
                raise ValueError(f"{name.upper()} must begin with https:// in production")
            if not getattr(self, name).startswith(("https://", "http://")):
                raise ValueError(f"{name.upper()} must be an address of the web")
        return self


class GatewaySettings(Settings):
    """The seconds for which the gateway waits for an answer."""

    gateway_seconds: Annotated[int, Field(ge=29)]  # MOST_WAIT_S and a cold start must fit


class LambdaSettings(Settings):
    """The two variables that only Lambda sets, where an ASGI app runs behind the Lambda Web Adapter."""

    aws_lambda_function_name: str = ""
    aws_lambda_runtime_api: str = ""

    @property
    def is_behind_adapter(self) -> bool:
        return bool(self.aws_lambda_function_name and self.aws_lambda_runtime_api)


class DocumentSettings(Settings):
    """The bucket of documents and their summaries."""

    documents_bucket: str
