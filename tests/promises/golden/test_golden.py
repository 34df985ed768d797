"""P12, P1 and P10: items of versions 1 and 2 are read for ever; an unreadable item is an error that changes nothing.

The JSON files of this folder hold items as they were written, bytes in base64. A later version adds files of its own
and leaves these.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import OWNER, START_MS, HashModel, HeldClock
from tests.promises.simulator.dynamodb import SimulatedDynamoDB
from tests.wrapping import LocalWrapper
from turnlog.adapters.dynamodb import DynamoDBSessionStore, OwnerKeys
from turnlog.adapters.dynamodb.encode import header_item, index_item, lease_item, meta_item, turn_items
from turnlog.adapters.dynamodb.items import partition
from turnlog.domain.margins import CLOCK_TOLERANCE
from turnlog.domain.messages import Message, ModelRequest, Reply, Usage
from turnlog.domain.packing import unpack
from turnlog.domain.quotas import QuotaCharge
from turnlog.domain.reply_events import OnEvent
from turnlog.domain.sessions import Move, Session, SessionSettings
from turnlog.domain.turns import MAX_TURN_BYTES, Lease, ModelCall, Totals, Turn, key_hash
from turnlog.errors import (
    ClockBehind,
    ErasureInProgress,
    ItemUnreadable,
    ItemVersionUnknown,
    ModelProtocolError,
    QuotaExceeded,
    SessionNotFound,
    TurnInProgress,
    TurnlogError,
    TurnsMissing,
    TurnTooLarge,
)
from turnlog.usecases.turn_protocol import TakenTurn, run_turn
from turnlog.usecases.turn_request import TurnPolicy, TurnRequest

Item = dict[str, Any]

GOLDEN = Path(__file__).parent
SESSIONS, USAGE, KEYS = "sessions", "usage", "keys"
EVE = "https://issuer.example/|eve"
LIVE = ("header", "meta", "turn", "turn_without_price")
NOW_MS = START_MS + 30_000


def golden(*names: str) -> list[Item]:
    return [_decoded(item) for name in names for item in json.loads((GOLDEN / f"{name}.json").read_text())["items"]]


def _decoded(item: Item) -> Item:
    return {name: _value(value) for name, value in item.items()}


def _value(value: Item) -> Item:
    ((kind, content),) = value.items()
    if kind == "B":
        return {"B": base64.b64decode(content)}
    return {"M": _decoded(content)} if kind == "M" else value


# --- what the items say -----------------------------------------------------------------------------------------------


def session(session_id: str = "ses_AAAAAAAAAAAAAAAAAAAAAA") -> Session:
    settings = SessionSettings("claude-sonnet-5-5", 1000, "Be brief. Sois brève.")
    return Session(OWNER, session_id, START_MS, START_MS + 86_400_000, 1_800_000, settings, b"F" * 16)


def turn(number: int, message: Message, content: str, **more: Any) -> Turn:
    usage = '{"input_tokens":10,"output_tokens":5,"cache_read_input_tokens":null,"later_field":{"a":1}}'
    given: dict[str, Any] = {
        "totals": Totals(15, Decimal("0.00007"), 200),
        "older_keys": b"",
    }
    cost_usd = more.pop("cost_usd", Decimal("0.00007"))
    return Turn(
        number=number,
        token=f"token-{number}",
        key=key(number),
        fingerprint=b"f" * 16,
        messages=(message, Message("assistant", content)),
        calls=(ModelCall("claude-sonnet-5-5", Usage(usage), cost_usd),),
        stop_reason=more.pop("stop_reason", "end_turn"),
        at_ms=START_MS + number * 1000,
        window_from=1,
        **(given | more),
    )


def key(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()[:16]


FIRST = turn(
    1,
    Message.of_text("What is 2 + 2? 😀"),
    '[{"type":"thinking","thinking":"…","signature":"c2ln"},{"type":"text","text":"4"}]',
)
SECOND = turn(
    2,
    Message("user", '[{"type":"tool_result","tool_use_id":"toolu_1","content":"ok"}]'),
    '[{"type":"some_later_block","x":[1,2.5,null]}]',
    stop_reason="tool_use",
    cost_usd=None,
    totals=Totals(30, Decimal("0.00007"), 400),
    older_keys=key_hash(FIRST.key),
)
IN_PARTS = turn(1, Message.of_text("A message that was as long as a book once. 😀"), '[{"type":"text","text":"4"}]')
CLAIM = Lease(3, "token-3", START_MS + 60_000, key(3), b"f" * 16, START_MS + 26_000, 2)
METADATA = (("case", "17 😀"), ("topic", ""))
MOVING = Lease(2, "mover", START_MS + 36_000, b"m" * 16, b"", START_MS + 2000)


# --- where they lie ---------------------------------------------------------------------------------------------------


class SilentModel(HashModel):
    """Counts its calls, and replies without a stop reason."""

    def reply(
        self, request: ModelRequest, seconds: float, on_event: OnEvent | None = None, *, retry_s: float | None = None
    ) -> Reply:
        whole = super().reply(request, seconds)
        return Reply(whole.model, whole.content, "", whole.usage)


@dataclass
class Scene:
    """A table with these items, and a caller, in an environment that can have `keys` if there are any."""

    items: list[Item]
    quotas: list[Item] = field(default_factory=list)
    keys: list[Item] = field(default_factory=list)
    model: HashModel = field(default_factory=HashModel)
    clock: HeldClock = field(default_factory=lambda: HeldClock(NOW_MS))

    def __post_init__(self) -> None:
        client: Any = SimulatedDynamoDB()
        self.client = client
        for table, items in ((SESSIONS, self.items), (USAGE, self.quotas), (KEYS, self.keys)):
            for item in items:
                self.client.put_item(TableName=table, Item=item)
        keys = OwnerKeys(client, KEYS, LocalWrapper(), self.clock, sleep=lambda _: None) if self.keys else None
        self.store = DynamoDBSessionStore(self.client, SESSIONS, USAGE, keys=keys, sleep=lambda _: None)

    @property
    def stored(self) -> list[Item]:
        return [copy.deepcopy(item) for table in (SESSIONS, USAGE, KEYS) for item in self.client.tables.items(table)]

    def take(self, text: str = "next", owner: str = OWNER, session_id: str = session().id) -> TakenTurn:
        asked = TurnRequest(
            owner, session_id, key(99), hashlib.sha256(text.encode()).digest()[:16], Message.of_text(text)
        )
        return run_turn(
            asked,
            store=self.store,
            model=self.model,
            clock=self.clock,
            remaining_s=lambda: 29.0,
            policy=TurnPolicy(),
        )

    def require_untouched(self, error: type[TurnlogError], act: Callable[[], object]) -> None:
        """Checks that the error is of exactly this kind, the tables are the same to the byte, and the model was not
        asked.
        """
        before = self.stored
        with pytest.raises(TurnlogError) as raised:
            act()
        assert type(raised.value) is error
        assert self.stored == before
        assert self.model.requests == []


def changed(items: list[Item], sk: str, **attributes: Item | None) -> list[Item]:
    """Returns the items with these attributes of one of them changed; None removes one."""
    found = copy.deepcopy(items)
    for item in found:
        if item["sk"]["S"] == sk:
            item |= {name: value for name, value in attributes.items() if value is not None}
            for name in [name for name, value in attributes.items() if value is None]:
                del item[name]
    return found


# --- version 1 is read ------------------------------------------------------------------------------------------------


LATER: Item = {"new": {"M": {"of": {"S": "a later version"}}}}


@pytest.mark.parametrize("more", [{}, LATER], ids=["as written", "with attributes of a later version"])
def test_a_session_of_version_1_is_read_unchanged(more: Item) -> None:
    scene = Scene([item | more for item in golden(*LIVE, "claim", "index")])
    view = scene.store.read(OWNER, session().id, NOW_MS, newest=25)
    assert view.session == session()
    assert view.title == "Titel: Größe 😀"
    assert (view.count, view.turns, view.running) == (2, (FIRST, SECOND), CLAIM)
    assert scene.store.turns(session(), 1, 2) == [FIRST, SECOND]
    assert scene.store.session_ids(OWNER) == [session().id]


def test_the_metadata_of_version_1_is_read_and_moves_along() -> None:
    scene = Scene(golden("header", "meta_with_metadata", "turn"))
    view = scene.store.read(OWNER, session().id, NOW_MS, newest=1)
    assert (view.title, view.metadata) == ("Titel: Größe 😀", METADATA)
    move = Move(OWNER, session().id, EVE, "ses_BBBBBBBBBBBBBBBBBBBBBB", b"m" * 16, "mover", NOW_MS, NOW_MS + 34_000)
    assert scene.store.read(EVE, scene.store.move(move).id, NOW_MS, newest=1).metadata == METADATA


@pytest.mark.parametrize("md", [{"S": "{}x"}, {"S": "[]"}, {"S": '{"a":1}'}, {"B": b"{}"}, {"S": ""}], ids=str)
def test_damaged_metadata_is_refused(md: Item) -> None:
    scene = Scene(changed(golden(*LIVE), "meta", md=md))
    scene.require_untouched(ItemUnreadable, scene.take)


@pytest.mark.parametrize("more", [{}, LATER], ids=["as written", "with attributes of a later version"])
def test_a_session_of_version_1_goes_on(more: Item) -> None:
    scene = Scene([item | more for item in golden(*LIVE)])
    taken = scene.take()
    assert taken.turn.number == 3
    assert taken.turn.totals.tokens == 45
    shown = scene.model.requests[0].messages
    assert shown == (FIRST.message, FIRST.reply.message, SECOND.message, SECOND.reply.message, Message.of_text("next"))


def test_a_lapsed_lease_of_version_1_is_taken_over() -> None:
    scene = Scene(golden(*LIVE, "claim"))
    scene.clock.now_ms = CLAIM.lease_expires_ms + 1
    assert scene.take().turn.number == 3


def test_a_turn_of_version_1_is_replayed_under_its_key() -> None:
    scene = Scene(golden(*LIVE))
    asked = TurnRequest(OWNER, session().id, FIRST.key, FIRST.fingerprint, FIRST.message)
    taken = run_turn(
        asked,
        store=scene.store,
        model=scene.model,
        clock=scene.clock,
        remaining_s=lambda: 29.0,
        policy=TurnPolicy(),
    )
    assert (taken.turn, taken.replayed) == (FIRST, True)


@pytest.mark.parametrize("more", [{}, LATER], ids=["as written", "with attributes of a later version"])
def test_a_turn_of_version_1_in_parts_is_read_whole(more: Item) -> None:
    large = session("ses_CCCCCCCCCCCCCCCCCCCCCC")
    scene = Scene([meta_item(large, ""), *(item | more for item in golden("header_of_parts", "turn_in_parts"))])
    assert scene.store.read(OWNER, large.id, NOW_MS, newest=25).turns == (IN_PARTS,)
    assert scene.store.delete(OWNER, large.id, NOW_MS)
    assert {item["st"]["S"] for item in scene.stored} == {"ended"}


def test_the_tombstones_of_version_1_are_a_session_that_is_gone() -> None:
    scene = Scene(golden("tombstones"))
    scene.require_untouched(SessionNotFound, scene.take)
    scene.require_untouched(SessionNotFound, lambda: scene.store.create(session(), "Again"))
    assert scene.store.delete(OWNER, session().id, NOW_MS) is False


def test_tombstones_of_version_1_count_more_than_a_header() -> None:
    scene = Scene(golden("tombstones", "header", "meta"))
    scene.require_untouched(SessionNotFound, scene.take)


def test_a_moved_session_of_version_1_is_found_by_its_move() -> None:
    there = replace(session(), owner=EVE, id="ses_BBBBBBBBBBBBBBBBBBBBBB")
    scene = Scene([*golden("moved"), header_item(there)])
    scene.require_untouched(SessionNotFound, scene.take)
    repeat = Move(OWNER, session().id, EVE, there.id, b"m" * 16, "again", NOW_MS, NOW_MS + 34_000)
    assert scene.store.move(repeat) == there
    another = Move(OWNER, session().id, EVE, there.id, b"n" * 16, "again", NOW_MS, NOW_MS + 34_000)
    scene.require_untouched(SessionNotFound, lambda: scene.store.move(another))


def test_an_unfinished_move_of_version_1_is_undone_by_the_next_turn() -> None:
    scene = Scene(golden("header", "meta", "turn", "moving_claim"))
    scene.clock.now_ms = MOVING.lease_expires_ms + 1
    assert scene.take().turn.number == 2
    there = partition(EVE, "ses_BBBBBBBBBBBBBBBBBBBBBB")
    assert [item["st"]["S"] for item in scene.client.tables.partition(SESSIONS, there)] == ["ended"]


def test_the_sweepers_entry_of_version_1_ends_an_idle_session() -> None:
    scene = Scene(golden(*LIVE, "index", "sweepers_entry", "swept"))
    assert scene.store.sweep(NOW_MS + 3_600_000) == 1
    assert {item["st"]["S"] for item in scene.stored if "st" in item} == {"ended"}
    assert scene.store.session_ids(OWNER) == []


def test_quotas_of_version_1_count_on() -> None:
    scene = Scene(golden("header", "meta"), golden("allowances"))
    charge = QuotaCharge("tokens#2026-09-21", Decimal(100), Decimal(1199), START_MS + 86_400_000)
    lease = Lease(1, "token", NOW_MS + 34_000, key(1), b"f" * 16, NOW_MS, charges=(charge,))
    scene.require_untouched(QuotaExceeded, lambda: scene.store.acquire(session(), lease, over=None))


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("header", [header_item(session())]),
        ("meta", [meta_item(session(), "Titel: Größe 😀")]),
        ("meta_with_metadata", [meta_item(session(), "Titel: Größe 😀", METADATA)]),
        ("index", [index_item(session())]),
        ("claim", [lease_item(session(), CLAIM)]),
        ("turn", turn_items(session(), FIRST)),
        ("turn_without_price", turn_items(session(), SECOND)),
    ],
)
def test_this_version_writes_what_version_1_reads(name: str, written: list[Item]) -> None:
    """Another form needs another version. The bytes of zlib may change."""
    assert [_unpacked(item) for item in written] == [_unpacked(item) for item in golden(name)]


def _unpacked(item: Item) -> Item:
    packed = {name: unpack(item[name]["B"]) for name in ("cfg", "body") if name in item}
    return item | packed


# --- version 2 is read ------------------------------------------------------------------------------------------------


ENCRYPTED = ("sealed_header", "sealed_meta", "sealed_turn", "sealed_turn_without_price")


@pytest.mark.parametrize("more", [{}, LATER], ids=["as written", "with attributes of a later version"])
def test_a_session_of_version_2_is_read_unchanged(more: Item) -> None:
    items = [item | more for item in golden(*ENCRYPTED, "claim", "sealed_index")]
    scene = Scene(items, keys=[item | more for item in golden("key")])
    view = scene.store.read(OWNER, session().id, NOW_MS, newest=25)
    assert view.session == session()
    assert view.title == "Titel: Größe 😀"
    assert (view.count, view.turns, view.running) == (2, (FIRST, SECOND), CLAIM)
    assert scene.store.turns(view.session, 1, 2) == [FIRST, SECOND]
    assert scene.store.session_ids(OWNER) == [session().id]


def test_a_session_of_version_2_goes_on_under_its_key() -> None:
    scene = Scene(golden(*ENCRYPTED), keys=golden("key"))
    assert scene.take().turn.totals.tokens == 45
    shown = scene.model.requests[0].messages
    assert shown == (FIRST.message, FIRST.reply.message, SECOND.message, SECOND.reply.message, Message.of_text("next"))
    (third,) = [item for item in scene.stored if item["sk"]["S"] == "000000003"]
    assert (third["v"], third["kid"]) == ({"N": "2"}, {"S": "000001"})


def test_a_turn_of_version_2_in_parts_is_read_whole() -> None:
    large = session("ses_CCCCCCCCCCCCCCCCCCCCCC")
    scene = Scene(golden("sealed_header_of_parts", "sealed_turn_in_parts"), keys=golden("key"))
    cipher = OwnerKeys(scene.client, KEYS, LocalWrapper(), scene.clock).current(OWNER)
    scene.client.put_item(TableName=SESSIONS, Item=meta_item(replace(large, cipher=cipher), ""))
    assert scene.store.read(OWNER, large.id, NOW_MS, newest=25).turns == (IN_PARTS,)


def test_version_1_goes_on_beside_version_2() -> None:
    scene = Scene(golden(*LIVE, "index"), keys=golden("key"))
    assert scene.take().turn.number == 3
    (third,) = [item for item in scene.stored if item["sk"]["S"] == "000000003"]
    assert third["v"] == {"N": "1"}
    assert scene.store.session_ids(OWNER) == [session().id]


@pytest.mark.parametrize("left", ["key_being_erased", "key_erased"])
def test_a_session_of_version_2_is_gone_without_its_key(left: str) -> None:
    scene = Scene(golden(*ENCRYPTED, "sealed_index"), keys=golden(left))
    scene.require_untouched(SessionNotFound, scene.take)
    assert scene.store.session_ids(OWNER) == []


def test_nothing_begins_during_an_erasure_and_later_under_another_key() -> None:
    scene = Scene([], keys=golden("key_being_erased"))
    scene.require_untouched(ErasureInProgress, lambda: scene.store.create(session(), ""))
    assert Scene([], keys=golden("key_erased")).store.create(session(), "").cipher.kid == "000002"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("sealed_header", lambda encrypted: [header_item(encrypted)]),
        ("sealed_meta", lambda encrypted: [meta_item(encrypted, "Titel: Größe 😀")]),
        ("sealed_index", lambda encrypted: [index_item(encrypted)]),
        ("sealed_turn", lambda encrypted: turn_items(encrypted, FIRST)),
        ("sealed_turn_without_price", lambda encrypted: turn_items(encrypted, SECOND)),
    ],
)
def test_this_version_writes_what_version_2_reads(name: str, written: Callable[[Session], list[Item]]) -> None:
    """All is the same to the byte but the encrypted attribute, which differs each time."""
    scene = Scene(golden(*ENCRYPTED), keys=golden("key"))
    encrypted = scene.store.read(OWNER, session().id, NOW_MS, newest=1).session
    assert [_without_content(item) for item in written(encrypted)] == [_without_content(item) for item in golden(name)]


def _without_content(item: Item) -> Item:
    return item | {name: {"B": b""} for name in ("cfg", "title", "sid", "body") if name in item}


@pytest.mark.parametrize("sk", ["session", "meta", "000000001", "000000002"])
@pytest.mark.parametrize(
    ("attribute", "value", "error"),
    [
        ("v", {"N": "4"}, ItemVersionUnknown),
        ("v", None, ItemUnreadable),
        ("kid", None, ItemUnreadable),
        ("kid", {"S": "000009"}, ItemUnreadable),
    ],
)
def test_an_encrypted_item_must_name_its_key(
    sk: str, attribute: str, value: Item | None, error: type[TurnlogError]
) -> None:
    scene = Scene(changed(golden(*ENCRYPTED), sk, **{attribute: value}), keys=golden("key"))
    scene.require_untouched(error, scene.take)


# --- what cannot be read ----------------------------------------------------------------------------------------------


ALL = golden(*LIVE, "claim")
SKS = {"header": "session", "meta": "meta", "turn": "000000001", "newest turn": "000000002", "claim": "000000003"}


@pytest.mark.parametrize("sk", SKS.values(), ids=SKS)
def test_an_item_of_a_later_version_is_refused(sk: str) -> None:
    scene = Scene(changed(ALL, sk, v={"N": "4"}))
    if sk == SKS["claim"]:
        scene.require_untouched(TurnInProgress, scene.take)
        scene.clock.now_ms = CLAIM.lease_expires_ms
    scene.require_untouched(ItemVersionUnknown, scene.take)


def test_a_tombstone_of_a_later_version_is_refused() -> None:
    scene = Scene(golden("header") + changed(golden("tombstones"), "000000002", v={"N": "4"}))
    scene.require_untouched(ItemVersionUnknown, scene.take)


@pytest.mark.parametrize("sk", [sk for name, sk in SKS.items() if name != "header"])
def test_an_encrypted_item_in_a_plain_session_is_damage(sk: str) -> None:
    scene = Scene(changed(ALL, sk, v={"N": "2"}))
    scene.require_untouched(ItemUnreadable, scene.take)


OPTIONAL = {"pk", "sk", "ttl", "usd"}


def damages() -> list[Any]:
    """Returns every attribute of every item, missing or in another form."""
    found = []
    for name, sk in SKS.items():
        (item,) = (item for item in ALL if item["sk"]["S"] == sk)
        for attribute in sorted(item.keys() - OPTIONAL - ({"fp"} if name == "header" else set())):
            for how, value in (("missing", None), ("another type", {"BOOL": True}), ("empty", {"S": ""})):
                if (attribute, how) not in (("title", "empty"), ("tok", "empty"), ("fin", "empty")):
                    found.append(pytest.param(sk, attribute, value, id=f"{name}: {attribute} {how}"))
    return found


@pytest.mark.parametrize(("sk", "attribute", "value"), damages())
def test_a_damaged_item_is_refused(sk: str, attribute: str, value: Item | None) -> None:
    scene = Scene(changed(ALL, sk, **{attribute: value}))
    scene.require_untouched(ItemUnreadable, scene.take)


@pytest.mark.parametrize("body", [b"", b"z", b"zbroken", b"j", b"j{}", b"jnull", b"x{}"])
def test_a_turn_whose_content_is_damaged_is_refused(body: bytes) -> None:
    scene = Scene(changed(ALL, "000000002", body={"B": body}))
    scene.require_untouched(ItemUnreadable, scene.take)


@pytest.mark.parametrize("missing", ["000000001.01", "000000001.02"])
def test_a_turn_of_which_a_part_is_missing_is_refused(missing: str) -> None:
    items = [item for item in golden("header_of_parts", "turn_in_parts") if item["sk"]["S"] != missing]
    scene = Scene(items)
    scene.require_untouched(ItemUnreadable, lambda: scene.take(session_id="ses_CCCCCCCCCCCCCCCCCCCCCC"))


@pytest.mark.parametrize("sk", ["000000001", "000000002"])
def test_a_gap_in_the_turns_is_refused(sk: str) -> None:
    scene = Scene([item for item in ALL if item["sk"]["S"] != sk])
    scene.require_untouched(TurnsMissing, scene.take)


def test_a_clock_far_behind_is_refused() -> None:
    scene = Scene(golden(*LIVE))
    scene.clock.now_ms = SECOND.at_ms - int(CLOCK_TOLERANCE.total_seconds() * 1000) - 1
    scene.require_untouched(ClockBehind, scene.take)
    scene.clock.tick(ms=1)
    assert scene.take().turn.number == 3


@pytest.mark.parametrize(
    ("owner", "session_id"),
    [(EVE, session().id), (OWNER, "ses_ZZZZZZZZZZZZZZZZZZZZZZ"), (OWNER, ""), ("", session().id), (OWNER + "|", "\0")],
)
def test_a_foreign_owner_or_an_unknown_id_is_not_found(owner: str, session_id: str) -> None:
    scene = Scene(golden(*LIVE, "index"))
    scene.require_untouched(SessionNotFound, lambda: scene.take(owner=owner, session_id=session_id))
    assert scene.store.session_ids(owner) == ([session().id] if owner == OWNER else [])


def test_a_message_too_large_to_store_is_refused_before_the_model() -> None:
    scene = Scene(golden(*LIVE))
    noise = base64.b64encode(hashlib.shake_256(b"noise").digest(MAX_TURN_BYTES)).decode()
    scene.require_untouched(TurnTooLarge, lambda: scene.take(noise))


def test_a_reply_without_a_stop_reason_is_an_error_and_leaves_no_content() -> None:
    """The model was paid: so the lease stays to count the attempt, its time over, and the next turn goes on."""
    scene = Scene(golden(*LIVE), model=SilentModel())
    before = scene.stored
    with pytest.raises(ModelProtocolError):
        scene.take()
    (lease,) = [item for item in scene.stored if item not in before]
    assert [item for item in scene.stored if item != lease] == before
    assert set(lease) == {"pk", "sk", "v", "ttl", "st", "tok", "til", "k", "fp", "ts", "att"}
    assert int(lease["til"]["N"]) < NOW_MS
    scene.model = HashModel()
    assert scene.take().turn.number == 3
