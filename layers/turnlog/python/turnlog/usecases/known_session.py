"""KnownSession: the session as a client knows it, which must be so before its turn is taken.

Clients of the Messages API name the settings with every request, and some send the whole conversation. Neither may
differ from the session, or the reply would be another than the one that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnlog.domain.server_key import ServerKey
from turnlog.domain.sessions import SessionSettings, SessionView
from turnlog.domain.shown_turns import Said, goes_on_after
from turnlog.domain.turns import Turn
from turnlog.errors import InvalidRequest
from turnlog.ports.session_store import SessionStore
from turnlog.usecases.audit import Audit
from turnlog.usecases.caller import Caller
from turnlog.usecases.policy import CreationPolicy
from turnlog.usecases.sessions import NewSession, create_session, find_existing, session_id_under

_POINTERS = {"effort": "/output_config/effort", "output": "/output_config/format"}
"""The places of settings in a request to the Messages API, for those that have another name in a session."""

_TOLD = ("model", "max_tokens", "effort", "tool_choice")
"""The settings whose value is told to whoever names another: no text of the owner's."""


@dataclass(frozen=True, slots=True)
class KnownSession:
    """A client's view of a session: None is a setting that it does not name.

    `earlier` are the messages that it sends before the new one, and `previous_message_id` is the provider's name of
    the reply that it goes on after; both are empty when it leaves that to the session.
    """

    settings: NewSession = field(default_factory=NewSession)
    earlier: tuple[Said, ...] = ()
    previous_message_id: str = ""

    def require(self, view: SessionView, stored: Turn | None = None) -> None:
        """Raises InvalidRequest unless the session's next turn, or the `stored` one, is the one that is asked for."""
        require_as_settled(self.settings, view.session.settings)
        if stored is None:  # else other turns may have followed
            self._require_after(view.turns, view.session.settings.own_tools)

    def _require_after(self, turns: Sequence[Turn], own_tools: Collection[str]) -> None:
        """Raises InvalidRequest unless the new message goes on after the last of these turns."""
        # A streamed message has the id of the turn's first call, and a buffered one of our own routes that of its last.
        known = [call.id for turn in turns[-1:] for call in turn.calls]
        if self.previous_message_id and self.previous_message_id not in known:
            raise InvalidRequest("previous_message_unknown", "/thread/previous_message_id")
        if self.earlier and not goes_on_after(self.earlier, turns, own_tools):
            raise InvalidRequest("history_differs", "/messages")

    def begin(
        self,
        caller: Caller,
        *,
        key: str,
        store: SessionStore,
        server_key: ServerKey,
        audit: Audit,
        policy: CreationPolicy,
        now_ms: int,
    ) -> str:
        """Returns the id of the session that a signed-in caller began under `key`; begins it with these settings if
        there is none.

        A client that sends the same headers with each request goes on with that session, whatever it says of the
        settings by then: `require` looks at that. Raises InvalidRequest for a conversation that has begun elsewhere,
        and what `create_session` raises.
        """
        session_id = session_id_under(key, caller.require_user(), server_key)
        if find_existing(store, caller.owner, session_id, now_ms):
            return session_id
        self._require_after((), ())
        view = create_session(
            caller,
            self.settings,
            key=key,
            store=store,
            server_key=server_key,
            audit=audit,
            policy=policy,
            now_ms=now_ms,
        )
        return view.session.id


def require_as_settled(asked: NewSession, settled: SessionSettings) -> None:
    """Raises InvalidRequest for a setting that is named and is another one in the session."""
    values: Mapping[str, tuple[Any, Any]] = {
        "model": (asked.model, settled.model),
        "max_tokens": (asked.max_tokens, settled.max_tokens),
        "system": (asked.system, settled.system),
        "stop_sequences": (asked.stop_sequences, settled.stop_sequences),
        "thinking": (asked.thinking, settled.thinking),
        "effort": (asked.effort, settled.effort),
        "output": (asked.output and asked.output.form, settled.output_schema),
        "tool_choice": (asked.tool_choice, settled.tool_choice or "auto"),
    }
    for name, (given, held) in values.items():
        if given is not None and given != held:
            details = {"allowed": [str(held)]} if name in _TOLD and held else {}
            raise InvalidRequest("setting_settled", _POINTERS.get(name, f"/{name}"), details)
    if asked.tools is not None and not _has_tools(settled, asked.tools.definitions, asked.tools.own):
        raise InvalidRequest("setting_settled", "/tools")


def _has_tools(settled: SessionSettings, definitions: str, own: tuple[str, ...]) -> bool:
    """True if these are tools of the session, and all of the caller's own are among them.

    The service's own tools and Claude's need not be named again: clients send the tools that they run.
    """
    held, given = _by_name(settled.tools), _by_name(definitions)
    run_by_caller = {name for name, tool in held.items() if "input_schema" in tool and name not in settled.own_tools}
    is_same = all(
        name in settled.own_tools if name in own else name in held and held[name] == tool
        for name, tool in given.items()
    )
    return is_same and run_by_caller <= given.keys()


def _by_name(definitions: str) -> dict[str, dict[str, Any]]:
    """Definitions by name, without what they say by default."""
    return {
        tool["name"]: {field: value for field, value in tool.items() if (field, value) != ("strict", False)}
        for tool in json.loads(definitions or "[]")
    }
