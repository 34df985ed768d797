"""FileSessionStore: the contract, and what it leaves on the disk, whatever happens to it there."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.contract.later_versions import LaterVersionContract, StoreLater
from tests.contract.session_store import (
    EVE,
    HOUR_MS,
    MARGIN_MS,
    SessionStoreContract,
    at_once,
    charge,
    is_gone,
    lease_of,
    move_of,
    take,
    take_all,
    take_in_race,
    turn_of,
)
from tests.contract.steps import Store, TurnStoreContract
from tests.fakes import MODEL, OWNER, START_MS, TOOL_RESULT, TOOL_USE, new_session, two_call_turn
from turnlog.adapters.local.files import FileSessionStore, records
from turnlog.adapters.local.files.records import MARK_AT, Labels, SessionTombstone, decode_only, encode, split, whole
from turnlog.adapters.local.files.store import session_path
from turnlog.adapters.local.locked_store import Checkpoint
from turnlog.domain.messages import Message, Usage
from turnlog.domain.owners import owner_hash
from turnlog.domain.quotas import QuotaCharges, QuotaCounters
from turnlog.domain.sessions import Session, SessionChanges, SessionSettings
from turnlog.domain.turns import INTERRUPTED, Lease, ModelCall, Step, Tombstone, Turn
from turnlog.errors import (
    ItemUnreadable,
    ItemVersionUnknown,
    LeaseLost,
    QuotaExceeded,
    SessionCorrupt,
    SessionNotFound,
    StoreUnavailable,
    TurnsMissing,
)
from turnlog.ports.session_store import TurnStore


def no_sync(_: int) -> None:
    """Syncs nothing: a process that dies needs none, and it takes most of the time. Syncing has tests of its own."""


def store_later_in(root: Path) -> StoreLater:
    """Writes a session's file in the next version of the form."""

    def make_later(session: Session) -> Callable[[], object]:
        path = session_path(root, session.owner, session.id)
        before = path.read_bytes()
        path.write_bytes(before.replace(b"turnlog 1", b"turnlog 2", 1))
        return lambda: path.write_bytes(before)

    return make_later


class TestFiles(SessionStoreContract, TurnStoreContract, LaterVersionContract):
    @pytest.fixture
    def store(self, root: Path) -> Store:
        return FileSessionStore(root, sync=no_sync)

    @pytest.fixture
    def store_later(self, root: Path) -> StoreLater:
        return store_later_in(root)


class OpenedAnew:
    """A store that lives for one call, so that nothing but the files carries over to the next."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            with closing(FileSessionStore(self._root, sync=no_sync)) as store:
                return getattr(store, method)(*given, **named)

        return call


class TestFilesOpenedAnewForEachCall(SessionStoreContract, TurnStoreContract):
    @pytest.fixture
    def store(self, root: Path) -> Any:
        return OpenedAnew(root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(root: Path) -> FileSessionStore:
    return FileSessionStore(root, sync=no_sync)


@pytest.fixture
def session(store: FileSessionStore) -> Session:
    return store.create(new_session(), "A title")


@pytest.fixture
def path(root: Path, session: Session) -> Path:
    """The session's file."""
    return session_path(root, session.owner, session.id)


CALL = ModelCall(MODEL, Usage('{"input_tokens":3}'), Decimal("0.00001"), id="msg_1", request_id="req_1")
QUESTION = (Message.of_text("Who is Ada?"),)


def step_of(number: int) -> Step:
    """A step whose tools have not run."""
    return Step(number, Message("assistant", TOOL_USE), CALL)


def with_results(step: Step) -> Step:
    return replace(step, results=Message("user", TOOL_RESULT))


def checkpointed(store: TurnStore, session: Session, lease: Lease, steps: int) -> Lease:
    """Keeps so many steps, each with its results, and one more without. Returns the lease as it is then."""
    for number in range(1, steps + 2):
        message, first = (QUESTION if number == 1 else ()), replace(lease, sequence=2 * number - 1, steps=number)
        assert store.checkpoint(session, first, lease.sequence, step_of(number), message=message) == first
        lease = first
        if number <= steps:
            lease = replace(first, sequence=2 * number)
            assert store.checkpoint(session, lease, first.sequence, with_results(step_of(number))) == lease
    return lease


def kept_steps(steps: int) -> tuple[tuple[Message, ...], tuple[Step, ...]]:
    """The steps that `checkpointed` has kept."""
    return QUESTION, (*(with_results(step_of(number)) for number in range(1, steps + 1)), step_of(steps + 1))


def interrupted(lease: Lease, steps: int) -> Turn:
    """The turn of so many steps with results and one without, after its lease has lapsed."""
    message, kept = kept_steps(steps)
    messages = message + tuple(each for step in kept for each in step.messages)
    calls = tuple(step.call for step in kept)
    turn = replace(two_call_turn(), messages=messages, calls=calls, stop_reason=INTERRUPTED, steps=lease.steps)
    at_ms = lease.lease_expires_ms + 1
    return replace(turn, number=lease.number, token=lease.token, key=lease.key, at_ms=at_ms)


def all_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def files_below(root: Path) -> set[str]:
    """The names of all files but the lock."""
    return {path.name for path in all_below(root) if path.is_file()} - {"lock"}


# --- names and permissions


STRANGE = ["../../x", "/etc/passwd", "", ".", "a\0b", "owner#1", "con", "☃" * 5000, "a/../../b", "-rf"]


@pytest.mark.parametrize("strange", STRANGE, ids=[text[:9] or "empty" for text in STRANGE])
def test_neither_owner_nor_id_is_part_of_a_path(
    store: FileSessionStore, root: Path, tmp_path: Path, strange: str
) -> None:
    named = [replace(new_session(), id=strange), new_session(strange), replace(new_session(strange), id=strange)]
    for number, session in enumerate(named):
        store.create(session, "")
        turn = take(store, session, 1)
        assert store.read(session.owner, session.id, START_MS, newest=1).turns == (turn,)
        assert store.session_ids(session.owner) == [session.id]
        store.move(replace(move_of(session), to_id=f"{strange}{number}"))
    assert list(tmp_path.iterdir()) == [root]
    allowed = re.compile("[A-Za-z0-9_-]{43}|[0-9a-f]{64}|[0-9a-f]{64}.gone|lock")
    assert [path.name for path in all_below(root) if not allowed.fullmatch(path.name)] == []


def test_an_unreadable_session_is_listed_and_can_be_deleted(store: FileSessionStore, root: Path) -> None:
    damaged, sound = store.create(new_session(), ""), store.create(new_session(), "")
    path = session_path(root, OWNER, damaged.id)
    path.write_bytes(b"")
    assert set(store.session_ids(OWNER)) == {sound.id, path.name}
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, path.name, START_MS, newest=1)
    assert store.delete("somebody else", path.name, START_MS) is False
    assert store.delete(OWNER, path.name, START_MS) is True
    assert store.session_ids(OWNER) == [sound.id]


def test_owner_and_id_cannot_be_shifted_into_one_another(root: Path) -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a|b", "c"), ("a", "b|c"), ("a\0", "b"), ("a", "\0b"), ("", "abc")]
    assert len({session_path(root, owner, session_id) for owner, session_id in pairs}) == len(pairs)


def values_of(path: Path) -> list[bytes]:
    """The records of a file, as they are before they are deflated."""
    return [zlib.decompress(record[records._FRAME.size :]) for record in split(path.read_bytes())[0]]


