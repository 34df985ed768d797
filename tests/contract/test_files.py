"""FileSessionStore: the contract, and what it leaves on the disk, whatever happens to it there."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from tests.contract.session_store import (
    EVE,
    HOUR_MS,
    MARGIN_MS,
    SessionStoreContract,
    charge,
    is_gone,
    lease_of,
    move_of,
    take,
    take_all,
    take_in_race,
    turn_of,
)
from tests.fakes import OWNER, START_MS, new_session
from turnlog.adapters.files import FileSessionStore, files, forms
from turnlog.adapters.files.place import Place, place_of
from turnlog.domain.sessions import Session
from turnlog.domain.turns import Lease, Tombstone
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
from turnlog.ports.session_store import SessionStore


def no_sync(_: int) -> None:
    """A process that dies needs none, and it takes most of the time; what is synced has tests of its own."""


class TestFiles(SessionStoreContract):
    @pytest.fixture
    def store(self, root: Path) -> SessionStore:
        return FileSessionStore(root, sync=no_sync)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def store(root: Path) -> FileSessionStore:
    return FileSessionStore(root, sync=no_sync)


@pytest.fixture
def session(store: FileSessionStore) -> Session:
    session = new_session()
    store.create(session, "A title")
    return session


@pytest.fixture
def place(root: Path, session: Session) -> Place:
    return place_of(root, session.owner, session.id)


def all_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# --- names and permissions


STRANGE = ["../../x", "/etc/passwd", "", ".", "a\0b", "owner#1", "con", "☃" * 5000, "a/../../b", "-rf"]


@pytest.mark.parametrize("strange", STRANGE, ids=[text[:9] or "empty" for text in STRANGE])
def test_neither_an_owner_nor_an_id_is_ever_part_of_a_path(
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
    allowed = re.compile("[A-Za-z0-9_-]{43}|[0-9a-f]{64}|log|session|moving|[0-9]{9}")
    assert [path.name for path in all_below(root) if not allowed.fullmatch(path.name)] == []


def test_a_session_whose_id_cannot_be_read_hides_no_other_and_can_be_ended(store: FileSessionStore, root: Path) -> None:
    damaged, whole = store.create(new_session(), ""), store.create(new_session(), "")
    place = place_of(root, OWNER, damaged.id)
    place.header.unlink()
    name = place.folder.name
    assert set(store.session_ids(OWNER)) == {whole.id, name}
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, name, START_MS, newest=1)
    assert store.delete("somebody else", name, START_MS) is False
    assert store.delete(OWNER, name, START_MS) is True
    assert store.session_ids(OWNER) == [whole.id]


def test_owner_and_id_cannot_be_shifted_into_one_another(root: Path) -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a|b", "c"), ("a", "b|c"), ("a\0", "b"), ("a", "\0b"), ("", "abc")]
    assert len({place_of(root, owner, session_id).folder for owner, session_id in pairs}) == len(pairs)


def test_no_file_holds_the_owner(store: FileSessionStore, root: Path, session: Session) -> None:
    store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
    store.move(replace(move_of(session), at_ms=START_MS + HOUR_MS // 4))
    held = b"".join(path.read_bytes() for path in all_below(root) if path.is_file())
    assert OWNER.encode() not in held
    assert EVE.encode() not in held


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
    """With each byte changed, one after the other, and cut at each length."""
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        yield data[:at]
    yield data + b"x"


@pytest.mark.parametrize("what", ["session", "log/000000001", "log/000000002"])
def test_a_byte_that_changed_is_an_error_and_never_a_shorter_history(
    store: FileSessionStore, session: Session, place: Place, what: str
) -> None:
    take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    path = place.folder / what
    intact = path.read_bytes()
    for data in garbled(intact):
        path.write_bytes(data)
        with pytest.raises(SessionCorrupt):
            store.read(OWNER, session.id, START_MS, newest=25)
    path.write_bytes(intact)
    assert store.read(OWNER, session.id, START_MS, newest=25).count == 1


def resealed(path: Path, **changes: object) -> bytes:
    """The file as another version would write it: with other names and values, and a checksum that fits."""
    with forms._readable(path.read_bytes()) as (head, content):
        return forms._sealed({name: each for name, each in (head | changes).items() if each is not None}, content)


@pytest.mark.parametrize("what", ["session", "log/000000001", "log/000000002"])
def test_fields_of_a_later_version_are_tolerated(
    store: FileSessionStore, session: Session, place: Place, what: str
) -> None:
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    path = place.folder / what
    path.write_bytes(resealed(path, later={"a": [1]}))
    log = store.read(OWNER, session.id, START_MS, newest=25)
    assert (log.session, log.turns, log.running) == (session, (turn,), lease_of(2))


@pytest.mark.parametrize("what", ["session", "log/000000001", "log/000000002"])
def test_a_later_form_is_not_guessed(store: FileSessionStore, session: Session, place: Place, what: str) -> None:
    take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    path = place.folder / what
    path.write_bytes(b"2 something else altogether")
    with pytest.raises(ItemVersionUnknown):
        store.read(OWNER, session.id, START_MS, newest=25)


@pytest.mark.parametrize(
    "changes", [{"token": None}, {"state": "new"}, {"totals": 1}, {"key": "?"}, {"stop_reason": ""}]
)
def test_a_file_that_lacks_something_is_an_error(
    store: FileSessionStore, session: Session, place: Place, changes: dict[str, object]
) -> None:
    take(store, session, 1)
    path = place.slot_path(1)
    path.write_bytes(resealed(path, **changes))
    with pytest.raises(ItemUnreadable):
        store.read(OWNER, session.id, START_MS, newest=25)


@pytest.mark.parametrize("newest", [1, 25])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_gap_in_the_turns_is_an_error(
    store: FileSessionStore, session: Session, place: Place, lost: int, newest: int
) -> None:
    take_all(store, session, 4)
    place.slot_path(lost).unlink()
    with pytest.raises(TurnsMissing):
        store.read(OWNER, session.id, START_MS, newest)


def test_a_claim_below_a_turn_is_an_error(store: FileSessionStore, session: Session, place: Place) -> None:
    take_all(store, session, 3)
    place.slot_path(2).write_bytes(forms.lease_bytes(lease_of(2)))
    with pytest.raises(TurnsMissing):
        store.read(OWNER, session.id, START_MS, newest=25)


def test_a_turn_in_another_ones_place_is_an_error(store: FileSessionStore, session: Session, place: Place) -> None:
    take_all(store, session, 2)
    place.slot_path(1).write_bytes(place.slot_path(2).read_bytes())
    with pytest.raises(ItemUnreadable):
        store.read(OWNER, session.id, START_MS, newest=25)


def test_a_log_without_its_session_file_is_an_error(store: FileSessionStore, session: Session, place: Place) -> None:
    place.header.unlink()
    with pytest.raises(SessionCorrupt):
        store.read(OWNER, session.id, START_MS, newest=25)


@pytest.mark.parametrize("what", ["session", "log/000000001"])
def test_a_damaged_session_can_be_deleted(store: FileSessionStore, session: Session, place: Place, what: str) -> None:
    take(store, session, 1)
    (place.folder / what).write_bytes(b"")
    assert store.delete(OWNER, session.id, START_MS) is True
    assert is_gone(store, session)
    assert [path.name for path in all_below(place.folder)] == ["ended"]


def test_files_that_are_none_of_ours_are_left_out(store: FileSessionStore, session: Session, place: Place) -> None:
    turn = take(store, session, 1)
    for name in (".DS_Store", "000000002~", "0000000020", "٠٠٠٠٠٠٠٠٢"):
        (place.log / name).write_bytes(b"?")
    (place.folder.parent / "notes").write_bytes(b"?")
    (place.folder.parent.parent / "notes").write_bytes(b"?")
    assert store.read(OWNER, session.id, START_MS, newest=25).turns == (turn,)
    assert store.session_ids(OWNER) == [session.id]
    assert store.sweep(START_MS) == 0


def test_a_slot_beyond_the_next_is_not_taken_since_the_gap_could_not_be_read(
    store: FileSessionStore, session: Session
) -> None:
    take_all(store, session, 2)
    assert store.acquire(session, lease_of(4), over=None) is None
    assert store.read(OWNER, session.id, START_MS, newest=9).running is None


def test_a_limit_that_cannot_be_read_is_no_leave_to_go_on(
    store: FileSessionStore, session: Session, place: Place
) -> None:
    (place.folder.parent / "allowances").write_bytes(b"?")
    with pytest.raises(ItemUnreadable):
        store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
    assert store.read(OWNER, session.id, START_MS, newest=1).running is None


def test_the_newest_turns_are_read_without_the_older_ones(
    store: FileSessionStore, session: Session, place: Place
) -> None:
    turns = take_all(store, session, 9)
    for number in range(1, 7):
        place.slot_path(number).write_bytes(b"never looked at")
    assert list(store.read(OWNER, session.id, START_MS, newest=3).turns) == turns[6:]
    store.acquire(session, lease_of(10), over=None)
    assert list(store.read(OWNER, session.id, START_MS, newest=3).turns) == turns[6:]
    assert store.turns(session, 8, 9) == turns[7:]


# --- what outlasts a loss of power


class Synced:
    """Notes what was synced, by inode, and fails once it is told to."""

    def __init__(self) -> None:
        self.inodes: list[int] = []
        self.error: OSError | None = None

    def __call__(self, fd: int) -> None:
        if self.error:
            raise self.error
        self.inodes.append(os.fstat(fd).st_ino)

    def last(self, path: Path) -> int:
        """When it was last synced; ValueError when it never was."""
        return len(self.inodes) - self.inodes[::-1].index(path.stat().st_ino)


@pytest.fixture
def synced() -> Synced:
    return Synced()


def test_a_turn_is_on_the_disk_with_its_name_before_it_is_reported(root: Path, synced: Synced) -> None:
    store, session = FileSessionStore(root, sync=synced), new_session()
    store.create(session, "")
    place = place_of(root, OWNER, session.id)
    store.acquire(session, lease_of(1), over=None)
    synced.inodes.clear()
    store.commit(session, turn_of(lease_of(1)))
    assert synced.last(place.slot_path(1)) < synced.last(place.log)


def test_a_creation_is_on_the_disk_with_all_its_folders(root: Path, synced: Synced) -> None:
    store, session = FileSessionStore(root, sync=synced), new_session()
    store.create(session, "")
    place = place_of(root, OWNER, session.id)
    assert synced.last(place.header) < synced.last(place.folder)
    assert synced.last(place.folder) < synced.last(place.folder.parent) < synced.last(root)


def test_an_end_is_on_the_disk_before_content_goes_and_after(root: Path, synced: Synced) -> None:
    store, session = FileSessionStore(root, sync=synced), new_session()
    store.create(session, "")
    take(store, session, 1)
    place = place_of(root, OWNER, session.id)
    synced.inodes.clear()
    store.delete(OWNER, session.id, START_MS)
    folder = place.folder.stat().st_ino
    assert synced.inodes == [place.ended.stat().st_ino, folder, folder]


def test_a_move_is_on_the_disk_in_both_places(root: Path, synced: Synced) -> None:
    store, session = FileSessionStore(root, sync=synced), new_session()
    store.create(session, "")
    synced.inodes.clear()
    moved = store.move(move_of(session))
    source, target = place_of(root, OWNER, session.id), place_of(root, EVE, moved.id)
    assert synced.last(source.moving) < synced.last(source.folder)
    assert synced.last(target.header) < synced.last(target.folder) < synced.last(target.folder.parent)


def test_a_fork_s_turns_are_on_the_disk_before_it_is_one(root: Path, synced: Synced) -> None:
    store, session, child = FileSessionStore(root, sync=synced), new_session(), new_session()
    store.create(session, "")
    take_all(store, session, 2)
    store.fork(session, 2, child, "")
    place = place_of(root, OWNER, child.id)
    assert synced.last(place.slot_path(2)) < synced.last(place.log) < synced.last(place.folder)


# --- the disk fails


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_is_reported_and_nothing_is_half_done(root: Path, synced: Synced, code: int) -> None:
    store, session = FileSessionStore(root, sync=synced), new_session()
    store.create(session, "")
    turn = take(store, session, 1)
    store.acquire(session, lease_of(2), over=None)
    synced.error = OSError(code, "")
    for failing in (
        lambda: store.create(new_session(), ""),
        lambda: store.acquire(session, lease_of(2, at_ms=START_MS + HOUR_MS), over=lease_of(2)),
        lambda: store.release(session, lease_of(2), billed=True, now_ms=START_MS),
        lambda: store.commit(session, turn_of(lease_of(2))),
        lambda: store.fork(session, 1, new_session(), ""),
        lambda: store.move(move_of(session, at_ms=lease_of(2).lease_expires_ms)),
        lambda: store.delete(OWNER, session.id, START_MS),
    ):
        with pytest.raises(StoreUnavailable) as failed:
            failing()
        assert isinstance(failed.value.__cause__, OSError)
    synced.error = None
    log = store.read(OWNER, session.id, START_MS, newest=9)
    assert (log.turns, log.running) == ((turn,), lease_of(2))
    assert [path.name for path in all_below(root) if path.name.startswith(".")] == []


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
    ):
        with pytest.raises(StoreUnavailable):
            failing()
    (root.parent / "elsewhere").rename(root) if how == "gone" else None


# --- locks


@contextmanager
def locked(folder: Path, kind: int) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, kind)
    yield
    os.close(fd)


def test_a_session_that_somebody_holds_too_long_is_reported_and_a_reader_is_no_holder(
    root: Path, session: Session, place: Place
) -> None:
    slept: list[float] = []
    store = FileSessionStore(root, sleep=slept.append, sync=no_sync)
    with locked(place.folder, fcntl.LOCK_EX), pytest.raises(StoreUnavailable):
        store.read(OWNER, session.id, START_MS, newest=1)
    assert 5 <= sum(slept) < 6
    with locked(place.folder, fcntl.LOCK_SH):
        assert store.read(OWNER, session.id, START_MS, newest=1).count == 0
        with pytest.raises(StoreUnavailable):
            store.acquire(session, lease_of(1), over=None)
    assert store.acquire(session, lease_of(1), over=None) == lease_of(1)


def test_a_lock_on_a_folder_that_was_removed_meanwhile_is_none(
    root: Path, store: FileSessionStore, session: Session, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    late_store = FileSessionStore(root, sleep=lambda _: None, sync=no_sync)
    locking = fcntl.flock
    others: list[int] = []

    def late(fd: int, kind: int) -> None:
        """Between the opening of the folder and its lock it is swept, made again, and locked by somebody else."""
        monkeypatch.setattr(fcntl, "flock", locking)
        store.delete(OWNER, session.id, START_MS)
        store.sweep(session.ttl_s * 1000)
        store.create(session, "")
        others.append(os.open(place.folder, os.O_RDONLY))
        locking(others[0], fcntl.LOCK_EX)
        locking(fd, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(StoreUnavailable):
        late_store.acquire(session, lease_of(1), over=None)
    os.close(others[0])
    assert store.acquire(session, lease_of(1), over=None) == lease_of(1)


def test_a_file_is_created_by_one_alone_whatever_locks_are_held(tmp_path: Path) -> None:
    path = tmp_path / "slot"
    assert files.create(path, b"first", no_sync) is True
    assert files.create(path, b"second", no_sync) is False
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("slot", b"first")]


def test_the_names_of_sessions_do_not_wait_for_one_that_is_still_being_made(root: Path, session: Session) -> None:
    slept: list[float] = []
    store = FileSessionStore(root, sleep=slept.append, sync=no_sync)
    half = place_of(root, OWNER, "half-made")
    half.draft.mkdir(parents=True)
    with locked(half.folder, fcntl.LOCK_EX):
        assert store.session_ids(OWNER) == [session.id]
    assert slept == []


class Meanwhile:
    """A sync that lets something else happen when it is called for the `at`th time."""

    def __init__(self, at: int, happens: Callable[[], object]) -> None:
        self._left = at
        self._happens = happens

    def __call__(self, _: int) -> None:
        self._left -= 1
        if self._left == 0:
            self._happens()


def test_a_session_goes_on_while_it_is_forked(root: Path, store: FileSessionStore, session: Session) -> None:
    take_all(store, session, 3)
    child = new_session()
    slow = FileSessionStore(root, sync=Meanwhile(2, lambda: take(store, session, 4)))
    slow.fork(session, 3, child, "")
    assert (len(store.turns(session, 1, 9)), len(store.turns(child, 1, 9))) == (4, 3)


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])  # its header, three turns, their folder
def test_a_session_that_ends_while_it_is_forked_has_no_fork_and_leaves_no_copy(
    root: Path, store: FileSessionStore, session: Session, at: int
) -> None:
    take_all(store, session, 3)
    child = new_session()
    slow = FileSessionStore(root, sync=Meanwhile(at, lambda: store.delete(OWNER, session.id, START_MS)))
    with pytest.raises(SessionNotFound):
        slow.fork(session, 3, child, "")
    assert not place_of(root, OWNER, child.id).folder.exists()


def test_a_move_to_where_the_session_is_does_not_wait_for_itself(root: Path, session: Session) -> None:
    slept: list[float] = []
    store = FileSessionStore(root, sleep=slept.append, sync=no_sync)
    with pytest.raises(LeaseLost):
        store.move(replace(move_of(session), to_owner=OWNER, to_id=session.id))
    assert slept == []
    assert store.read(OWNER, session.id, START_MS, newest=1).count == 0


def test_a_sweep_does_not_wait_for_a_session_that_is_in_use(root: Path, session: Session, place: Place) -> None:
    slept: list[float] = []
    store = FileSessionStore(root, sleep=slept.append, sync=no_sync)
    with locked(place.folder, fcntl.LOCK_SH):
        assert store.sweep(session.expires_ms + HOUR_MS) == 0
    assert slept == []
    assert store.sweep(session.expires_ms + HOUR_MS) == 1


def test_a_folder_is_shared_unless_somebody_wants_it_for_himself(root: Path) -> None:
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
    FileSessionStore(root, sole=True)


# --- sweeping


def test_a_sweep_takes_what_ended_exactly_the_margin_ago(store: FileSessionStore, session: Session) -> None:
    assert store.sweep(START_MS + session.idle_ms + MARGIN_MS - 1) == 0
    assert store.sweep(START_MS + session.idle_ms + MARGIN_MS) == 1


def test_nothing_at_all_is_left_when_all_is_over(store: FileSessionStore, session: Session, root: Path) -> None:
    store.acquire(session, lease_of(1, charges=(charge("1"),)), over=None)
    store.commit(session, turn_of(lease_of(1)))
    child, deleted = new_session(), new_session()
    store.fork(session, 1, child, "")
    store.move(move_of(child))
    store.create(deleted, "")
    store.delete(OWNER, deleted.id, START_MS)
    store.sweep(session.expires_ms)
    assert {path.name for path in all_below(root) if path.is_file()} == {"ended", "moving"}
    store.sweep(session.ttl_s * 1000 - 1)
    assert len([path for path in all_below(root) if path.is_file()]) == 4
    store.sweep(session.ttl_s * 1000)
    assert all_below(root) == []


def test_allowances_are_forgotten_an_hour_after_their_window(
    store: FileSessionStore, session: Session, place: Place
) -> None:
    wanted = (charge("4"), replace(charge("5", counter="usd#1"), resets_ms=START_MS + HOUR_MS))
    store.acquire(session, lease_of(1, charges=wanted), over=None)
    path = place.folder.parent / "allowances"
    for late_ms, left in [(59_999, {"turns#2026-11-25T14:05", "usd#1"}), (60_000, {"usd#1"})]:
        store.sweep(START_MS + HOUR_MS + late_ms)
        assert set(forms.quotas_of(path.read_bytes()).used) == left
    store.sweep(START_MS + 2 * HOUR_MS)
    assert not path.exists()


def test_old_allowances_make_way_for_new_ones(store: FileSessionStore, session: Session, place: Place) -> None:
    store.acquire(session, lease_of(1, charges=(charge("4"),)), over=None)
    late = new_session(created_ms=START_MS + 2 * HOUR_MS)
    store.create(late, "")
    wanted = replace(charge("5", counter="usd#1"), resets_ms=START_MS + 3 * HOUR_MS)
    store.acquire(late, lease_of(1, at_ms=START_MS + 2 * HOUR_MS, charges=(wanted,)), over=None)
    assert set(forms.quotas_of((place.folder.parent / "allowances").read_bytes()).used) == {"usd#1"}


def test_half_made_sessions_and_what_dead_writers_left_are_swept_at_once(
    store: FileSessionStore, session: Session, place: Place, root: Path
) -> None:
    turn = take(store, session, 1)
    half = place_of(root, OWNER, "half-made")
    half.draft.mkdir(parents=True)
    half.header.write_bytes(b"the title of nothing")
    (half.draft / "000000001").write_bytes(b"copied")
    empty = place_of(root, EVE, "empty")
    empty.folder.mkdir(parents=True)
    for folder in (place.log, place.folder, place.folder.parent):
        (folder / ".unfinished-0123456789abcdef").write_bytes(b"content of a turn")
    assert store.sweep(START_MS) == 1
    assert {path.name for path in all_below(root) if path.is_file()} == {"session", "000000001"}
    assert not empty.folder.parent.exists()
    assert store.read(OWNER, session.id, START_MS, newest=1).turns == (turn,)


def test_what_a_dead_writer_left_goes_with_the_session(store: FileSessionStore, session: Session, place: Place) -> None:
    for folder in (place.log, place.folder):
        (folder / ".unfinished-0123456789abcdef").write_bytes(b"content")
    store.delete(OWNER, session.id, START_MS)
    assert [path.name for path in all_below(place.folder)] == ["ended"]


def test_a_session_with_a_damaged_turn_stays_for_whoever_mends_it_until_its_absolute_end(
    store: FileSessionStore, session: Session, place: Place
) -> None:
    take(store, session, 1)
    place.slot_path(1).write_bytes(b"?")
    assert store.sweep(session.expires_ms + MARGIN_MS - 1) == 0
    assert place.slot_path(1).exists()
    assert store.sweep(session.expires_ms + MARGIN_MS) == 1
    assert is_gone(store, session)


def test_one_damaged_session_does_not_stop_the_sweep_of_others(
    store: FileSessionStore, session: Session, place: Place
) -> None:
    others = [new_session() for _ in range(3)]
    for other in others:
        store.create(other, "")
    place.header.write_bytes(b"?")
    assert store.sweep(session.expires_ms + HOUR_MS) == 3
    assert all(is_gone(store, other) for other in others)


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


STEPS = ["open", "mkdir", "chmod", "fchmod", "fdopen", "link", "replace", "rename", "unlink", "rmdir"]


def killed_at(step: int, root: Path, operation: Callable[[FileSessionStore], object]) -> bool:
    """Runs it in a process that kills itself before its system call number `step`. False if it has no more so many."""
    if (child := os.fork()) == 0:
        try:
            store = FileSessionStore(root, sync=no_sync)
            left = iter(range(step))

            def dying(call: Callable[..., object]) -> Callable[..., object]:
                def made(*arguments: object, **named: object) -> object:
                    if next(left, None) is None:
                        os.kill(os.getpid(), 9)
                    return call(*arguments, **named)

                return made

            for name in STEPS:
                setattr(os, name, dying(getattr(os, name)))
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
        self.expect_turns(store, self.session)

    def expect_done(self, store: FileSessionStore) -> None:
        raise NotImplementedError

    def expect_turns(self, store: FileSessionStore, session: Session) -> Lease | None:
        log = store.read(session.owner, session.id, START_MS + 100, newest=9)
        assert (log.title, list(log.turns)) == ("A title", self.turns)
        return log.running

    @staticmethod
    def used(store: FileSessionStore) -> Decimal:
        """What the owner was charged in all."""
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
            self.expect_turns(store, self.session)
        except SessionNotFound:
            assert store.session_ids(OWNER) == []
            assert isinstance(store.acquire(self.session, lease_of(1), over=None), Tombstone)

    def expect_done(self, store: FileSessionStore) -> None:
        assert self.expect_turns(store, self.session) is None
        take(store, self.session, 1)


class ChargedClaim(Killed):
    lease = lease_of(4, charges=(charge("4"),))

    def operate(self, store: FileSessionStore) -> None:
        found = store.acquire(self.session, self.lease, over=None)
        assert isinstance(found, Lease)
        assert found.token == self.lease.token

    def expect(self, store: FileSessionStore) -> None:
        running = self.expect_turns(store, self.session)
        assert running in (None, lease_of(4))
        assert self.used(store) in ((4,) if running else (0, 4))

    def expect_done(self, store: FileSessionStore) -> None:
        assert self.expect_turns(store, self.session) == lease_of(4)
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
        assert self.expect_turns(store, self.session) in (self.dead, self.heir)

    def expect_done(self, store: FileSessionStore) -> None:
        assert self.expect_turns(store, self.session) == self.heir


class Refund(Killed):
    lease = lease_of(4, charges=(charge("4"),))

    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        store.acquire(self.session, self.lease, over=None)

    def operate(self, store: FileSessionStore) -> None:
        store.release(self.session, self.lease, billed=False, now_ms=START_MS)

    def expect(self, store: FileSessionStore) -> None:
        running = self.expect_turns(store, self.session)
        assert running in (None, lease_of(4))
        assert self.used(store) in ((4,) if running else (0, 4))

    def expect_done(self, store: FileSessionStore) -> None:
        assert self.expect_turns(store, self.session) is None
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
        log = store.read(OWNER, self.session.id, START_MS, newest=9)
        if log.running:
            assert (list(log.turns), log.running) == (self.turns, lease_of(4))
        else:
            assert list(log.turns) == [*self.turns, turn_of(self.lease)]

    def expect_done(self, store: FileSessionStore) -> None:
        assert store.turns(self.session, 1, 9) == [*self.turns, turn_of(self.lease)]
        assert self.used(store) in self.settled
        take(store, self.session, 5)


class CommitBeyond(Commit):
    """Takes 5 more than the 4 that were reserved: too much rather than too little, however often it is tried."""

    beyond, settled = "5", (9, 14)


class Fork(Killed):
    def begin(self, store: FileSessionStore) -> None:
        super().begin(store)
        self.child = new_session()
        self.kept = [turn.forked() for turn in store.turns(self.session, 1, 3)]

    def operate(self, store: FileSessionStore) -> None:
        store.fork(self.session, 3, self.child, "A fork")

    def expect(self, store: FileSessionStore) -> None:
        self.expect_turns(store, self.session)
        assert store.turns(self.child, 1, 9) in ([], self.kept)
        assert set(store.session_ids(OWNER)) <= {self.session.id, self.child.id}

    def expect_done(self, store: FileSessionStore) -> None:
        log = store.read(OWNER, self.child.id, START_MS, newest=9)
        assert (log.session, log.title, list(log.turns)) == (self.child, "A fork", self.kept)
        take(store, self.child, 4)


class Moving(Killed):
    """With a lapsed claim, which is to go."""

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
        self.expect_turns(store, live)
        assert is_gone(store, dead, START_MS + 100)
        assert store.session_ids(dead.owner) == []

    def expect_done(self, store: FileSessionStore) -> None:
        assert self.expect_turns(store, self.moved) is None
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
            self.expect_turns(store, self.session)

    def expect_done(self, store: FileSessionStore) -> None:
        assert is_gone(store, self.session)
        with pytest.raises(SessionNotFound):
            store.create(self.session, "")


class Sweep(Deletion):
    def operate(self, store: FileSessionStore) -> None:
        store.sweep(self.session.expires_ms + MARGIN_MS)


WAYS = [Creation, ChargedClaim, TakeOver, Refund, Commit, CommitBeyond, Fork, Moving, Deletion, Sweep]


@pytest.mark.parametrize("way", WAYS)
def test_whoever_is_killed_at_any_step_leaves_what_every_method_works_on(tmp_path: Path, way: type[Killed]) -> None:
    for step in range(200):
        killed, root = way(), tmp_path / str(step)
        store = FileSessionStore(root, sync=no_sync)
        killed.begin(store)
        died = killed_at(step, root, killed.operate)
        if died:
            killed.expect(store)
            killed.operate(store)
        killed.expect_done(store)
        for now_ms in (START_MS, killed.session.expires_ms + HOUR_MS, killed.session.ttl_s * 1000):
            store.sweep(now_ms)
        assert all_below(root) == []
        if not died:
            assert step >= 5
            return
    raise AssertionError
