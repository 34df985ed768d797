"""The shapes on the wire: what requests may say and what replies look like, the same names everywhere."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, FailFast, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from turnlog import runtime
from turnlog.clock import rfc3339
from turnlog.domain.limits import DEFAULT_MAX_TOKENS
from turnlog.domain.messages import Message, Reply, to_json
from turnlog.domain.sessions import SessionView
from turnlog.domain.turns import Turn
from turnlog.entrypoints.http.request import Body
from turnlog.usecases.turn_protocol import TakenTurn

MOST_MAX_TOKENS = 16_000
"""More would rarely be written within the gateway's 29 s, nor surely fit into an item beside its message."""

_SHORTEST_IDLE_S = 120  # must outlast a turn's lease of up to 65 s, or a session could end while its turn runs
_SOON_MS = 5 * 60 * 1000
_EXPIRES_SOON = "The session ends soon, whatever happens. A fork of it goes on."
_IDLE_EXPIRES_SOON = "The session ends soon unless another turn begins."
_PLAIN_CONTROLS = "\t\n\r"
_JOINERS = dict.fromkeys((0x200C, 0x200D))  # which spell words in Persian and Indic scripts, and join emoji


def _plain_text(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" and character not in _PLAIN_CONTROLS for character in text):
        raise PydanticCustomError("control_character", "control character")
    return text


def _one_line(text: str) -> str:
    # Cf holds the bidirectional overrides and zero-width characters, which make a title read as another.
    plain = text.translate(_JOINERS)
    if any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp") for character in plain):
        raise PydanticCustomError("control_character", "control character")
    return text


def _nothing_if_blank(text: str) -> str:
    """The provider takes no blank system prompt, and none means the same."""
    return text if text.strip() else ""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("value_blank", "blank")
    return text


def _message(value: object) -> Message:
    """A string, or a list of text blocks."""
    if isinstance(value, str):
        texts = [value]
    elif isinstance(value, list) and all(isinstance(block, dict) for block in value):
        if any(set(block) - {"type", "text"} for block in value):
            raise PydanticCustomError("unknown_field", "unknown field", {"allowed": ["type", "text"]})
        if any(block.get("type") != "text" or not isinstance(block.get("text"), str) for block in value):
            raise PydanticCustomError("wrong_type", "wrong type")
        texts = [block["text"] for block in value]
    else:
        raise PydanticCustomError("wrong_type", "wrong type")
    for text in texts:
        _plain_text(text)
    if not texts or not all(text.strip() for text in texts):
        raise PydanticCustomError("message_empty", "empty message")
    return Message("user", to_json([{"type": "text", "text": text} for text in texts]))


def _offered_model(name: str) -> str:
    allowed = runtime.models()
    if name not in allowed:
        raise PydanticCustomError("model_unknown", "unknown model", {"allowed": list(allowed)})
    return name


_TEXT_BLOCK = {
    "type": "object",
    "required": ["type", "text"],
    "properties": {"type": {"const": "text"}, "text": {"type": "string", "minLength": 1}},
    "additionalProperties": False,
}
_MESSAGE = {"oneOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": _TEXT_BLOCK}]}

Asked = Annotated[Any, BeforeValidator(_message), WithJsonSchema(_MESSAGE)]
SystemPrompt = Annotated[str, AfterValidator(_plain_text), AfterValidator(_nothing_if_blank)]
ModelName = Annotated[str, AfterValidator(_offered_model)]
StopSequence = Annotated[str, Field(max_length=100), AfterValidator(_plain_text), AfterValidator(_not_blank)]
SecretHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Secret = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
TurnNumber = Annotated[int, Field(ge=1, le=999_999_999)]
Title = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=10, max_length=500), AfterValidator(_one_line)
]
MaxTokens = Annotated[int, Field(ge=1, le=MOST_MAX_TOKENS)]


class SingleTurnBody(Body):
    """What a single-turn function is asked."""

    message: Asked
    model: ModelName | None = None
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS


class QueryBody(SingleTurnBody):
    """What /query is asked: the caller brings the system prompt."""

    system: SystemPrompt = ""
    stop_sequences: Annotated[tuple[StopSequence, ...], Field(max_length=8), FailFast()] = ()
    continuable: bool = False


