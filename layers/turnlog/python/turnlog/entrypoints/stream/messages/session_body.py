"""The body of a request to the Messages API that is a turn of a session: its settings in a session's own terms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, cast, get_args

from pydantic import Field, field_validator

from turnlog import runtime
from turnlog.domain.blocks.fields import Path, kind_of, list_of, malformed, refuse, require_bool, require_fields
from turnlog.domain.chosen_tools import WEB_TOOLS, WEB_USE_TOKENS, ChosenTools, resolve_tools
from turnlog.domain.messages import CacheLifetime, Effort, to_json
from turnlog.domain.output.schemas import OutputSchema, read_output_schema
from turnlog.domain.shown_turns import plain_blocks
from turnlog.entrypoints.http.bodies import MaxTokens, ModelName, StopSequence
from turnlog.entrypoints.http.model_settings import Thinking
from turnlog.entrypoints.http.request import MAX_MEDIA_BODY, Body
from turnlog.entrypoints.stream.messages.conversation import Conversation, instructions_of, read_conversation
from turnlog.usecases.known_session import KnownSession
from turnlog.usecases.sessions import NewSession

_OF_A_WEB_TOOL = {"allowed_callers": ["direct"], "max_content_tokens": WEB_USE_TOKENS}
"""The fields that Turnlog itself gives each web tool; a client may name the same."""


class SessionTurnBody(Body):
    """A turn of a session, in the form of the Messages API. Null is a field that is left out.

    `metadata`, and all marks of what is to be cached, are taken and left out: Turnlog sets its own marks.
    """

    most_bytes: ClassVar[int] = MAX_MEDIA_BODY

    messages: Any
    model: ModelName | None = None
    max_tokens: MaxTokens | None = None
    system: Any = None
    tools: Any = None
    tool_choice: Any = None
    thinking: Thinking | None = None
    output_config: Any = None
    stop_sequences: Annotated[tuple[StopSequence, ...], Field(max_length=8)] | None = None
    stream: bool | None = None
    metadata: Any = None
    cache_control: Any = None
    thread: Any = None

    @field_validator("*")
    @classmethod
    def _no_null(cls, value: object) -> object:
        """Takes null, unlike other bodies: several clients send it for what they leave out."""
        return value

    @property
    def conversation(self) -> Conversation:
        """The new message, and those before it."""
        return read_conversation(self.messages)

    def known(self, conversation: Conversation) -> KnownSession:
        """The session as the client knows it. Raises InvalidRequest."""
        output = _object(self.output_config, ("output_config",), ("effort", "format"))
        effort, form = output.get("effort"), output.get("format")
        settings = NewSession(
            system=None if self.system is None else _system(self.system),
            model=self.model,
            max_tokens=self.max_tokens,
            tools=None if self.tools is None else _tools(self.tools),
            tool_choice=None if self.tool_choice is None else _tool_choice(self.tool_choice),
            stop_sequences=self.stop_sequences,
            thinking=self.thinking,
            effort=None if effort is None else _effort(effort),
            output=None if form is None else _output(form),
            cache=self._cache,
        )
        return KnownSession(settings, conversation.earlier, self._previous_message_id())

    @property
    def _cache(self) -> CacheLifetime | None:
        """The lifetime that a mark asks for, an hour before five minutes; None without a mark that says one."""
        messages = self.messages if isinstance(self.messages, list) else []
        contents = [each.get("content") for each in messages if isinstance(each, dict)]
        asked = {ttl for each in ([vars(self)], self.system, self.tools, *contents) for ttl in _lifetimes(each)}
        return "1h" if "1h" in asked else "5m" if "5m" in asked else None

    def _previous_message_id(self) -> str:
        """The message that the thread continues; empty without a thread, or if it begins."""
        if self.thread is None:
            return ""
        at = ("thread",)
        kind = kind_of(self.thread, at, ("create", "continue"), "thread_unknown")
        require_fields(self.thread, at, ("type",) if kind == "create" else ("type", "previous_message_id"))
        if kind == "create":
            return ""
        previous = self.thread["previous_message_id"]
        if not isinstance(previous, str):
            malformed("wrong_type", (*at, "previous_message_id"))
        if not previous:
            refuse("thread_unknown", (*at, "previous_message_id"))
        return previous


def _system(value: Any) -> str:
    return instructions_of(value, ("system",))


def _tools(value: Any) -> ChosenTools:
    given = plain_blocks(list_of(value, ("tools",)))
    return resolve_tools([_web_tool(each) for each in given], runtime.offered_tools())


def _web_tool(entry: Any) -> Any:
    """One of Claude's web tools as a session's settings name it; any other entry as it is."""
    named = [entry.get("name"), entry.get("type")] if isinstance(entry, dict) else []
    if named not in [[name, version] for name, version in WEB_TOOLS.items()]:
        return entry
    said = {field: value for field, value in entry.items() if field != "name" and _OF_A_WEB_TOOL.get(field) != value}
    return said | {"type": named[0]}


def _tool_choice(value: Any) -> Literal["auto", "none"]:
    at = ("tool_choice",)
    kind = kind_of(value, at, ("auto", "none"), "tool_choice_range")
    require_fields(value, at, ("type",), ("disable_parallel_tool_use",))
    parallel = value.get("disable_parallel_tool_use") or False
    require_bool(parallel, (*at, "disable_parallel_tool_use"))
    if parallel:
        refuse("tool_choice_range", (*at, "disable_parallel_tool_use"))
    return cast(Literal["auto", "none"], kind)


def _effort(value: Any) -> Effort:
    at = ("output_config", "effort")
    if not isinstance(value, str):
        malformed("wrong_type", at)
    if value not in get_args(Effort):
        refuse("effort_range", at, allowed=list(get_args(Effort)))
    return cast(Effort, value)


def _output(value: Any) -> OutputSchema:
    at = ("output_config", "format")
    kind_of(value, at, ("json_schema",), "output_range")
    require_fields(value, at, ("type", "schema"))
    return OutputSchema(to_json(value["schema"]), read_output_schema(value["schema"], (*at, "schema")))


def _object(value: Any, at: Path, optional: tuple[str, ...]) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        malformed("wrong_type", at)
    require_fields(value, at, (), optional)
    return value


def _lifetimes(blocks: Any) -> Iterable[str]:
    """The lifetimes in the marks of these blocks, and of those within them."""
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            mark = block.get("cache_control")
            if isinstance(mark, dict) and isinstance(mark.get("ttl"), str):
                yield mark["ttl"]
            yield from _lifetimes(block.get("content"))
