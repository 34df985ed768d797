"""Threads, which are in beta: conversations that the server keeps, so that a request needs only what is new.

A thread is known by the id of its newest reply, which can be continued once. Source: the types of errors with `thread`
in their names, and lib/threads, in anthropic 2.12.0.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from local.claude_stand_in.errors import ApiError, invalid

KEPT_THREADS = 200
_KEPT_FIELDS = ("system", "tools")  # as they were at the start: nobody may send them again
_UNSUPPORTED = ("cache_control", "context_management", "fallbacks")

Body = dict[str, Any]


@dataclass(slots=True)
class _Thread:
    """A conversation up to a reply. `state` is "free" until another request continues it."""

    fields: Body
    messages: list[Any]
    state: str = "free"


@dataclass(slots=True)
class ThreadTurn:
    """One request. `body` is the whole of it, as if there were no threads; `content` is what was replied to it."""

    body: Body
    reply_id: str = ""
    content: list[Any] = field(default_factory=list)

    def keep(self, reply_id: str, content: list[Any]) -> None:
        """Takes the reply, so that it can be continued."""
        self.reply_id, self.content = reply_id, content


class Threads:
    """The last threads, by account and reply. Safe to use from many threads of the program."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: OrderedDict[tuple[str, str], _Thread] = OrderedDict()

    @contextmanager
    def turn(self, account: str, body: Body) -> Iterator[ThreadTurn]:
        """The turn that a request makes. Raises ApiError when it names a thread that it cannot continue.

        A thread goes on only when a reply is kept in the block: until then it can be continued again.
        """
        named = body.get("thread")
        rest = {name: value for name, value in body.items() if name != "thread"}
        if named is None:
            yield ThreadTurn(rest)
            return
        before = self._continued(account, named, rest)
        turn = ThreadTurn(_whole(rest, before))
        try:
            yield turn
        except BaseException:
            turn.keep("", [])  # it holds the whole reply or none of it
            raise
        finally:
            with self._lock:
                self._end(account, turn, before)

    def _continued(self, account: str, named: object, body: Body) -> _Thread | None:
        """The thread that a request continues, which is now in flight; None when it begins one."""
        kind = named.get("type") if isinstance(named, dict) else None
        if not isinstance(named, dict) or kind not in ("create", "continue"):
            raise invalid("thread: Input tag does not match any of the expected tags: create, continue")
        known = {"type", "previous_message_id"} if kind == "continue" else {"type"}
        for name in named.keys() - known:
            raise invalid(f"thread.{kind}.{name}: Extra inputs are not permitted")
        if unsupported := [name for name in _UNSUPPORTED if body.get(name) is not None]:
            raise _refused("thread_unsupported_request", f"Threads have no {unsupported[0]}", unsupported=unsupported)
        if kind == "create":
            return None
        for name in _KEPT_FIELDS:
            if name in body:
                raise invalid(f"{name}: a thread that is continued keeps the one that it was created with")
        with self._lock:
            thread = self._threads.get((account, str(named.get("previous_message_id"))))
            if thread is None:
                raise _refused("thread_not_found", "No thread was found for previous_message_id", "not_found_error")
            if thread.state != "free":
                raise _refused(thread.state, "Another request has continued, or still continues, this reply")
            thread.state = "thread_continue_in_flight"
            return thread

    def _end(self, account: str, turn: ThreadTurn, before: _Thread | None) -> None:
        if before:
            before.state = "thread_already_continued" if turn.reply_id else "free"
        if turn.reply_id:
            fields = {name: turn.body[name] for name in _KEPT_FIELDS if name in turn.body}
            replied = [{"role": "assistant", "content": turn.content}] if turn.content else []
            self._threads[account, turn.reply_id] = _Thread(fields, [*turn.body["messages"], *replied])
            while len(self._threads) > KEPT_THREADS:
                self._threads.popitem(last=False)


def _whole(body: Body, before: _Thread | None) -> Body:
    messages = body.get("messages")
    if not before or not isinstance(messages, list):
        return body
    return body | before.fields | {"messages": [*before.messages, *messages]}


def _refused(code: str, message: str, kind: str = "invalid_request_error", **more: Any) -> ApiError:
    return ApiError(kind, message, details={"error_code": code, **more})
