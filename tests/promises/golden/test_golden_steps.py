"""P12, P1 and P10: items of version 3, which holds turns of several calls, are read for ever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import OWNER, START_MS
from tests.promises.golden.test_golden import (
    ENCRYPTED,
    EVE,
    LATER,
    LIVE,
    NOW_MS,
    Item,
    Scene,
    changed,
    golden,
    key,
    session,
    turn,
)
from turnlog.adapters.dynamodb.encode import header_item, lease_item, step_items, turn_items
from turnlog.domain.messages import Message, Usage
from turnlog.domain.packing import unpack
from turnlog.domain.sessions import Move, Session, SessionSettings
from turnlog.domain.turns import INTERRUPTED, Lease, ModelCall, Step, Turn
from turnlog.errors import ItemUnreadable, ItemVersionUnknown, SessionNotFound, TurnInProgress

ASKED = (Message.of_text("Who is Ada? 😀"), Message.of_system("Be kind."))
CALLED = (
    '[{"type":"thinking","thinking":"…","signature":"c2ln"},{"type":"tool_use","id":"toolu_1","name":"n","input":{}}]'
)
FOUND = '[{"type":"tool_result","tool_use_id":"toolu_1","content":"a name"}]'
ANSWER = Message("assistant", '[{"type":"some_later_block","x":[1,2.5,null]}]')
USAGE = Usage('{"input_tokens":10,"output_tokens":5,"later_field":{"a":1}}')
FIRST = ModelCall("claude-sonnet-5-5", USAGE, Decimal("0.00007"), "msg_1", "req_1")
SECOND = ModelCall("claude-sonnet-5-5", USAGE, None, stop_sequence="END", stop_details='{"type":"later"}')
STEPS = (
    Step(1, Message("assistant", CALLED), FIRST, Message("user", FOUND)),
    Step(2, Message("assistant", '[{"type":"server_tool_use","id":"srv_1","name":"n","input":{}}]'), SECOND),
)
CLAIM = Lease(
    3,
    "token-3",
    START_MS + 91_000,
    key(3),
    b"f" * 16,
    START_MS + 26_000,
    sequence=4,
    steps=2,
    stop_asked=True,
)


def third(messages: tuple[Message, ...], calls: tuple[ModelCall, ...], **more: Any) -> Turn:
    return replace(turn(3, ASKED[0], ANSWER.content), messages=messages, calls=calls, **more)


STEPPED = third((*ASKED, *STEPS[0].messages, *STEPS[1].messages, ANSWER), (FIRST, SECOND, FIRST), steps=2)
ENDED = third(STEPPED.messages[:-1], (FIRST, SECOND), steps=2, stop_reason=INTERRUPTED)
LISTED = third((*ASKED, ANSWER), (FIRST,), window_system="Be brief.")
BELOW = third((ASKED[0], ANSWER), (replace(FIRST, cost_usd=None),), window_system="Be brief.")


def chosen() -> Session:
    """A session with each setting that version 3 has more than the versions before."""
    settings = SessionSettings(
        "claude-sonnet-5-5",
        1000,
        "Be brief. Sois brève.",
        stop_sequences=("END", "FIN"),
        thinking='{"type":"adaptive"}',
        effort="high",
        tools='[{"name":"n","input_schema":{"type":"object"}}]',
        own_tools=("n",),
        tool_choice="none",
        output_schema='{"type":"object"}',
        cache="1h",
    )
    return replace(session(), settings=settings)


def steps_of(of: Session) -> list[Item]:
    stored = step_items(of, 3, replace(STEPS[0], results=None), ASKED)
    return [*stored, *step_items(of, 3, STEPS[0], ()), *step_items(of, 3, STEPS[1], ())]


WRITTEN: dict[str, Callable[[Session], list[Item]]] = {
    "header_of_tools": lambda _: [header_item(chosen())],
    "lease_of_steps": lambda of: [lease_item(of, CLAIM)],
    "steps": steps_of,
    "turn_of_steps": lambda of: turn_items(of, STEPPED),
    "turn_interrupted": lambda of: turn_items(of, ENDED),
    "turn_of_messages": lambda of: turn_items(of, LISTED),
    "turn_below": lambda of: turn_items(of, BELOW),
}
"""The items of each file. Content of more than 60 bytes lies below in that of the last one."""

TURNS = [
    pytest.param(("steps", "turn_of_steps"), STEPPED, id="of steps"),
    pytest.param(("steps", "turn_interrupted"), ENDED, id="interrupted"),
    pytest.param(("turn_of_messages",), LISTED, id="of messages"),
    pytest.param(("turn_below",), BELOW, id="below"),
]


@pytest.mark.parametrize("more", [{}, LATER], ids=["as written", "with attributes of a later version"])
@pytest.mark.parametrize(("names", "stored"), TURNS)
def test_a_turn_of_version_3_is_read_unchanged(names: tuple[str, ...], stored: Turn, more: Item) -> None:
    scene = Scene([item | more for item in golden(*LIVE, *names)])
    view = scene.store.read(OWNER, session().id, NOW_MS, newest=25)
    assert (view.count, view.turns[-1]) == (3, stored)
    assert scene.store.turns(session(), 3, 3) == [stored]
    assert scene.take().turn.number == 4


@pytest.mark.parametrize(("names", "stored"), TURNS)
def test_an_encrypted_turn_of_version_3_is_read_unchanged(names: tuple[str, ...], stored: Turn) -> None:
    items = golden(*ENCRYPTED, *(f"encrypted_{name}" for name in names))
    scene = Scene(items, keys=golden("key"))
    assert scene.store.read(OWNER, session().id, NOW_MS, newest=25).turns[-1] == stored
    assert scene.take().turn.number == 4


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_lease_of_version_3_is_read_with_its_steps(encrypted: bool) -> None:
    names = (*ENCRYPTED, "lease_of_steps", "encrypted_steps") if encrypted else (*LIVE, "lease_of_steps", "steps")
    scene = Scene(golden(*names), keys=golden("key") if encrypted else [])
    view = scene.store.read(OWNER, session().id, NOW_MS, newest=25)
    assert view.running == CLAIM
    assert scene.store.steps(view.session, CLAIM) == (ASKED, STEPS)
    scene.require_untouched(TurnInProgress, scene.take)
    assert scene.store.delete(OWNER, session().id, NOW_MS)
    assert {item["st"]["S"] for item in scene.stored if item["pk"]["S"].startswith("S#")} == {"ended"}


@pytest.mark.parametrize(("names", "stored"), TURNS)
def test_a_turn_of_version_3_is_moved_whole(names: tuple[str, ...], stored: Turn) -> None:
    scene = Scene(golden(*LIVE, *names))
    moved = scene.store.move(
        Move(OWNER, session().id, EVE, "ses_BBBBBBBBBBBBBBBBBBBBBB", b"m" * 16, "mover", NOW_MS, NOW_MS + 34_000)
    )
    assert scene.store.turns(moved, 3, 3) == [stored]


@pytest.mark.parametrize("name", ["header_of_tools", "encrypted_header_of_tools"])
def test_a_header_of_version_3_has_all_settings(name: str) -> None:
    encrypted = name.startswith("encrypted")
    rest = golden(*(ENCRYPTED if encrypted else LIVE))[1:]
    scene = Scene([*golden(name), *rest], keys=golden("key") if encrypted else [])
    assert scene.store.read(OWNER, session().id, NOW_MS, newest=1).session == chosen()


@pytest.mark.parametrize("name", WRITTEN)
def test_this_version_writes_what_version_3_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another form needs another version. The bytes of zlib may change."""
    if name == "turn_below":
        monkeypatch.setattr("turnlog.adapters.dynamodb.encode.PART_BYTES", 60)
        assert [item["sk"] for item in WRITTEN[name](session())] == [item["sk"] for item in golden(name)]
    else:
        assert [_unpacked(item) for item in WRITTEN[name](session())] == [_unpacked(item) for item in golden(name)]