def test_no_file_holds_the_owner(store: FileSessionStore, root: Path, session: Session) -> None:
    take(store, session, 1)
    store.acquire(session, lease_of(2, charges=(charge("1"),)), over=None)
    store.move(replace(move_of(session), at_ms=START_MS + HOUR_MS // 4))
    paths = [path for path in all_below(root) if path.is_file() and path.name != "lock"]
    held = b"".join(value for path in paths for value in values_of(path))
    assert len(paths) == 3
    assert b"issuer.example" not in held


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_all_is_the_user_s_alone_whatever_the_umask(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = FileSessionStore(root, sync=no_sync)
        session, child = new_session(), new_session()
        store.create(session, "")
        store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
        store.commit(session, turn_of(lease_of(1)))
        store.acquire(session, lease_of(2), over=None)
        store.fork(session, 1, child, "")
        store.move(move_of(child))
    finally:
        os.umask(before)
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [root, *all_below(root)]}
    assert modes == {(True, 0o700), (False, 0o600)}


# --- what lies there is damaged


def garbled(data: bytes) -> Iterator[bytes]:
    """Changes each byte, one after the other, and cuts the data at each length."""
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        yield data[:at]


def test_a_changed_byte_or_a_cut_file_is_never_a_shorter_history(
    store: FileSessionStore, session: Session, path: Path
) -> None:
    take(store, session, 1)
    store.change(OWNER, session.id, SessionChanges(title="New"), START_MS)
    store.acquire(session, lease_of(2), over=None)
    checkpointed(store, session, lease_of(2), 1)
    store.change(OWNER, session.id, SessionChanges(metadata=METADATA), START_MS)
    intact = path.read_bytes()
    for data in garbled(intact):
        path.write_bytes(data)
        with pytest.raises(SessionCorrupt):
            store.read(OWNER, session.id, START_MS, newest=25)
    path.write_bytes(intact)
    assert store.read(OWNER, session.id, START_MS, newest=25).count == 1


@pytest.mark.parametrize("name", ["quotas", "gone"])
def test_damaged_quotas_and_tombstones_are_errors(
    store: FileSessionStore, session: Session, path: Path, name: str
) -> None:
    store.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS)
    store.delete(OWNER, session.id, START_MS)
    damaged = path.parent / "quotas" if name == "quotas" else path.with_suffix(".gone")
    for data in [*garbled(damaged.read_bytes()), damaged.read_bytes() + b"x"]:
        damaged.write_bytes(data)
        with pytest.raises(SessionCorrupt):
            if name == "quotas":
                store.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS)
            else:
                store.create(session, "")


def rewritten(path: Path, changes: dict[bytes, bytes]) -> None:
    """Writes the file as another version would: with other names and values, and checksums that fit."""
    made = []
    for record in split(path.read_bytes())[0]:
        value = zlib.decompress(record[records._FRAME.size :])
        for old, new in changes.items():
            value = value.replace(old, new, 1)
        rest = zlib.compress(value)
        made.append(records._FRAME.pack(record[:1], len(rest), zlib.crc32(record[:1] + rest)) + rest)
    path.write_bytes(whole(*made))


def test_fields_of_a_later_version_are_ignored(store: FileSessionStore, session: Session, path: Path) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    rewritten(path, {b"[{": b'[{"later":{"a":[1]},'})
    assert b"later" in b"".join(values_of(path))
    view = store.read(OWNER, session.id, START_MS, newest=25)
    assert (view.session, view.turns, view.running) == (session, (turn,), lease_of(2))


@pytest.mark.parametrize("version", [b"2", b"3", b"10", b"200"])
def test_a_later_form_is_not_guessed(store: FileSessionStore, session: Session, path: Path, version: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(b"turnlog 1", b"turnlog " + version))
    with pytest.raises(ItemVersionUnknown):
        store.read(OWNER, session.id, START_MS, newest=25)


@pytest.mark.parametrize("version", [b"0", b"", b"-2", b"02", b"x"])
def test_a_form_that_never_was_is_damage(store: FileSessionStore, session: Session, path: Path, version: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(b"turnlog 1", b"turnlog " + version))
    with pytest.raises(ItemUnreadable):
        store.read(OWNER, session.id, START_MS, newest=25)


def test_a_record_of_a_later_kind_is_not_passed_over(store: FileSessionStore, session: Session, path: Path) -> None:
    take(store, session, 1)
    kind, value = b"L", zlib.compress(b"[]")
    frame = records._FRAME.pack(kind, len(value), zlib.crc32(kind + value))
    path.write_bytes(whole(*split(path.read_bytes())[0], frame + value))
    before = path.read_bytes()
    acts = (
        lambda: store.read(OWNER, session.id, START_MS, newest=25),
        lambda: store.acquire(session, lease_of(2), over=None),
    )
    for act in acts:
        with pytest.raises(ItemVersionUnknown):
            act()
    assert path.read_bytes() == before


METADATA = (("case", "17"), ("topic", ""))


