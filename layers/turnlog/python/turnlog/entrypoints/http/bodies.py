"""The bodies of requests. One model for each: what is checked and the API's document both come from it."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from turnlog import runtime
from turnlog.domain.blocks.reading import read_message
from turnlog.domain.chosen_tools import MOST_TOOLS, ChosenTools, resolve_tools
from turnlog.domain.limits import DEFAULT_MAX_TOKENS
from turnlog.domain.messages import Message, has_foreign_controls, to_json
from turnlog.domain.output.schemas import OutputSchema, read_output_schema
from turnlog.domain.sessions import Metadata as Pairs
from turnlog.entrypoints.http.fields import described
from turnlog.entrypoints.http.message_schema import message_schema
from turnlog.entrypoints.http.model_settings import CacheTime, EffortLevel, Thinking
from turnlog.entrypoints.http.request import MAX_BODY, MAX_MEDIA_BODY, Body
from turnlog.errors import InvalidRequest, ValueRefused

LONGEST_REPLY = 128_000
"""The most tokens of a reply of any model; a model's own number may be smaller."""

MOST_BUFFERED_TOKENS = 16_000
"""More would rarely be written while the gateway waits for a whole answer."""

SHORTEST_IDLE_S = 120
"""Longer than a lease and the 20 s between two renewals of it, or a session could end under its own turn."""

MOST_METADATA, MOST_METADATA_TEXT = 16, 512
"""Pairs of a session, and the characters of a value. A list of 100 sessions with all of them fits into an answer."""

_METADATA_NAME = "^[A-Za-z0-9_.-]{1,64}$"
_JOINERS = dict.fromkeys((0x200C, 0x200D))  # which spell words in Persian and Indic scripts, and join emoji


def _plain_text(text: str) -> str:
    if has_foreign_controls(text):
        raise PydanticCustomError("control_character", "control character")
    return text


def _is_one_line(text: str) -> bool:
    # Cf holds the bidirectional overrides and zero-width characters, which make a title read as another.
    plain = text.translate(_JOINERS)
    return not any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in plain)


def _one_line(text: str) -> str:
    if not _is_one_line(text):
        raise PydanticCustomError("control_character", "control character")
    return text


def _empty_if_blank(text: str) -> str:
    """Returns the text, or "" for a blank one: the provider takes no blank system prompt, and none means the same."""
    return text if text.strip() else ""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("value_blank", "blank")
    return text


def _message(value: object) -> Message:
    return read_message(value)


def _question(value: object) -> Message:
    """Reads a message without results of tools: no model has called one before it."""
    return read_message(value, with_results=False)


def _tools(value: object) -> ChosenTools:
    """Reads a list of tools. Raises InvalidRequest at the first that cannot be sent."""
    if not isinstance(value, list):
        raise PydanticCustomError("wrong_type", "no list")
    return resolve_tools(value, runtime.offered_tools())


def _output(value: object) -> OutputSchema:
    form = read_output_schema(value)
    return OutputSchema(to_json(value), form)


def _metadata(value: object) -> dict[str, str]:
    """Reads an object of texts, by name. A name is the caller's text, so only its number is said."""
    if not isinstance(value, dict):
        raise InvalidRequest("wrong_type", "/metadata")
    if len(value) > MOST_METADATA:
        raise ValueRefused("metadata_range", "/metadata", {"max_length": MOST_METADATA})
    for number, (name, text) in enumerate(value.items(), start=1):
        if not isinstance(text, str):
            raise InvalidRequest("wrong_type", "/metadata", {"field": number})
        if not re.fullmatch(_METADATA_NAME, name):
            raise ValueRefused("metadata_range", "/metadata", {"pattern": _METADATA_NAME, "field": number})
        if len(text) > MOST_METADATA_TEXT:
            raise ValueRefused("metadata_range", "/metadata", {"max_length": MOST_METADATA_TEXT, "field": number})
        if not _is_one_line(text):
            raise InvalidRequest("control_character", "/metadata", {"field": number})
    return dict(sorted(value.items()))


def _offered_model(name: str) -> str:
    allowed = runtime.models()
    if name not in allowed:
        raise PydanticCustomError("model_unknown", "unknown model", {"allowed": list(allowed)})
    return name


_LONG = {"maxLength": MAX_BODY}  # for readers: no longer text can arrive

