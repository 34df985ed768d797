"""Content as bytes: one JSON text, deflated when that is shorter."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from turnlog.domain.messages import Message, Usage, to_json
from turnlog.domain.turns import MAX_TURN_BYTES, ModelCall, Step, Turn
from turnlog.errors import TurnTooLarge

_LONG = 1_000_000  # bytes of a text that is mostly a picture or a document in base64
_SAMPLE = 20_000  # bytes at each of three places, by which a long text is judged
_ROLES = "user", "assistant", "system"
_NAMES_OF_CALL = "id", "request_id", "stop_sequence"


class TurnContent(NamedTuple):
    """The part of a turn that is packed."""

    messages: tuple[Message, ...] = ()
    calls: tuple[ModelCall, ...] = ()
    window_system: str = ""


def pack(text: str) -> bytes:
    """The text in UTF-8 after one byte: "z" when deflated, which about halves a turn, "j" when plain is shorter."""
    plain = text.encode()
    deflated = _deflated(plain)
    return b"z" + deflated if len(deflated) < len(plain) else b"j" + plain


def unpack(packed: bytes) -> Any:
    """The parsed JSON. Raises ValueError or zlib.error when it was not packed by this module."""
    if packed[:1] not in (b"z", b"j"):
        raise ValueError("neither deflated nor plain")
    return json.loads(zlib.decompress(packed[1:]) if packed[:1] == b"z" else packed[1:])


def is_one_exchange(turn: Turn) -> bool:
    """True for one message of the caller and the reply to it, which has a form of its own."""
    return [message.role for message in turn.messages] == ["user", "assistant"]


def pack_turn(turn: Turn) -> bytes:
    """The turn's messages and calls, just as received. Raises TurnTooLarge above MAX_TURN_BYTES."""
    if not is_one_exchange(turn):
        return pack_content(turn.messages, turn.calls, turn.window_system)
    message, reply = turn.messages
    (call,) = turn.calls
    return _packed(
        f'{{"message":{message.content},"reply":{reply.content},"usage":{call.usage.received},'
        f'"model":{to_json(call.model)}{_names_of(call)}{_json_of_window_system(turn.window_system)}}}'
    )


def pack_content(messages: Sequence[Message], calls: Sequence[ModelCall], window_system: str) -> bytes:
    """The content of a turn of another form. Raises TurnTooLarge above MAX_TURN_BYTES."""
    given, rest = ",".join(map(_json_of_call, calls)), _json_of_window_system(window_system)
    return _packed(f'{{"messages":{_json_of_messages(messages)},"calls":[{given}]{rest}}}')


def pack_messages(messages: Sequence[Message]) -> bytes:
    """Messages alone: those of the caller, or the results of tools. Raises TurnTooLarge above MAX_TURN_BYTES."""
    return _packed(_json_of_messages(messages))


def pack_reply(step: Step) -> bytes:
    """The step's reply and its call, without results. Raises TurnTooLarge above MAX_TURN_BYTES."""
    return _packed(f'{{"reply":{step.reply.content},"call":{_json_of_call(step.call)}}}')


def unpack_turn(packed: bytes, cost_usd: Decimal | None) -> TurnContent:
    """The content that was packed by `pack_turn` or `pack_content`.

    `cost_usd` is the cost that was stored beside them, for a turn of one call. Raises ValueError, KeyError, TypeError,
    ArithmeticError or zlib.error when they are damaged.
    """
    body = unpack(packed)
    if "messages" in body:
        if not isinstance(body["calls"], list):
            raise ValueError("no list of calls")
        messages, calls = _messages_of(body["messages"]), tuple(map(_call_of, body["calls"]))
    else:
        messages = Message("user", _content_of(body["message"])), Message("assistant", _content_of(body["reply"]))
        calls = (_call_of(body, cost_usd),)
    window_system = body.get("window_system", "")
    if not isinstance(window_system, str):
        raise ValueError("no instructions")
    return TurnContent(messages, calls, window_system)