def become_an_earlier_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that knew neither steps nor metadata."""
    monkeypatch.setattr(records, "_KINDS", records._KINDS | {Checkpoint: b"?", Labels: b"?"})


@pytest.mark.parametrize("what", ["steps", "metadata"])
def test_an_earlier_version_leaves_a_session_with_new_records_alone(
    store: FileSessionStore, session: Session, path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store.acquire(session, lease_of(1), over=None)
    if what == "steps":
        checkpointed(store, session, lease_of(1), 1)
    else:
        store.change(OWNER, session.id, SessionChanges(metadata=METADATA), START_MS)
    before = path.read_bytes()
    become_an_earlier_version(monkeypatch)
    for act in (
        lambda: store.read(OWNER, session.id, START_MS, newest=25),
        lambda: store.commit(session, turn_of(lease_of(1))),
    ):
        with pytest.raises(ItemVersionUnknown):
            act()
    assert path.read_bytes() == before
    assert store.delete(OWNER, session.id, START_MS) is True


def test_an_earlier_version_reads_what_has_neither_steps_nor_metadata(
    store: FileSessionStore, session: Session, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.acquire(session, lease_of(1), over=None)
    renewed = replace(lease_of(1), lease_expires_ms=START_MS + 90_000, sequence=7)
    assert store.renew(session, renewed, 0) == renewed
    assert store.ask_to_stop(session, renewed)
    store.commit(session, turn_of(lease_of(1)))
    become_an_earlier_version(monkeypatch)
    assert store.read(OWNER, session.id, START_MS, newest=25).turns == (turn_of(lease_of(1)),)


@pytest.mark.parametrize("name", ["quotas", "gone"])
def test_quotas_and_tombstones_of_a_later_version_are_left_alone(
    store: FileSessionStore, session: Session, path: Path, name: str
) -> None:
    store.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS)
    store.delete(OWNER, session.id, START_MS)
    later = path.parent / "quotas" if name == "quotas" else path.with_suffix(".gone")
    later.write_bytes(later.read_bytes().replace(b"turnlog 1", b"turnlog 2", 1))
    before = later.read_bytes()
    with pytest.raises(ItemVersionUnknown):
        if name == "quotas":
            store.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS)
        else:
            store.create(session, "")
    assert store.erase(OWNER, START_MS) == 0
    store.sweep(START_MS + 400 * 24 * HOUR_MS)
    assert later.read_bytes() == before


CHANGES = [
    (b'"token":', b'"taken":'),
    (b'"totals":{', b'"totals":1,"x":{'),
    (b'"key":"', b'"key":"?'),
    (b'"stop_reason":"end_turn"', b'"stop_reason":""'),
    (b'"ids":{"', b'"ids":{"0'),
    (b'"max_tokens"', b'"most_tokens"'),
]


@pytest.mark.parametrize("change", CHANGES, ids=[old.decode() for old, _ in CHANGES])
def test_a_record_that_lacks_something_is_an_error(
    store: FileSessionStore, session: Session, path: Path, change: tuple[bytes, bytes]
) -> None:
    take(store, session, 1)
    rewritten(path, dict([change]))
    with pytest.raises(ItemUnreadable):
        store.read(OWNER, session.id, START_MS, newest=25)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"window_from":1', b'"window_from":2'),
        (b'"window_from":1', b'"window_from":0'),
        (b'"created_ms":1', b'"created_ms":-1'),
        (b'"expires_ms":1', b'"expires_ms":1000000000'),
        (b'"idle_ms":1', b'"idle_ms":-1'),
        (b'"at_ms":1', b'"at_ms":1000000000'),
        (b'"at_ms":1', b'"at_ms":2'),
        (b'"lease_expires_ms":1', b'"lease_expires_ms":2'),
    ],
    ids=str,
)
def test_values_that_nothing_can_have_are_damage(
    store: FileSessionStore, session: Session, path: Path, old: bytes, new: bytes
) -> None:
    take(store, session, 1)
    if old.startswith(b'"lease'):
        store.acquire(session, lease_of(2), over=None)
    before = path.read_bytes()
    rewritten(path, {old: new})
    assert path.read_bytes() != before
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, session.id, START_MS, newest=25)
    assert store.delete(OWNER, session.id, START_MS) is True
    assert store.session_ids(OWNER) == []


def test_the_stored_form_is_this_one(store: FileSessionStore, path: Path, session: Session) -> None:
    """A field that is renamed in the domain would change what is stored, unseen by every other test."""
    lease = replace(lease_of(1, charges=(charge("1"),)), attempt=2, attempt_counts=b"counts!")
    store.acquire(session, lease, over=None)
    store.commit(session, replace(turn_of(lease, "turn 1"), older_keys=b"abcdef", attempt_counts=b"counts!"))
    found = [re.sub(rb"[0-9a-f]{64}|ses_[\w-]+", b"*", value).decode() for value in values_of(path)]
    assert found == STORED_FORM
    assert values_of(path.parent / "quotas") == [b'[{"used":{"turns#2026-11-25T14:05":["1",1790000060000]}}]']


def test_the_stored_form_of_a_step_is_this_one(store: FileSessionStore, path: Path, session: Session) -> None:
    lease = lease_of(1, charges=(charge("1"),))
    store.acquire(session, lease, over=None)
    checkpointed(store, session, lease, 1)
    found = [value.decode() for value in values_of(path)[3:]]
    assert found == [REPLY, RESULTS, SECOND_REPLY]


def test_the_stored_form_of_metadata_is_this_one(store: FileSessionStore, path: Path, session: Session) -> None:
    before = path.read_bytes()
    store.change(OWNER, session.id, SessionChanges(metadata=METADATA), START_MS)
    assert path.read_bytes()[MARK_AT + 12 :].startswith(before[MARK_AT + 12 :])
    assert values_of(path)[2:] == [b'[{"title":"A title","metadata":[["case","17"],["topic",""]]}]']
    store.change(OWNER, session.id, SessionChanges("New", ()), START_MS)
    assert values_of(path)[3:] == [b'[{"title":"New"}]']
    child = new_session()
    store.create(child, "A title", metadata=METADATA)
    assert [record[:1] for record in split(session_path(path.parents[1], OWNER, child.id).read_bytes())[0]] == [
        b"S",
        b"H",
        b"M",
    ]


def test_a_title_after_metadata_is_the_newer_one(store: FileSessionStore, session: Session) -> None:
    store.change(OWNER, session.id, SessionChanges("First", METADATA), START_MS)
    store.change(OWNER, session.id, SessionChanges("Second"), START_MS)
    turn = take(store, session, 1)
    view = store.read(OWNER, session.id, START_MS, newest=1)
    assert (view.title, view.metadata, view.turns, view.running) == ("Second", METADATA, (turn,), None)
    store.change(OWNER, session.id, SessionChanges(metadata=METADATA[1:]), START_MS)
    view = store.read(OWNER, session.id, START_MS, newest=1)
    assert (view.title, view.metadata, view.turns, view.running) == ("Second", METADATA[1:], (turn,), None)


def test_settings_and_calls_of_every_form_are_read_as_they_were(store: FileSessionStore) -> None:
    settings = SessionSettings(
        MODEL,
        1000,
        stop_sequences=("END", "\0"),
        thinking='{"type":"adaptive"}',
        effort="low",
        tools='[{"name":"look_up"}]',
        own_tools=("look_up",),
        tool_choice="auto",
        output_schema='{"type":"object"}',
        cache="1h",
    )
    session = replace(new_session(), settings=settings)
    call = replace(CALL, stop_sequence="END", stop_details='{"type":"refusal"}')
    first = replace(turn_of(lease_of(1)), calls=(call,))
    store.create(session, "", first=first)
    view = store.read(OWNER, session.id, START_MS, newest=1)
    assert (view.session, view.turns) == (session, (first,))


HEAD = (
    '[{"ids":{"*":"*"},"title":"A title","created_ms":1790000000000,"expires_ms":1790086400000,"idle_ms":1800000,'
    '"fingerprint":"","lease":LEASE}]'
)
LEASE = (
    '{"number":1,"token":"token-1","lease_expires_ms":1790000065000,"key":"6b303030303030303030303030303031",'
    '"fingerprint":"66666666666666666666666666666666","at_ms":1790000000000,"attempt":2,'
    '"attempt_counts":"636f756e747321"}'
)
TURN = (
    r'[{"number":1,"token":"token-1","key":"6b303030303030303030303030303031",'
    r'"fingerprint":"66666666666666666666666666666666",'
    r'"messages":[{"role":"user","content":"[{\"type\":\"text\",\"text\":\"turn 1\"}]"},'
    r'{"role":"assistant","content":"[{\"type\":\"text\",\"text\":\"☃\"}]"}],'
    r'"calls":[{"model":"claude-sonnet-5-5","usage":{"received":"{\"input_tokens\":3,\"new\":{\"a\":null}}"},'
    r'"cost_usd":"0.000012"}],"stop_reason":"end_turn",'
    r'"totals":{"tokens":12,"cost_usd":"0.00012","content_bytes":40},'
    r'"at_ms":1790000000005,"window_from":1,"older_keys":"616263646566","attempt_counts":"636f756e747321"}]'
)
STEP_LEASE = (
    '"lease":{"number":1,"token":"token-1","lease_expires_ms":1790000065000,"key":"6b303030303030303030303030303031",'
    '"fingerprint":"66666666666666666666666666666666","at_ms":1790000000000,"sequence":SEQUENCE,"steps":1}'
)
REPLY = (
    "[{" + STEP_LEASE.replace("SEQUENCE", "1") + r',"number":1,"reply":{"role":"assistant","content":"'
    r"[{\"type\":\"thinking\",\"thinking\":\"I look it up.\",\"signature\":\"c2lnbmVk\"},"
    r'{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"look_up\",\"input\":{\"word\":\"ada\"}}]"},'
    r'"call":{"model":"claude-sonnet-5-5","usage":{"received":"{\"input_tokens\":3}"},"cost_usd":"0.00001",'
    r'"id":"msg_1","request_id":"req_1"},'
    r'"message":[{"role":"user","content":"[{\"type\":\"text\",\"text\":\"Who is Ada?\"}]"}]}]'
)
SECOND_REPLY = (
    REPLY.partition(',"message"')[0].replace('"sequence":1,"steps":1},"number":1', '"sequence":3,"steps":2},"number":2')
    + "}]"
)
RESULTS = (
    "[{" + STEP_LEASE.replace("SEQUENCE", "2") + r',"number":1,"results":{"role":"user","content":"'
    r'[{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_1\",\"content\":\"a name\"}]"}}]'
)
STORED_FORM = [
    '[{"model":"claude-sonnet-5-5","max_tokens":1000,"system":"Be brief."}]',
    HEAD.replace("LEASE", "null"),
    HEAD.replace("LEASE", LEASE),
    TURN,
]


@pytest.mark.parametrize("newest", [1, 25])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_gap_in_the_turns_is_an_error(
    store: FileSessionStore, session: Session, path: Path, lost: int, newest: int
) -> None:
    take_all(store, session, 4)
    found = split(path.read_bytes())[0]
    turns = [record for record in found if record[:1] == b"T"]
    path.write_bytes(whole(*(record for record in found if record != turns[lost - 1])))
    with pytest.raises(TurnsMissing):
        store.read(OWNER, session.id, START_MS, newest)


def test_turns_in_another_order_are_an_error(store: FileSessionStore, session: Session, path: Path) -> None:
    take_all(store, session, 2)
    settings, head, _, first, second_head, second = split(path.read_bytes())[0]
    path.write_bytes(whole(settings, head, second, second_head, first))
    for newest in (1, 25):
        with pytest.raises(SessionCorrupt):
            store.read(OWNER, session.id, START_MS, newest)


def test_a_file_under_another_name_is_an_error(store: FileSessionStore, session: Session, path: Path) -> None:
    other = session_path(path.parents[1], OWNER, new_session().id)
    other.write_bytes(path.read_bytes())
    with pytest.raises(ItemUnreadable):
        store.read(OWNER, other.name, START_MS, newest=1)


@pytest.mark.parametrize("data", [b"", b"?", whole(), whole(encode(SessionTombstone(1)))])
def test_a_damaged_session_is_no_empty_one_and_can_be_deleted(
    store: FileSessionStore, session: Session, path: Path, data: bytes
) -> None:
    take(store, session, 1)
    path.write_bytes(data)
    for failing in (
        lambda: store.read(OWNER, session.id, START_MS, newest=1),
        lambda: store.turns(session, 1, 1),
        lambda: store.acquire(session, lease_of(1), over=None),
        lambda: store.create(session, ""),
    ):
        with pytest.raises(SessionCorrupt):
            failing()
    assert store.delete(OWNER, session.id, START_MS) is True
    assert is_gone(store, session)
    assert files_below(path.parent) == {path.name + ".gone"}


def test_files_that_are_none_of_ours_are_left_alone(store: FileSessionStore, session: Session, path: Path) -> None:
    turn = take(store, session, 1)
    for folder in (path.parent, path.parents[1]):
        for name in (".DS_Store", "notes", path.name + "~"):
            (folder / name).write_bytes(b"?")
    assert store.read(OWNER, session.id, START_MS, newest=25).turns == (turn,)
    assert store.session_ids(OWNER) == [session.id]
    assert store.sweep(START_MS) == 0
    assert (path.parent / "notes").exists()


def test_a_slot_beyond_the_next_is_not_taken(store: FileSessionStore, session: Session) -> None:
    take_all(store, session, 2)
    assert store.acquire(session, lease_of(4), over=None) is None
    assert store.read(OWNER, session.id, START_MS, newest=9).running is None


def test_a_quota_that_cannot_be_read_is_no_leave_to_go_on(
    store: FileSessionStore, session: Session, path: Path
) -> None:
    (path.parent / "quotas").write_bytes(b"?")
    with pytest.raises(ItemUnreadable):
        store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
    assert store.read(OWNER, session.id, START_MS, newest=1).running is None


def test_the_newest_turns_are_read_without_decoding_the_older(
    store: FileSessionStore, session: Session, path: Path
) -> None:
    turns = take_all(store, session, 9)
    found = split(path.read_bytes())[0]
    older = [record for record in found if record[:1] == b"T"][:6]
    rest = b"not deflated"
    unreadable = records._FRAME.pack(b"T", len(rest), zlib.crc32(b"T" + rest)) + rest
    path.write_bytes(whole(*(unreadable if record in older else record for record in found)))
    assert list(store.read(OWNER, session.id, START_MS, newest=3).turns) == turns[6:]
    store.acquire(session, lease_of(10), over=None)
    assert list(store.read(OWNER, session.id, START_MS, newest=3).turns) == turns[6:]
    assert store.turns(session, 8, 9) == turns[7:]
    with pytest.raises(ItemUnreadable):
        store.turns(session, 6, 9)


# --- what a writer did not finish


def test_what_was_not_finished_never_happened(store: FileSessionStore, session: Session, path: Path) -> None:
    """A part of a record, of any length, leaves the session as it was; only a whole record counts."""
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    before, record = path.read_bytes(), encode(turn_of(lease_of(2)))
    for length in range(len(record)):
        path.write_bytes(before + record[:length])
        view = store.read(OWNER, session.id, START_MS, newest=9)
        assert (view.turns, view.running) == ((turn,), lease_of(2))
    path.write_bytes(before + record[:-1] + b"\0" * 5000)
    assert store.read(OWNER, session.id, START_MS, newest=9).running == lease_of(2)
    path.write_bytes(before + record)
    assert store.turns(session, 2, 2) == [turn_of(lease_of(2))]


def test_the_next_writer_writes_over_what_was_not_finished(
    store: FileSessionStore, session: Session, path: Path
) -> None:
    first = take(store, session, 1)
    intact = path.read_bytes()
    path.write_bytes(intact + encode(turn_of(lease_of(2), "x" * 9000))[:-3])
    second = take(store, session, 2)
    assert store.turns(session, 1, 9) == [first, second]
    assert b"x" * 99 not in b"".join(values_of(path))


def test_a_step_that_was_not_finished_never_happened(store: FileSessionStore, session: Session, path: Path) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    before = path.read_bytes()
    for steps in (0, 1, 2):
        path.write_bytes(before)
        lease = checkpointed(store, session, lease_of(2), steps)
        written, last = path.read_bytes(), replace(lease, sequence=99)
        assert store.checkpoint(session, last, lease.sequence, with_results(step_of(steps + 1))) == last
        record = path.read_bytes()[len(written) :]
        for length in range(len(record)):
            path.write_bytes(written + record[:length])
            view = store.read(OWNER, session.id, START_MS, newest=9)
            assert (view.turns, view.running) == ((turn,), lease)
            assert store.steps(session, lease) == kept_steps(steps)
        path.write_bytes(written + record)
        assert store.read(OWNER, session.id, START_MS, newest=9).running == last
        assert store.steps(session, last)[1][-1].results


# --- steps


def test_steps_lie_between_other_records_and_are_read_in_order(store: FileSessionStore, session: Session) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 2)
    store.change(OWNER, session.id, SessionChanges(title="New"), START_MS)
    renewed = replace(lease, sequence=50, lease_expires_ms=START_MS + 90_000)
    assert store.renew(session, renewed, lease.sequence) == renewed
    view = store.read(OWNER, session.id, START_MS, newest=9)
    assert (view.title, view.running) == ("New", renewed)
    assert store.steps(session, renewed) == kept_steps(2)


def test_a_handler_that_takes_over_finds_the_steps(store: FileSessionStore, session: Session) -> None:
    store.acquire(session, lease_of(1), over=None)
    dead = checkpointed(store, session, lease_of(1), 1)
    heir = replace(lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), attempt=2, steps=dead.steps)
    assert store.acquire(session, heir, over=dead) == heir
    assert store.steps(session, heir) == kept_steps(1)
    last = replace(heir, sequence=1)
    assert store.checkpoint(session, last, 0, with_results(step_of(2))) == last
    assert store.steps(session, last) == (QUESTION, (with_results(step_of(1)), with_results(step_of(2))))


def test_the_steps_of_a_finished_turn_are_none_of_the_next(store: FileSessionStore, session: Session) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 1)
    turn = interrupted(lease, 1)
    assert store.interrupt(session, turn, lease) == turn
    second = lease_of(2)
    store.acquire(session, second, over=None)
    assert store.steps(session, second) == ((), ())
    last = replace(second, sequence=1, steps=1)
    assert store.checkpoint(session, last, 0, step_of(1), message=QUESTION) == last
    assert store.steps(session, last) == kept_steps(0)
    assert store.turns(session, 1, 9) == [turn]


def test_steps_that_were_given_up_are_none_of_the_next_lease(store: FileSessionStore, session: Session) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 1)
    other = lease_of(1, "other", at_ms=lease.lease_expires_ms + 1)
    store.acquire(session, other, over=lease)
    again = replace(other, sequence=1, steps=1)
    assert store.checkpoint(session, again, 0, step_of(1), message=QUESTION) == again
    assert store.steps(session, again) == kept_steps(0)


@pytest.mark.parametrize("lost", [3, 5])
def test_a_gap_in_the_steps_is_an_error(store: FileSessionStore, session: Session, path: Path, lost: int) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 1)
    found = split(path.read_bytes())[0]
    path.write_bytes(whole(*found[:lost], *found[lost + 1 :]))
    with pytest.raises(SessionCorrupt):
        store.steps(session, lease)


def test_a_view_decodes_no_step_but_the_last(store: FileSessionStore, session: Session, path: Path) -> None:
    store.acquire(session, lease_of(1), over=None)
    lease = checkpointed(store, session, lease_of(1), 2)
    found = split(path.read_bytes())[0]
    rest = b"not deflated"
    unreadable = records._FRAME.pack(b"C", len(rest), zlib.crc32(b"C" + rest)) + rest
    path.write_bytes(whole(*found[:3], unreadable, *found[4:]))
    assert store.read(OWNER, session.id, START_MS, newest=3).running == lease
    with pytest.raises(ItemUnreadable):
        store.steps(session, lease)


def test_neither_a_move_nor_a_fork_takes_steps_along(store: FileSessionStore, session: Session) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    lapsed = checkpointed(store, session, lease_of(2), 1)
    child = forked_empty(store, session)
    store.acquire(session, lease_of(2, "heir", at_ms=lapsed.lease_expires_ms + 1), over=lapsed)
    moved = store.move(move_of(session, at_ms=lapsed.lease_expires_ms + HOUR_MS // 3))
    for each in (child, moved):
        view = store.read(each.owner, each.id, START_MS + HOUR_MS // 4, newest=9)
        assert (view.count, view.running) == (1, None)
        with pytest.raises(LeaseLost):
            store.steps(each, lapsed)
    assert store.turns(moved, 1, 9) == [turn]


def forked_empty(store: FileSessionStore, parent: Session) -> Session:
    child = new_session()
    store.fork(parent, 1, child, "")
    return child


# --- what outlasts a loss of power


class Disk:
    """A sync that remembers what would outlast a loss of power: contents of files and names in folders, by inode."""

    def __init__(self) -> None:
        self.syncs = 0
        self.error: OSError | None = None
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}

    def __call__(self, fd: int) -> None:
        if self.error:
            raise self.error
        self.syncs += 1
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            with os.scandir(fd) as entries:
                self._names[status.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self._contents[status.st_ino] = os.pread(fd, status.st_size, 0)

    def lose_power(self, root: Path) -> FileSessionStore:
        """The store as the next process finds it on what was synced and nothing else."""
        survivor = root.with_name("survivor")
        self._restore(root.stat().st_ino, survivor)
        return FileSessionStore(survivor, sync=no_sync)

    def _restore(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, child in self._names.get(inode, {}).items():
            if child in self._contents:
                (target / name).write_bytes(self._contents[child])
            elif len(name) == 43:
                self._restore(child, target / name)
            else:
                (target / name).write_bytes(b"")


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def synced(root: Path, disk: Disk) -> FileSessionStore:
    return FileSessionStore(root, sync=disk)


def test_a_creation_outlasts_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session, first = new_session(), turn_of(lease_of(1))
    synced.create(session, "A title", first=first)
    view = disk.lose_power(root).read(OWNER, session.id, START_MS, newest=9)
    assert (view.session, view.title, view.turns) == (session, "A title", (first,))


def test_a_creation_in_the_folder_of_a_dead_process_outlasts_a_loss_of_power(
    synced: FileSessionStore, root: Path, disk: Disk
) -> None:
    (root / owner_hash(OWNER)).mkdir()
    session = synced.create(new_session(), "")
    assert disk.lose_power(root).read(OWNER, session.id, START_MS, newest=1).session == session


def test_an_interrupt_right_after_a_turn_damages_nothing(
    root: Path, store: FileSessionStore, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.acquire(session, lease_of(1), over=None)
    write = os.pwrite

    def interrupted(fd: int, data: bytes, at: int) -> int:
        written = write(fd, data, at)
        if len(data) < LEAST_TORN:
            raise KeyboardInterrupt
        return written

    monkeypatch.setattr(os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.commit(session, turn_of(lease_of(1)))
    monkeypatch.undo()
    assert store.turns(session, 1, 9) == [turn_of(lease_of(1))]


def test_a_turn_and_a_title_outlast_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    turns = take_all(synced, session, 2)
    synced.change(OWNER, session.id, SessionChanges("New", METADATA), START_MS)
    view = disk.lose_power(root).read(OWNER, session.id, START_MS, newest=9)
    assert (view.title, view.metadata, list(view.turns)) == ("New", METADATA, turns)


def test_a_turn_right_after_a_lease_outlasts_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    turn = take(synced, session, 1)
    assert disk.lose_power(root).turns(session, 1, 9) == [turn]


def test_a_deletion_outlasts_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    take(synced, session, 1)
    synced.delete(OWNER, session.id, START_MS)
    survivor = disk.lose_power(root)
    assert is_gone(survivor, session)
    with pytest.raises(SessionNotFound):
        survivor.create(session, "")


def test_a_move_outlasts_a_loss_of_power_on_both_sides(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    turn = take(synced, session, 1)
    move = move_of(session)
    moved = synced.move(move)
    survivor = disk.lose_power(root)
    assert survivor.turns(moved, 1, 9) == [turn]
    assert is_gone(survivor, session)
    assert survivor.move(move) == moved


def test_a_fork_outlasts_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session, child = synced.create(new_session(), ""), new_session()
    turns = take_all(synced, session, 2)
    synced.fork(session, 2, child, "")
    assert disk.lose_power(root).turns(child, 1, 9) == [turn.forked() for turn in turns]


def test_steps_and_renewals_outlast_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    synced.acquire(session, lease_of(1), over=None)
    disk.syncs = 0
    lease = checkpointed(synced, session, lease_of(1), 1)
    assert disk.syncs == 3
    survivor = disk.lose_power(root)
    assert survivor.read(OWNER, session.id, START_MS, newest=1).running == lease
    assert survivor.steps(session, lease) == kept_steps(1)


def test_an_interrupted_turn_outlasts_a_loss_of_power(synced: FileSessionStore, root: Path, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    synced.acquire(session, lease_of(1), over=None)
    lease = checkpointed(synced, session, lease_of(1), 1)
    turn = interrupted(lease, 1)
    synced.interrupt(session, turn, lease)
    assert disk.lose_power(root).turns(session, 1, 9) == [turn]


def test_a_turn_costs_two_fsyncs_however_long_the_session(synced: FileSessionStore, disk: Disk) -> None:
    session = synced.create(new_session(), "")
    for number in range(1, 30):
        disk.syncs = 0
        take(synced, session, number)
        assert disk.syncs == 2


# --- the disk fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_reported_and_nothing_is_half_done(
    synced: FileSessionStore, root: Path, disk: Disk, code: int
) -> None:
    session = synced.create(new_session(), "")
    turn = take(synced, session, 1)
    synced.acquire(session, lease_of(2), over=None)
    disk.error = OSError(code, "")
    for failing in (
        lambda: synced.create(new_session(), ""),
        lambda: synced.acquire(session, lease_of(2, at_ms=START_MS + HOUR_MS), over=lease_of(2)),
        lambda: synced.release(session, lease_of(2), billed=True, now_ms=START_MS),
        lambda: synced.commit(session, turn_of(lease_of(2))),
        lambda: synced.renew(session, replace(lease_of(2), sequence=1), 0),
        lambda: synced.checkpoint(session, replace(lease_of(2), sequence=1, steps=1), 0, step_of(1)),
        lambda: synced.ask_to_stop(session, lease_of(2)),
        lambda: synced.interrupt(session, interrupted(lease_of(2), 0), lease_of(2)),
        lambda: synced.change(OWNER, session.id, SessionChanges(title="New"), START_MS),
        lambda: synced.change(OWNER, session.id, SessionChanges(metadata=METADATA), START_MS),
        lambda: synced.fork(session, 1, new_session(), ""),
        lambda: synced.move(move_of(session, at_ms=lease_of(2).lease_expires_ms)),
        lambda: synced.delete(OWNER, session.id, START_MS),
        lambda: synced.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS),
    ):
        with pytest.raises(StoreUnavailable) as failed:
            failing()
        assert isinstance(failed.value.__cause__, OSError)
    disk.error = None
    view = synced.read(OWNER, session.id, START_MS, newest=9)
    assert (view.title, view.turns, view.running) == ("", (turn,), lease_of(2))
    assert [name for name in files_below(root) if name.endswith(".new")] == []


def test_a_folder_that_is_not_one_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailable):
            FileSessionStore(folder)


@pytest.mark.parametrize("how", ["gone", "another"])
def test_a_folder_that_was_unmounted_is_not_an_empty_store(
    store: FileSessionStore, session: Session, root: Path, how: str
) -> None:
    root.rename(root.parent / "elsewhere")
    if how == "another":
        root.mkdir()
    for failing in (
        lambda: store.read(OWNER, session.id, START_MS, newest=1),
        lambda: store.turns(session, 1, 1),
        lambda: store.session_ids(OWNER),
        lambda: store.delete(OWNER, session.id, START_MS),
        lambda: store.create(new_session(), ""),
        lambda: store.acquire(session, lease_of(1), over=None),
        lambda: store.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS),
        lambda: store.sweep(START_MS),
        lambda: store.erase(OWNER, START_MS),
    ):
        with pytest.raises(StoreUnavailable):
            failing()
    assert not root.exists() or list(root.iterdir()) == []


# --- locks


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, kind)
    yield
    os.close(fd)


def test_a_lock_held_too_long_is_reported_and_readers_share_it(root: Path, session: Session) -> None:
    slept: list[float] = []
    store = FileSessionStore(root, sleep=slept.append, sync=no_sync)
    with locked(root / "lock", fcntl.LOCK_EX), pytest.raises(StoreUnavailable):
        store.read(OWNER, session.id, START_MS, newest=1)
    assert 5 <= sum(slept) < 6
    with locked(root / "lock", fcntl.LOCK_SH):
        assert store.read(OWNER, session.id, START_MS, newest=1).count == 0
        for failing in (
            lambda: store.acquire(session, lease_of(1), over=None),
            lambda: store.sweep(START_MS),
            lambda: store.charge(QuotaCharges(OWNER, (charge("1"),)), START_MS),
        ):
            with pytest.raises(StoreUnavailable):
                failing()
    assert store.acquire(session, lease_of(1), over=None) == lease_of(1)


def test_a_move_to_where_the_session_is_changes_nothing(store: FileSessionStore, session: Session) -> None:
    with pytest.raises(LeaseLost):
        store.move(replace(move_of(session), to_owner=OWNER, to_id=session.id))
    assert store.read(OWNER, session.id, START_MS, newest=1).count == 0


def test_a_folder_is_shared_unless_one_store_wants_it_alone(root: Path) -> None:
    first, second = FileSessionStore(root), FileSessionStore(root)
    with pytest.raises(StoreUnavailable):
        FileSessionStore(root, sole=True)
    first.close()
    second.close()
    sole = FileSessionStore(root, sole=True)
    for wanted in (True, False):
        with pytest.raises(StoreUnavailable):
            FileSessionStore(root, sole=wanted)
    sole.close()
    sole.close()
    FileSessionStore(root)


def test_a_store_that_nobody_uses_any_more_lets_the_folder_go(root: Path) -> None:
    FileSessionStore(root, sole=True)
    heir = FileSessionStore(root, sole=True)
    assert heir.session_ids(OWNER) == []


def test_a_deletion_beside_a_fork_leaves_all_of_it_or_nothing(root: Path, store: FileSessionStore) -> None:
    for _ in range(10):
        session, child = store.create(new_session(), ""), new_session()
        turns = take_all(store, session, 3)

        def fork(session: Session = session, child: Session = child) -> bool:
            try:
                FileSessionStore(root, sync=no_sync).fork(session, 3, child, "")
            except SessionNotFound:
                return False
            return True

        def delete(session: Session = session) -> bool:
            return store.delete(OWNER, session.id, START_MS)

        is_forked, _ = at_once(fork, delete)
        assert is_gone(store, session)
        assert store.turns(child, 1, 9) == ([turn.forked() for turn in turns] if is_forked else [])


# --- sweeping


def test_a_sweep_takes_what_ended_exactly_the_margin_ago(store: FileSessionStore, session: Session) -> None:
    assert store.sweep(START_MS + session.idle_ms + MARGIN_MS - 1) == 0
    assert store.sweep(START_MS + session.idle_ms + MARGIN_MS) == 1


def test_nothing_but_the_lock_is_left_when_all_is_over(store: FileSessionStore, session: Session, root: Path) -> None:
    store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
    store.commit(session, turn_of(lease_of(1)))
    child, deleted = new_session(), new_session()
    store.fork(session, 1, child, "")
    store.move(move_of(child))
    store.create(deleted, "")
    store.delete(OWNER, deleted.id, START_MS)
    store.sweep(session.expires_ms)
    assert {name[64:] for name in files_below(root)} == {".gone"}
    store.sweep(session.ttl_s * 1000 - 1)
    assert len(files_below(root)) == 4
    store.sweep(session.ttl_s * 1000)
    assert all_below(root) == [root / "lock"]


def used_of(path: Path) -> set[str]:
    return set(decode_only(QuotaCounters, path.read_bytes()).used)


def test_quotas_are_forgotten_an_hour_after_their_window(store: FileSessionStore, session: Session, path: Path) -> None:
    wanted = (charge("4"), replace(charge("5", counter="usd#1"), resets_ms=START_MS + HOUR_MS))
    store.acquire(session, lease_of(1, charges=wanted), over=None)
    quotas = path.parent / "quotas"
    for late_ms, left in [(59_999, {"turns#2026-11-25T14:05", "usd#1"}), (60_000, {"usd#1"})]:
        store.sweep(START_MS + HOUR_MS + late_ms)
        assert used_of(quotas) == left
    store.sweep(START_MS + 2 * HOUR_MS)
    assert not quotas.exists()


def test_old_quotas_make_way_for_new_ones(store: FileSessionStore, session: Session, path: Path) -> None:
    store.acquire(session, lease_of(1, charges=(charge("4"),)), over=None)
    late = store.create(new_session(created_ms=START_MS + 2 * HOUR_MS), "")
    wanted = replace(charge("5", counter="usd#1"), resets_ms=START_MS + 3 * HOUR_MS)
    store.acquire(late, lease_of(1, at_ms=START_MS + 2 * HOUR_MS, charges=(wanted,)), over=None)
    assert used_of(path.parent / "quotas") == {"usd#1"}


@pytest.mark.parametrize("by", ["sweep", "erase"])
def test_what_dead_writers_left_is_removed(
    store: FileSessionStore, session: Session, path: Path, root: Path, by: str
) -> None:
    turn = take(store, session, 1)
    left = [session_path(root, OWNER, "half-made"), path.with_name("quotas"), path.with_suffix(".gone")]
    for each in left:
        each.with_name(each.name + ".new").write_bytes(b"content of a turn")
    if by == "sweep":
        assert store.sweep(START_MS) == 1
        assert files_below(root) == {path.name}
        assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)
    else:
        assert store.erase(OWNER, START_MS) == 2
        assert files_below(root) == {path.name + ".gone"}


def test_an_owner_without_anything_left_has_no_folder(store: FileSessionStore, session: Session, root: Path) -> None:
    (root / owner_hash(EVE)).mkdir()
    store.sweep(START_MS)
    assert [path.name for path in root.iterdir() if path.is_dir()] == [owner_hash(OWNER)]


def test_a_half_made_session_is_removed_with_its_deletion(
    store: FileSessionStore, root: Path, session: Session
) -> None:
    half = session_path(root, OWNER, "half-made")
    half.with_name(half.name + ".new").write_bytes(b"content of a turn")
    assert store.delete(OWNER, "half-made", START_MS) is False
    assert files_below(root) == {session_path(root, OWNER, session.id).name}


def test_a_session_with_a_damaged_turn_stays_until_its_absolute_end(
    store: FileSessionStore, session: Session, path: Path
) -> None:
    take(store, session, 1)
    rewritten(path, {b'"stop_reason":"end_turn"': b'"stop_reason":""'})
    assert store.sweep(session.expires_ms + MARGIN_MS - 1) == 0
    assert path.exists()
    assert store.sweep(session.expires_ms + MARGIN_MS) == 1
    assert is_gone(store, session)


def test_one_damaged_session_does_not_stop_the_sweep_of_others(
    store: FileSessionStore, session: Session, path: Path
) -> None:
    others = [store.create(new_session(), "") for _ in range(3)]
    path.write_bytes(b"?")
    (path.parent / "quotas").write_bytes(b"?")
    assert store.sweep(session.expires_ms + HOUR_MS) == 3
    assert all(is_gone(store, other) for other in others)
    assert path.read_bytes() == b"?"


def test_a_sweep_beside_turns_takes_nothing_that_is_alive(root: Path, store: FileSessionStore) -> None:
    session = store.create(new_session(), "")
    now_ms = START_MS + session.idle_ms // 2

    def sweep() -> list[str]:
        swept = [FileSessionStore(root, sync=no_sync).sweep(now_ms) for _ in range(20)]
        assert swept == [0] * 20
        return []

    taken, _ = at_once(lambda: take_in_race(store, session, "a", 20), sweep)
    assert [turn.token for turn in store.turns(session, 1, 99)] == taken


# --- other processes


def take_in_process(root: Path, session: Session, name: str, turns: int) -> list[str]:
    return take_in_race(FileSessionStore(root, sync=no_sync), session, name, turns)


def charge_in_process(root: Path, owner: str, tries: int) -> int:
    store, admitted = FileSessionStore(root, sync=no_sync), 0
    for _ in range(tries):
        session = new_session(owner)
        store.create(session, "")
        try:
            store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
            admitted += 1
        except QuotaExceeded:
            pass
    return admitted


def keep_steps_until_killed(root: Path, session: Session, steps: int) -> None:
    """Takes a slot, keeps steps, and dies before the next one."""
    store = FileSessionStore(root)
    store.acquire(session, lease_of(1), over=None)
    checkpointed(store, session, lease_of(1), steps)
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_another_process_goes_on_from_the_steps_of_one_that_was_killed(
    store: FileSessionStore, session: Session, root: Path, steps: int
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=keep_steps_until_killed, args=(root, session, steps))
    process.start()
    process.join(60)
    assert process.exitcode == -9
    dead = store.read(OWNER, session.id, START_MS, newest=1).running
    assert dead is not None
    heir = replace(lease_of(1, "heir", at_ms=dead.lease_expires_ms + 1), attempt=2, steps=dead.steps)
    assert store.acquire(session, heir, over=dead) == heir
    assert store.steps(session, heir) == kept_steps(steps)
    last = replace(heir, sequence=1)
    assert store.checkpoint(session, last, 0, with_results(step_of(steps + 1))) == last


def test_processes_that_race_have_one_order_and_one_limit(
    store: FileSessionStore, session: Session, root: Path
) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        racing = pool.starmap_async(take_in_process, [(root, session, name, 10) for name in "abcd"], chunksize=1)
        taken = [token for each in racing.get(60) for token in each]
        charging = pool.starmap_async(charge_in_process, [(root, OWNER, 5)] * 4, chunksize=1)
        assert sum(charging.get(60)) == 10
    turns = store.turns(session, 1, 999)
    tokens = [turn.token for turn in turns]
    assert len(tokens) == 40
    assert sorted(tokens) == sorted(taken)
    assert [turn.message.blocks[0]["text"] for turn in turns] == ["", *tokens[:-1]]


# --- a process is killed


STEPS = ["open", "mkdir", "chmod", "fchmod", "ftruncate", "pwrite", "fsync", "replace", "rename", "unlink", "rmdir"]
LEAST_TORN = 13  # a write of the mark's 12 bytes lies in one page, and is done or not


def killed_at(step: int, root: Path, operation: Callable[[FileSessionStore], object], *, torn: bool) -> bool:
    """Runs it in a process that kills itself before its system call number `step`. False if it has no more so many.

    With `torn`, a write that it dies in is done by half.
    """
    if (child := os.fork()) == 0:
        try:
            store = FileSessionStore(root, sync=lambda fd: os.fsync(fd))  # noqa: PLW0108 (as it is patched by then)
            left = iter(range(step))

            def dying(name: str, call: Callable[..., object]) -> Callable[..., object]:
                def made(*arguments: Any, **named: Any) -> object:
                    if next(left, None) is None:
                        if torn and name == "pwrite" and len(arguments[1]) >= LEAST_TORN:
                            call(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
                        os.kill(os.getpid(), 9)
                    return None if name == "fsync" else call(*arguments, **named)

                return made

            for name in STEPS:
                setattr(os, name, dying(name, getattr(os, name)))
            operation(store)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (9, 0)
    return status == 9


class Killed:
    """One way to die: `begin` makes the sessions, `operate` is what is killed, `expect` what must hold afterwards.

    `operate` is then repeated to its end, and `expect_done` must hold.
    """

    def __init__(self) -> None:
        self.session = new_session()
        self.turns: list[object] = []

    def begin(self, store: FileSessionStore) -> None:
        store.create(self.session, "A title")
        self.turns = [*take_all(store, self.session, 3)]

    def operate(self, store: FileSessionStore) -> None:
        raise NotImplementedError

    def expect(self, store: FileSessionStore) -> None:
        self.require_turns(store, self.session)

    def require_done(self, store: FileSessionStore) -> None:
        raise NotImplementedError

    def require_turns(self, store: FileSessionStore, session: Session) -> Lease | None:
        view = store.read(session.owner, session.id, START_MS + 100, newest=9)
        assert (view.title, list(view.turns)) == ("A title", self.turns)
        return view.running

    @staticmethod
    def used(store: FileSessionStore) -> Decimal:
        """Finds out what the owner was charged in all."""
        for used in range(30):
            session = new_session()
            store.create(session, "")
            lease = lease_of(1, charges=(charge(Decimal(29 - used), "29"),))
            try:
                store.acquire(session, lease, over=None)
            except QuotaExceeded:
                continue
            store.release(session, lease, billed=False, now_ms=START_MS)
            return Decimal(used)
        raise AssertionError


class Creation(Killed):
    def begin(self, store: FileSessionStore) -> None:
        pass

    def operate(self, store: FileSessionStore) -> None:
        store.create(self.session, "A title")

    def expect(self, store: FileSessionStore) -> None:
        try:
            self.require_turns(store, self.session)
        except SessionNotFound:
            assert store.session_ids(OWNER) == []
            assert isinstance(store.acquire(self.session, lease_of(1), over=None), Tombstone)

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) is None
        take(store, self.session, 1)


class ChargedLease(Killed):
    lease = lease_of(4, charges=(charge("4"),))

    def operate(self, store: FileSessionStore) -> None:
        found = store.acquire(self.session, self.lease, over=None)
        assert isinstance(found, Lease)
        assert found.token == self.lease.token

    def expect(self, store: FileSessionStore) -> None:
        running = self.require_turns(store, self.session)
        assert running in (None, lease_of(4))
        assert self.used(store) in ((4,) if running else (0, 4))

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) == lease_of(4)
        assert self.used(store) in (4, 8)  # too much rather than too little
        assert store.commit(self.session, turn_of(lease_of(4))) == turn_of(lease_of(4))


class TakeOver(Killed):
    dead = lease_of(4, "dead")
    heir = lease_of(4, "heir", at_ms=dead.lease_expires_ms + 1)

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        store.acquire(self.session, self.dead, over=None)

    def operate(self, store: FileSessionStore) -> None:
        assert store.acquire(self.session, self.heir, over=self.dead) == self.heir

    def expect(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) in (self.dead, self.heir)

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) == self.heir


class Refund(Killed):
    lease = lease_of(4, charges=(charge("4"),))

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        store.acquire(self.session, self.lease, over=None)

    def operate(self, store: FileSessionStore) -> None:
        store.release(self.session, self.lease, billed=False, now_ms=START_MS)

    def expect(self, store: FileSessionStore) -> None:
        running = self.require_turns(store, self.session)
        assert running in (None, lease_of(4))
        assert self.used(store) in ((4,) if running else (0, 4))

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) is None
        assert self.used(store) in (0, 4)
        take(store, self.session, 4)


class Commit(Killed):
    """Settles to 1 of the 4 that were reserved."""

    beyond, settled = "-3", (1, 4)
    lease = lease_of(4, charges=(charge("4"),))

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        store.acquire(self.session, self.lease, over=None)

    def operate(self, store: FileSessionStore) -> None:
        turn = turn_of(self.lease)
        assert store.commit(self.session, turn, (charge(self.beyond),)) == turn

    def expect(self, store: FileSessionStore) -> None:
        view = store.read(OWNER, self.session.id, START_MS, newest=9)
        if view.running:
            assert (list(view.turns), view.running) == (self.turns, lease_of(4))
        else:
            assert list(view.turns) == [*self.turns, turn_of(self.lease)]

    def require_done(self, store: FileSessionStore) -> None:
        assert store.turns(self.session, 1, 9) == [*self.turns, turn_of(self.lease)]
        assert self.used(store) in self.settled
        take(store, self.session, 5)


class CommitBeyond(Commit):
    """Takes 5 more than the 4 that were reserved: too much rather than too little, however often it is tried."""

    beyond, settled = "5", (9, 14)


class Checkpointing(Killed):
    """Settles a call to 1 of the 4 that were reserved with the lease, and keeps the reply of its step."""

    charged, spent = "4", "-3"
    steps = 1  # those with results, before

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        lease = lease_of(4, charges=(charge(self.charged),))
        store.acquire(self.session, lease, over=None)
        self.before = checkpointed(store, self.session, replace(lease, charges=()), self.steps)
        self.after = replace(self.before, sequence=90)
        self.step = with_results(step_of(self.steps + 1))

    def operate(self, store: FileSessionStore) -> None:
        settlement = (charge(self.spent),)
        seen = self.before.sequence
        assert store.checkpoint(self.session, self.after, seen, self.step, settlement=settlement) == self.after

    def expect(self, store: FileSessionStore) -> None:
        running = self.require_turns(store, self.session)
        assert running in (self.before, self.after)
        steps = store.steps(self.session, running)
        if running == self.before:
            assert steps == kept_steps(self.steps)
        else:
            self.require_step(store)

    def require_step(self, store: FileSessionStore) -> None:
        message, before = kept_steps(self.steps)
        assert store.steps(self.session, self.after) == (message, (*before[: self.step.number - 1], self.step))

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) == self.after
        self.require_step(store)
        assert self.used(store) in (1, 4)


class CheckpointingReply(Checkpointing):
    """Keeps the reply of a further step, and reserves 3 for the call after it."""

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        results = replace(self.before, sequence=80)
        store.checkpoint(self.session, results, self.before.sequence, self.step)
        self.before, self.step = results, step_of(self.step.number + 1)
        self.after = replace(results, sequence=90, steps=self.step.number)

    def operate(self, store: FileSessionStore) -> None:
        charges = (charge("3"),)
        seen = self.before.sequence
        assert store.checkpoint(self.session, self.after, seen, self.step, charges=charges) == self.after

    def expect(self, store: FileSessionStore) -> None:
        running = self.require_turns(store, self.session)
        assert running in (self.before, self.after)
        _, steps = store.steps(self.session, running)
        assert steps[:2] == (with_results(step_of(1)), with_results(step_of(2)))
        assert steps[2:] == ((self.step,) if running == self.after else ())

    def require_step(self, store: FileSessionStore) -> None:
        _, steps = store.steps(self.session, self.after)
        assert steps == (with_results(step_of(1)), with_results(step_of(2)), self.step)

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) == self.after
        self.require_step(store)
        assert self.used(store) in (7, 10)  # too much rather than too little


class Renewal(Checkpointing):
    def operate(self, store: FileSessionStore) -> None:
        assert store.renew(self.session, self.after, self.before.sequence) == self.after

    def require_step(self, store: FileSessionStore) -> None:
        assert store.steps(self.session, self.after) == kept_steps(self.steps)

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.session) == self.after
        self.require_step(store)


class AskingToStop(Renewal):
    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        self.after = replace(self.before, stop_asked=True)

    def operate(self, store: FileSessionStore) -> None:
        assert store.ask_to_stop(self.session, self.before) is True


class Interruption(Checkpointing):
    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        self.turn = interrupted(self.before, self.steps)

    def operate(self, store: FileSessionStore) -> None:
        assert store.interrupt(self.session, self.turn, self.before) == self.turn

    def expect(self, store: FileSessionStore) -> None:
        view = store.read(OWNER, self.session.id, self.turn.at_ms, newest=9)
        if view.running:
            assert (list(view.turns), view.running) == (self.turns, self.before)
            assert store.steps(self.session, self.before) == kept_steps(self.steps)
        else:
            assert list(view.turns) == [*self.turns, self.turn]

    def require_done(self, store: FileSessionStore) -> None:
        assert store.turns(self.session, 1, 9) == [*self.turns, self.turn]
        take(store, self.session, 5)


class Fork(Killed):
    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        self.child = new_session()
        self.kept = [turn.forked() for turn in store.turns(self.session, 1, 3)]

    def operate(self, store: FileSessionStore) -> None:
        store.fork(self.session, 3, self.child, "A fork")

    def expect(self, store: FileSessionStore) -> None:
        self.require_turns(store, self.session)
        assert store.turns(self.child, 1, 9) in ([], self.kept)
        assert set(store.session_ids(OWNER)) <= {self.session.id, self.child.id}

    def require_done(self, store: FileSessionStore) -> None:
        view = store.read(OWNER, self.child.id, START_MS, newest=9)
        assert (view.session, view.title, list(view.turns)) == (self.child, "A fork", self.kept)
        take(store, self.child, 4)


class Moving(Killed):
    """The session has an expired lease, which is to go."""

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        store.acquire(self.session, lease_of(4, lease_expires_ms=START_MS), over=None)
        self.move = move_of(self.session)
        self.moved = replace(self.session, owner=EVE, id=self.move.to_id)

    def operate(self, store: FileSessionStore) -> None:
        assert store.move(self.move) == self.moved

    def expect(self, store: FileSessionStore) -> None:
        live, dead = self.session, self.moved
        if store.session_ids(EVE):
            live, dead = dead, live
        self.require_turns(store, live)
        assert is_gone(store, dead, START_MS + 100)
        assert store.session_ids(dead.owner) == []

    def require_done(self, store: FileSessionStore) -> None:
        assert self.require_turns(store, self.moved) is None
        assert is_gone(store, self.session, START_MS + 100)
        assert isinstance(store.commit(self.session, turn_of(lease_of(4))), Tombstone)
        take(store, self.moved, 4)


class Deletion(Killed):
    def operate(self, store: FileSessionStore) -> None:
        store.delete(OWNER, self.session.id, START_MS)

    def expect(self, store: FileSessionStore) -> None:
        if is_gone(store, self.session):
            assert isinstance(store.acquire(self.session, lease_of(4), over=None), Tombstone)
            assert isinstance(store.commit(self.session, turn_of(lease_of(3))), Tombstone)
        else:
            self.require_turns(store, self.session)

    def require_done(self, store: FileSessionStore) -> None:
        assert is_gone(store, self.session)
        with pytest.raises(SessionNotFound):
            store.create(self.session, "")


class Sweep(Deletion):
    def operate(self, store: FileSessionStore) -> None:
        store.sweep(self.session.expires_ms + MARGIN_MS)


class Renaming(Killed):
    def operate(self, store: FileSessionStore) -> None:
        store.change(OWNER, self.session.id, SessionChanges(title="New"), START_MS)

    def expect(self, store: FileSessionStore) -> None:
        view = store.read(OWNER, self.session.id, START_MS, newest=9)
        assert view.title in ("A title", "New")
        assert list(view.turns) == self.turns

    def require_done(self, store: FileSessionStore) -> None:
        view = store.read(OWNER, self.session.id, START_MS, newest=9)
        assert (view.title, list(view.turns)) == ("New", self.turns)


class Noting(Killed):
    """Changes title and metadata at once, while a turn of steps runs."""

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        store.acquire(self.session, lease_of(4), over=None)
        self.running = checkpointed(store, self.session, lease_of(4), 1)

    def operate(self, store: FileSessionStore) -> None:
        store.change(OWNER, self.session.id, SessionChanges("New", METADATA), START_MS)

    def expect(self, store: FileSessionStore) -> None:
        view = store.read(OWNER, self.session.id, START_MS, newest=9)
        assert (view.title, view.metadata) in (("A title", ()), ("New", METADATA))
        assert (list(view.turns), view.running) == (self.turns, self.running)
        assert store.steps(self.session, self.running) == kept_steps(1)

    def require_done(self, store: FileSessionStore) -> None:
        self.expect(store)
        assert store.read(OWNER, self.session.id, START_MS, newest=1).metadata == METADATA


class BilledCreation(Creation):
    """Charged for; the counter is another owner's, as an address is."""

    def operate(self, store: FileSessionStore) -> None:
        quota = QuotaCharges("address", (charge("1", "3"),))
        store.create(self.session, "A title", quota=quota, first=turn_of(lease_of(1)))

    def expect(self, store: FileSessionStore) -> None:
        self.turns = [turn_of(lease_of(1))]
        super().expect(store)

    def require_done(self, store: FileSessionStore) -> None:
        self.turns = [turn_of(lease_of(1))]
        assert self.require_turns(store, self.session) is None
        for _ in range(2):
            with suppress(QuotaExceeded):
                store.charge(QuotaCharges("address", (charge("1", "3"),)), START_MS)
        with pytest.raises(QuotaExceeded):
            store.charge(QuotaCharges("address", (charge("1", "3"),)), START_MS)


class Erasure(Deletion):
    def operate(self, store: FileSessionStore) -> None:
        store.erase(OWNER, START_MS)


WAYS = [
    Creation,
    BilledCreation,
    ChargedLease,
    TakeOver,
    Refund,
    Commit,
    CommitBeyond,
    Checkpointing,
    CheckpointingReply,
    Renewal,
    AskingToStop,
    Interruption,
    Fork,
    Moving,
    Renaming,
    Noting,
    Deletion,
    Erasure,
    Sweep,
]


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_kill_at_any_step_leaves_what_every_method_works_on(tmp_path: Path, way: type[Killed], torn: bool) -> None:
    for step in range(200):
        killed, root = way(), tmp_path / str(step)
        store = FileSessionStore(root, sync=no_sync)
        killed.begin(store)
        died = killed_at(step, root, killed.operate, torn=torn)
        if died:
            killed.expect(store)
            killed.operate(store)
        killed.require_done(store)
        for now_ms in (START_MS, killed.session.expires_ms + HOUR_MS, killed.session.ttl_s * 1000):
            store.sweep(now_ms)
        assert all_below(root) == [root / "lock"]
        if not died:
            assert step >= 5
            return
    raise AssertionError