_QUESTION = (
    "A string, or a list of blocks as Claude's API has them. No text is blank or has control characters but tab, line "
    "ends, form feed and escape. Images and PDFs come as base64; nothing is fetched."
)
Question = Annotated[
    Any,
    BeforeValidator(_question),
    WithJsonSchema(message_schema(with_results=False)),
    described(_QUESTION),
]
_TURN = f"{_QUESTION} Results of tools come first."
TurnMessage = Annotated[
    Any, BeforeValidator(_message), WithJsonSchema(message_schema(with_results=True)), described(_TURN)
]
SystemPrompt = Annotated[
    str,
    AfterValidator(_plain_text),
    AfterValidator(_empty_if_blank),
    described("The system prompt: instructions for the model before the conversation.", **_LONG),
]
_FROM_HERE_ON = (
    "Instructions that hold from this turn on, in the place of those before, so say all that is to hold. What was sent "
    "before stays in the provider's cache, but for models before Opus 4.8 and on Amazon Bedrock."
)
_MODEL = "One of the deployment's models; the first of them when it is left out."
ModelName = Annotated[str, AfterValidator(_offered_model), described(_MODEL, **_LONG)]
_MOST = "The most tokens of a reply"
MaxTokens = Annotated[int, Field(ge=1, le=LONGEST_REPLY), described(f"{_MOST}, of which a model may have fewer.")]
BufferedTokens = Annotated[int, Field(ge=1, le=MOST_BUFFERED_TOKENS), described(f"{_MOST}; a stream may be longer.")]
StopSequence = Annotated[str, Field(max_length=100), AfterValidator(_plain_text), AfterValidator(_not_blank)]
_STOPS = "Texts at which the reply ends, none of them blank."
StopSequences = Annotated[tuple[StopSequence, ...], Field(max_length=8), FailFast(), described(_STOPS)]
_CLIENT_TOOL = {
    "type": "object",
    "required": ["name", "input_schema"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": {"type": "string", "maxLength": 10_000},
        "input_schema": {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"const": "object"}},
            "additionalProperties": True,
        },
        "strict": {"type": "boolean"},
        "type": {"const": "custom"},
    },
    "additionalProperties": False,
}
_DOMAINS = {"type": "array", "minItems": 1, "maxItems": 50, "items": {"type": "string", "maxLength": 255}}
_WEB_TOOL = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["web_search", "web_fetch"]},
        "max_uses": {"type": "number", "multipleOf": 1, "minimum": 1, "maximum": 10},
        "allowed_domains": _DOMAINS,
        "blocked_domains": _DOMAINS,
    },
    "additionalProperties": False,
}
_TOOL = {"oneOf": [{"type": "string", "maxLength": 64}, _CLIENT_TOOL, _WEB_TOOL]}
_TOOLS = {"type": "array", "maxItems": MOST_TOOLS, "items": _TOOL}
_OFFERED = (
    "The tools that the model may use: names of the deployment's own, which run here; tools of the caller's with their "
    "schemas, for which the reply ends with `tool_use`; or Claude's web tools, where the deployment allows them."
)
Tools = Annotated[Annotated[Any, BeforeValidator(_tools), WithJsonSchema(_TOOLS)] | None, described(_OFFERED)]
_CHOICE = "`auto`, which is the default, lets the model decide; with `none` it uses no tool."
ToolChoice = Annotated[str, Field(pattern="^(auto|none)$"), described(_CHOICE)]
_OUTPUT = (
    "A JSON schema of an object, which the reply must be: it comes as `output`, too. Objects are closed, and a schema "
    "refers to its own definitions alone, none of them to itself."
)
_OBJECT = {"type": "object", "additionalProperties": True}
Output = Annotated[Annotated[Any, BeforeValidator(_output), WithJsonSchema(_OBJECT)] | None, described(_OUTPUT)]
_HASH = "SHA-256 of the 43 characters of the secret, in lower-case hexadecimal."
SecretHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$"), described(_HASH)]
_SECRET = "The anonymous session's secret: 256 random bits as base64url."  # noqa: S105
Secret = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$"), described(_SECRET)]
TurnNumber = Annotated[int, Field(ge=1, le=999_999_999)]
Title = Annotated[str, Field(max_length=200), AfterValidator(_one_line), described("The session's title, one line.")]
_METADATA = {
    "type": "object",
    "maxProperties": MOST_METADATA,
    "propertyNames": {"pattern": _METADATA_NAME},
    "additionalProperties": {"type": "string", "maxLength": MOST_METADATA_TEXT},
}
_PAIRS = "The caller's own names and values, such as the id of a case; each value is one line."
Metadata = Annotated[dict[str, str], BeforeValidator(_metadata), WithJsonSchema(_METADATA), described(_PAIRS)]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=10, max_length=500),
    AfterValidator(_one_line),
    described("The reason for the request, in one line for people."),
]
Seconds = Annotated[int, Field(ge=SHORTEST_IDLE_S)]
_AT_MOST = "at which the session ends; at most the deployment's own, which also holds when it is left out."