def unpack_messages(packed: bytes) -> tuple[Message, ...]:
    """The messages that `pack_messages` packed. Raises as `unpack_turn`."""
    return _messages_of(unpack(packed))


def unpack_reply(packed: bytes) -> tuple[Message, ModelCall]:
    """The reply and the call that `pack_reply` packed. Raises as `unpack_turn`."""
    body = unpack(packed)
    return Message("assistant", _content_of(body["reply"])), _call_of(body["call"])


def _deflated(plain: bytes) -> bytes:
    """The bytes as zlib has them.

    Pictures in base64 have no repeats, only few letters: without a search for repeats they are packed in a quarter of
    the time, and no larger.
    """
    if len(plain) >= _LONG and not _has_repeats(plain):
        packed = _without_search(plain)
        if len(packed) < MAX_TURN_BYTES:  # else the search may find what the samples do not show
            return packed
    return zlib.compress(plain)


def _has_repeats(plain: bytes) -> bool:
    quarter = len(plain) // 4
    sample = b"".join(plain[at : at + _SAMPLE] for at in (quarter, 2 * quarter, 3 * quarter))
    return len(zlib.compress(sample)) < len(_without_search(sample))


def _without_search(plain: bytes) -> bytes:
    packing = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    return packing.compress(plain) + packing.flush()


def _packed(text: str) -> bytes:
    packed = pack(text)
    if len(packed) > MAX_TURN_BYTES:
        raise TurnTooLarge
    return packed


def _json_of_messages(messages: Sequence[Message]) -> str:
    given = ",".join(f'{{"role":"{message.role}","content":{message.content}}}' for message in messages)
    return f"[{given}]"


def _json_of_window_system(text: str) -> str:
    """The member of that name, after a comma; nothing without any."""
    return f',"window_system":{to_json(text)}' if text else ""


def _json_of_call(call: ModelCall) -> str:
    cost = "" if call.cost_usd is None else f',"cost_usd":"{call.cost_usd:f}"'
    return f'{{"model":{to_json(call.model)},"usage":{call.usage.received}{cost}{_names_of(call)}}}'


def _names_of(call: ModelCall) -> str:
    """The further members of a call, each after a comma; those that are empty are left out."""
    given = [f',"{name}":{to_json(getattr(call, name))}' for name in _NAMES_OF_CALL if getattr(call, name)]
    return "".join(given) + (f',"stop_details":{call.stop_details}' if call.stop_details else "")


def _messages_of(given: Any) -> tuple[Message, ...]:
    if not isinstance(given, list) or not all(each["role"] in _ROLES for each in given):
        raise ValueError("no list of messages")
    return tuple(Message(each["role"], _content_of(each["content"])) for each in given)


def _call_of(given: Any, cost_usd: Decimal | None = None) -> ModelCall:
    usage = Usage(to_json(given["usage"]))
    names = {name: given.get(name, "") for name in _NAMES_OF_CALL}
    if not isinstance(given["usage"], dict) or usage.tokens < 0:
        raise ValueError("no usage of a call")
    if not all(isinstance(each, str) for each in (given["model"], *names.values())):
        raise ValueError("no names of a call")
    if "cost_usd" in given:
        cost_usd = Decimal(given["cost_usd"])
    details = to_json(given["stop_details"]) if "stop_details" in given else ""
    return ModelCall(given["model"], usage, cost_usd, **names, stop_details=details)


def _content_of(blocks: Any) -> str:
    """The content of a message. Raises ValueError or KeyError unless these are the content blocks of one."""
    if not isinstance(blocks, list) or not all(
        isinstance(block, dict) and isinstance(block["type"], str) for block in blocks
    ):
        raise ValueError("no list of blocks")
    if not all(isinstance(block["text"], str) for block in blocks if block["type"] == "text"):
        raise ValueError("a text that is none")
    return to_json(blocks)