class SessionBody(Body):
    """What any session is created with; all of it may be left out."""

    system: SystemPrompt = ""
    model: ModelName | None = None
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS
    title: Title = ""
    idle_timeout_s: Annotated[int, Field(ge=_SHORTEST_IDLE_S)] | None = None
    lifetime_s: Annotated[int, Field(ge=_SHORTEST_IDLE_S)] | None = None


class NewSessionBody(SessionBody):
    """The same, or the question that becomes its first turn, which brings what it was asked with."""

    continuation: str = ""


class NewAnonymousSessionBody(SessionBody):
    """The same, and by what its owner will be known: the hash of the secret."""

    secret_sha256: SecretHash


class TitleBody(Body):
    """The one thing of a session that may change."""

    title: Title


class TurnBody(Body):
    """What a turn says. `turn` is the number that the caller expects it to get."""

    message: Asked
    turn: TurnNumber | None = None


class NewSecretBody(Body):
    """By what an anonymous session's owner will be known from now on."""

    secret_sha256: SecretHash


class ClaimBody(Body):
    """What proves the right to an anonymous session."""

    secret: Secret


class ForkBody(Body):
    """Which turn is the last that the new session shares with the old one."""

    turn: TurnNumber


class ReasonBody(Body):
    """Why somebody looks at what is not theirs."""

    reason: Reason


def chosen_model(name: str | None) -> str:
    """The model that was asked for, or the first one on offer."""
    return name or runtime.models()[0]


def decimal_text(amount: Decimal | None) -> str | None:
    """Dollars as an exact decimal: a string, since many readers would round a JSON number."""
    return None if amount is None else f"{amount:f}"


def reply_shape(reply: Reply, cost_usd: Decimal | None) -> dict[str, Any]:
    return {
        "text": reply.text,
        "content": reply.message.blocks,
        "model": reply.model,
        "stop_reason": reply.stop_reason,
        "usage": reply.usage.fields,
        "cost_usd": decimal_text(cost_usd),
    }


def taken_turn_shape(taken: TakenTurn) -> dict[str, Any]:
    session, turn = taken.view.session, taken.turn
    answer = reply_shape(turn.reply, turn.cost_usd) | {
        "session_id": session.id,
        "turn": turn.number,
        "expires_at": rfc3339(session.expires_ms),
        "idle_expires_at": rfc3339(taken.idle_expires_ms),
    }
    return answer | _warning(
        session.expires_ms, taken.idle_expires_ms, turn.at_ms
    )  # a replay says the same as the turn


def _warning(expires_ms: int, idle_expires_ms: int, now_ms: int) -> dict[str, Any]:
    """What people should be told when the session ends soon: first of the end that no turn can put off."""
    if expires_ms - now_ms < _SOON_MS:
        return {"warning": {"code": "expires_soon", "at": rfc3339(expires_ms), "detail": _EXPIRES_SOON}}
    if idle_expires_ms - now_ms < _SOON_MS:
        return {"warning": {"code": "idle_expires_soon", "at": rfc3339(idle_expires_ms), "detail": _IDLE_EXPIRES_SOON}}
    return {}


def turn_shape(turn: Turn) -> dict[str, Any]:
    head = {"turn": turn.number, "at": rfc3339(turn.at_ms), "message": turn.message.blocks}
    return head | reply_shape(turn.reply, turn.cost_usd)


def session_shape(view: SessionView, now_ms: int) -> dict[str, Any]:
    session = view.session
    chosen = {"system": session.settings.system, "max_tokens": session.settings.max_tokens}
    return listed_session_shape(view, now_ms) | chosen | _warning(session.expires_ms, view.idle_expires_ms, now_ms)


def listed_session_shape(view: SessionView, now_ms: int) -> dict[str, Any]:
    """Without the system prompt, which may be as long as a request."""
    session = view.session
    return {
        "session_id": session.id,
        "title": view.title,
        "model": session.settings.model,
        "created_at": rfc3339(session.created_ms),
        "active_at": rfc3339(view.active_ms),
        "expires_at": rfc3339(session.expires_ms),
        "idle_expires_at": rfc3339(view.idle_expires_ms),
        "turns": view.count,
        "turn_in_progress": view.running_at(now_ms),
        "tokens": view.totals.tokens,
        "cost_usd": decimal_text(view.totals.cost_usd),
    }