class SingleTurnBody(Body):
    """The question to a single-turn function."""

    most_bytes: ClassVar[int] = MAX_MEDIA_BODY

    message: Question
    model: ModelName | None = None
    max_tokens: BufferedTokens = DEFAULT_MAX_TOKENS


class QueryBody(SingleTurnBody):
    """The question to /query: the caller brings the system prompt."""

    system: SystemPrompt = ""
    stop_sequences: StopSequences = ()
    thinking: Thinking | None = None
    effort: EffortLevel | None = None
    tools: Tools = None
    tool_choice: ToolChoice | None = None
    output: Output = None
    continuable: Annotated[bool, described("True asks for a `continuation` beside the reply.")] = False


class StreamedDocumentBody(SingleTurnBody):
    """A document whose answer comes as a stream, and may be longer."""

    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS


class StreamedQueryBody(QueryBody):
    """The question to /query/stream, whose reply may be longer."""

    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS


class SessionBody(Body):
    """The settings of a new session; each may be left out."""

    system: SystemPrompt = ""
    model: ModelName | None = None
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS
    stop_sequences: StopSequences = ()
    thinking: Thinking | None = None
    effort: EffortLevel | None = None
    output: Output = None
    cache: CacheTime = "5m"
    title: Title = ""
    idle_timeout_s: Annotated[Seconds | None, described(f"Seconds after its last turn {_AT_MOST}")] = None
    lifetime_s: Annotated[Seconds | None, described(f"Seconds after its creation {_AT_MOST}")] = None
    metadata: Metadata = {}  # noqa: RUF012 (pydantic copies it)


class NewSessionBody(SessionBody):
    """A new session, which may begin with a question that was asked already and brings its own settings."""

    tools: Tools = None
    tool_choice: ToolChoice | None = None
    continuation: Annotated[str, described("That of a reply to /query, which becomes the first turn.", **_LONG)] = ""


class NewAnonymousSessionBody(SessionBody):
    """A new session whose owner is known by the hash of a secret."""

    secret_sha256: SecretHash


class SessionChangesBody(Body):
    """The parts of a session that may change, at least one; the metadata that is given replaces all there is."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    title: Title = ""
    metadata: Metadata = {}  # noqa: RUF012 (pydantic copies it)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.model_fields_set:
            raise InvalidRequest("field_missing", "", {"allowed": list(type(self).model_fields)})
        return self


class TurnBody(Body):
    """The caller's next message."""

    most_bytes: ClassVar[int] = MAX_MEDIA_BODY

    message: TurnMessage
    system: Annotated[SystemPrompt, described(_FROM_HERE_ON, **_LONG)] = ""
    turn: Annotated[TurnNumber | None, described("The number that the caller expects the turn to get.")] = None


class NewSecretBody(Body):
    """The hash of the secret by which an anonymous session's owner will be known from now on."""

    secret_sha256: SecretHash


class ClaimBody(Body):
    """The proof of a right to an anonymous session."""

    secret: Secret


class ForkBody(Body):
    """The turn up to which a new session has the turns of the old one, and the model with which it goes on."""

    turn: Annotated[TurnNumber, described("The number of the last turn that both sessions have.")]
    model: Annotated[ModelName | None, described("Another of the deployment's models, instead of the session's.")] = (
        None
    )


class ReasonBody(Body):
    """The reason for a look at somebody else's session."""

    reason: Reason


def chosen_model(name: str | None) -> str:
    """Returns the model that was asked for, or the first one on offer."""
    return name or runtime.models()[0]


def metadata_pairs(metadata: dict[str, str]) -> Pairs:
    """Returns the metadata of a body as sessions have it."""
    return tuple(metadata.items())