@pytest.mark.parametrize("name", [name for name in WRITTEN if name not in ("lease_of_steps", "turn_below")])
def test_this_version_writes_what_an_encrypted_version_3_reads(name: str) -> None:
    scene = Scene(golden(*ENCRYPTED), keys=golden("key"))
    encrypted = scene.store.read(OWNER, session().id, NOW_MS, newest=1).session
    written = [header_item(replace(chosen(), cipher=encrypted.cipher))] if name == "header_of_tools" else None
    for one, other in zip(written or WRITTEN[name](encrypted), golden(f"encrypted_{name}"), strict=True):
        assert _without_content(one) == _without_content(other)


def _unpacked(item: Item) -> Item:
    return item | {name: unpack(item[name]["B"]) for name in ("cfg", "body", "part") if name in item}


def _without_content(item: Item) -> Item:
    return item | {name: {"B": b""} for name in ("cfg", "body", "part") if name in item}


STORED = [item["sk"]["S"] for item in golden("steps", "turn_of_steps")]


def damages() -> list[Any]:
    """Returns every attribute of every item of a turn of steps, missing or in another form."""
    found = []
    for item in golden("steps", "turn_of_steps"):
        for attribute in sorted(item.keys() - {"pk", "sk", "ttl", "usd"}):
            for how, value in (("missing", None), ("another type", {"BOOL": True}), ("empty", {"S": ""})):
                if (attribute, how) not in (("tok", "empty"), ("fin", "empty"), ("ns", "missing")):
                    found.append(
                        pytest.param(item["sk"]["S"], attribute, value, id=f"{item['sk']['S']} {attribute} {how}")
                    )
    return found


@pytest.mark.parametrize(("sk", "attribute", "value"), damages())
def test_a_damaged_item_of_a_turn_of_steps_is_refused(sk: str, attribute: str, value: Item | None) -> None:
    scene = Scene(changed(golden(*LIVE, "steps", "turn_of_steps"), sk, **{attribute: value}))
    scene.require_untouched(ItemUnreadable, scene.take)


@pytest.mark.parametrize("sk", STORED)
def test_an_item_of_a_turn_of_steps_that_a_later_version_stored_is_refused(sk: str) -> None:
    scene = Scene(changed(golden(*LIVE, "steps", "turn_of_steps"), sk, v={"N": "4"}))
    scene.require_untouched(ItemVersionUnknown, scene.take)


@pytest.mark.parametrize("sk", STORED)
def test_an_encrypted_turn_of_steps_is_gone_without_its_key(sk: str) -> None:
    items = golden(*ENCRYPTED, "encrypted_steps", "encrypted_turn_of_steps")
    scene = Scene(items, keys=golden("key_erased"))
    scene.require_untouched(SessionNotFound, scene.take)
    scene = Scene(changed(items, sk, kid=None), keys=golden("key"))
    scene.require_untouched(ItemUnreadable, scene.take)
