"""The messages of a request in a session: the newest ones of the user are its message, and the others are compared."""

from __future__ import annotations

from typing import Any

import pytest

from turnlog.entrypoints.stream.messages.conversation import Conversation, instructions_of, read_conversation
from turnlog.errors import InvalidRequest


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "7"}
MARK = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def read(*messages: dict[str, Any]) -> Conversation:
    return read_conversation(list(messages))


@pytest.mark.parametrize("content", ["hello", [text("hello")], [text("hello") | MARK]], ids=str)
def test_one_message_is_the_new_one_in_whatever_form(content: Any) -> None:
    found = read(said("user", content))
    assert (found.message.role, found.message.blocks) == ("user", [text("hello")])
    assert (found.system, found.earlier) == ("", ())


def test_all_up_to_the_last_reply_is_earlier() -> None:
    found = read(
        said("user", "one"),
        said("assistant", [text("1")]),
        said("user", "two"),
        said("assistant", "2"),
        said("user", "3"),
    )
    assert found.message.blocks == [text("3")]
    assert found.earlier == (
        ("user", [text("one")]),
        ("assistant", [text("1")]),
        ("user", [text("two")]),
        ("assistant", [text("2")]),
    )


def test_messages_of_the_user_that_follow_each_other_are_one() -> None:
    found = read(
        said("user", "a"), said("user", [text("b")]), said("assistant", "c"), said("user", [RESULT]), said("user", "d")
    )
    assert found.message.blocks == [RESULT, text("d")]
    assert found.earlier[0] == ("user", [text("a"), text("b")])


@pytest.mark.parametrize("position", [0, 1])
def test_instructions_beside_the_new_message_hold_from_it_on(position: int) -> None:
    messages = [said("user", "hello")]
    messages.insert(position, said("system", [text("Be brief.")]))
    assert read(*messages).system == "Be brief."
    assert read(*messages).message.blocks == [text("hello")]


def test_instructions_that_came_earlier_stand_after_the_message_as_in_a_session() -> None:
    found = read(said("system", "Be brief."), said("user", "one"), said("assistant", "1"), said("user", "two"))
    assert [role for role, _ in found.earlier] == ["user", "system", "assistant"]
    assert found.system == ""


def test_texts_of_instructions_become_one_text() -> None:
    assert instructions_of([text("a"), text("b") | MARK], ("system",)) == "a\n\nb"
    assert instructions_of("  ", ("system",)) == ""


@pytest.mark.parametrize(
    ("messages", "code", "pointer"),
    [
        ("hello", "wrong_type", "/messages"),
        ([], "message_missing", "/messages"),
        (["hello"], "wrong_type", "/messages/0"),
        ([said("user", "a"), said("assistant", "b")], "message_missing", "/messages"),
        ([said("system", "a")], "message_missing", "/messages"),
        ([{"role": "user"}], "field_missing", "/messages/0/content"),
        ([said("user", "a") | {"name": "ada"}], "unknown_field", "/messages/0"),
        ([said("tool", "a")], "role_unknown", "/messages/0/role"),
        ([said("user", 7)], "wrong_type", "/messages/0/content"),
        ([said("user", [])], "message_empty", "/messages/0/content"),
        ([said("user", " ")], "message_empty", "/messages/0/content"),
        ([said("user", [text("a"), {"type": "text"}])], "field_missing", "/messages/0/content/1/text"),
        ([said("user", [text("a"), RESULT])], "tool_result_misplaced", "/messages/0/content/1"),
        ([said("user", "a"), said("user", [RESULT])], "tool_result_misplaced", "/messages"),
        ([said("user", "a"), said("system", [RESULT])], "block_type_unknown", "/messages/1/content/0/type"),
    ],
    ids=str,
)
def test_anything_else_is_refused_with_its_place(messages: Any, code: str, pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_conversation(messages)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)
