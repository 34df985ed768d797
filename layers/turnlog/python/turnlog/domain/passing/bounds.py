"""The most that a request which is passed on can use, for what is reserved before it goes on.

A token for each byte of the body is more than any text has; images and pages are counted as the provider counts them,
and what the body does not hold itself may fill the model's context.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from turnlog.domain.blocks.images import IMAGE_TYPES
from turnlog.domain.blocks.media import PDF, media_sources, pages_of, size_of
from turnlog.domain.blocks.pdf import Effort
from turnlog.domain.blocks.tokens import MOST_IMAGE_TOKENS, PAGE_TEXT_TOKENS, image_tokens
from turnlog.domain.chosen_tools import WEB_USE_TOKENS
from turnlog.domain.limits import PossibleCall
from turnlog.domain.models import model_of
from turnlog.domain.passing.fields import PassedBody
from turnlog.domain.passing.rules import NamedTool, named_tools
from turnlog.errors import InvalidRequest

_FRAME_TOKENS = 64
_NAMED_TOOL_TOKENS = 2_000  # with which the provider describes a tool of its own to the model
_UNKNOWN_CONTEXT = 1_000_000
_MOST_USES = 10_000  # of a tool: far more than there is time for in one request
_MOST_CALLS = 64
"""The most models, fallbacks and advisors included, that one request may turn to."""

_MEDIA_BLOCKS = ("image", "document")

_ELSEWHERE = ("container", "file_id", "mcp_servers", "previous_message_id")
"""Fields that bring into the prompt what the body does not hold."""


def possible_calls(body: PassedBody, size: int) -> list[PossibleCall]:
    """Returns the calls of models that the request can lead to, each at its largest. `size` are the body's bytes.

    Raises InvalidRequest for a tool that may be used without end, since no budget can reserve that.
    """
    fields, named = body.fields, named_tools(body)
    model: str = fields["model"]
    prompt = min(_prompt_tokens(body, size, model, named), _context_of(model))
    searches = _uses(named, "web_search")
    found = searches * WEB_USE_TOKENS + sum(_fetched_tokens(tool, model) for tool in named if tool.kind == "web_fetch")
    call = PossibleCall(model, prompt + found, _reply_tokens(fields.get("max_tokens"), model), searches)
    calls = [call]
    for each in _fallbacks(fields):
        own = each.get("max_tokens")
        most = _reply_tokens(fields.get("max_tokens") if own is None else own, each["model"])
        calls.append(replace(call, model=each["model"], output_tokens=most))
    if _may_compact(fields):
        calls.append(call)
    for tool in named:
        if tool.kind == "advisor" and isinstance(adviser := tool.fields.get("model"), str):
            asked = min(call.prompt_tokens + call.output_tokens, _context_of(adviser))
            advice = PossibleCall(adviser, asked, _reply_tokens(tool.fields.get("max_tokens"), adviser))
            calls.append(replace(advice, times=_uses([tool], "advisor")))
    if len(calls) > _MOST_CALLS:
        raise InvalidRequest("possible_calls_range", details={"maximum": _MOST_CALLS})
    return calls


def has_other_price(body: PassedBody) -> bool:
    """True if the request asks for what has a price that no table here knows: a speed, or a place."""
    return any(
        each.get("speed") not in (None, "standard") or each.get("inference_geo") not in (None, "global")
        for each in (body.fields, *_fallbacks(body.fields))
    )


def _prompt_tokens(body: PassedBody, size: int, model: str, named: list[NamedTool]) -> int:
    tokens = size + _FRAME_TOKENS + len(named) * _NAMED_TOOL_TOKENS
    effort = Effort()
    for part in body.objects:
        if any(part.fields.get(name) is not None for name in _ELSEWHERE):
            return _context_of(model)
        source = part.fields.get("source")
        if not isinstance(source, dict):
            continue
        if source.get("type") == "url":
            is_image = part.fields.get("type") == "image"
            tokens += MOST_IMAGE_TOKENS if is_image else _context_of(model)
        tokens += _media_tokens(part.fields, model, effort)
    return tokens


def _media_tokens(block: dict[str, Any], model: str, effort: Effort) -> int:
    """The tokens of a block's own image or PDF, less those that its bytes were counted as."""
    if block.get("type") not in _MEDIA_BLOCKS:
        return 0  # whatever else has a source in this form is as long as its bytes
    source = next(media_sources([{"source": block["source"]}]), None)
    if source is not block["source"]:
        return 0
    data: str = source["data"]
    if source.get("media_type") == PDF:
        return pages_of(data, effort) * (PAGE_TEXT_TOKENS + MOST_IMAGE_TOKENS) - len(data)
    if source.get("media_type") in IMAGE_TYPES:
        return image_tokens(size_of(data), model) - len(data)
    return 0


def _context_of(model: str) -> int:
    known = model_of(model)
    return (known and known.context_tokens) or _UNKNOWN_CONTEXT


def _reply_tokens(asked: object, model: str) -> int:
    """The most tokens of a reply: as many as are asked for, but no more than the model writes, since the provider
    refuses a request for more.
    """
    known = model_of(model)
    most = known.max_output_tokens if known else None
    tokens = asked if type(asked) is int else most or _UNKNOWN_CONTEXT
    return max(0, min(tokens, most or _UNKNOWN_CONTEXT))


def _fallbacks(body: dict[str, Any]) -> list[dict[str, Any]]:
    listed = body.get("fallbacks")
    entries = listed if isinstance(listed, list) else []
    return [each for each in entries if isinstance(each, dict) and isinstance(each.get("model"), str)]


def _uses(named: list[NamedTool], kind: str) -> int:
    """The most uses of tools of this kind. Raises InvalidRequest when nothing bounds it."""
    uses = [tool.most_uses for tool in named if tool.kind == kind]
    if None in uses:
        raise InvalidRequest("max_uses_missing", "/tools")
    return sum(min(each, _MOST_USES) for each in uses if each)


def _fetched_tokens(tool: NamedTool, model: str) -> int:
    """The most that all uses of a fetch bring: without a bound of the client's own, each as much as a model reads."""
    asked, most = tool.fields.get("max_content_tokens"), _context_of(model)
    return _uses([tool], "web_fetch") * (min(asked, most) if type(asked) is int and asked >= 0 else most)


def _may_compact(body: dict[str, Any]) -> bool:
    """True if the conversation may be summarized on the way, which is a call of its own."""
    management = body.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    kinds = [each.get("type") for each in edits if isinstance(each, dict)] if isinstance(edits, list) else []
    return body.get("compaction") is not None or any(str(kind).startswith("compact") for kind in kinds)
