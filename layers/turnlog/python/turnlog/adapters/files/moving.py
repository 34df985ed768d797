"""Forking a session, and giving it another owner or id: all is laid ready, then one rename makes it true."""

from __future__ import annotations

from dataclasses import replace

from turnlog.adapters.files import files, forms
from turnlog.adapters.files.forms import End
from turnlog.adapters.files.place import Place, place_of
from turnlog.adapters.files.shelf import Shelf
from turnlog.domain.conditions import alive
from turnlog.domain.quotas import QuotaCharges
from turnlog.domain.sessions import Move, Session
from turnlog.domain.turns import busy
from turnlog.errors import LeaseLost, SessionNotFound


def fork(shelf: Shelf, parent: Session, number: int, child: Session, title: str, quota: QuotaCharges | None) -> None:
    """See SessionStore. Costs an fsync for each turn.

    The parent goes on meanwhile: its turns are final, so they are copied without its lock.
    """
    with shelf.made(child.owner, child.id) as place:
        if place.is_alive:
            return  # a repeat
        if not place.is_free:
            raise SessionNotFound
        try:
            files.replace(place.header, forms.header_bytes(child, title), shelf.sync)
            _copy(shelf, place_of(shelf.root, parent.owner, parent.id), number, place)
            with shelf.open(parent.owner, parent.id, shared=True) as source:
                if source is None or not source.is_alive:
                    raise SessionNotFound
                shelf.charge(quota, child.created_ms)
                place.draft.rename(place.log)
        except BaseException:
            files.remove(place.folder)
            raise
        shelf.keep(place)


def _copy(shelf: Shelf, source: Place, number: int, place: Place) -> None:
    files.remove(place.draft)
    files.make_folder(place.draft)
    for each in range(1, number + 1):
        path = source.slot_path(each)
        try:
            turn = forms.forked_bytes(path.read_bytes())
        except FileNotFoundError:
            turn = None
        if turn is None:
            raise SessionNotFound
        files.create(place.draft / path.name, turn, shelf.sync)
    files.keep_names(place.draft, shelf.sync)


def move(shelf: Shelf, asked: Move) -> Session:
    """See SessionStore. The log itself moves, so it costs the same however long it is."""
    with shelf.open(asked.owner, asked.session_id) as source:
        if source is None:
            raise SessionNotFound
        if not source.is_alive:
            return _moved(shelf, source, asked)
        log = alive(source.view(asked.owner, newest=1), asked.at_ms)
        if log.running and log.running_at(asked.at_ms):
            raise busy(log.running, asked.at_ms)
        session = replace(log.session, owner=asked.to_owner, id=asked.to_id)
        target = place_of(shelf.root, asked.to_owner, asked.to_id)
        if target.folder == source.folder:
            raise LeaseLost
        with shelf.made(asked.to_owner, asked.to_id) as place:
            if not place.is_free:
                raise LeaseLost
            shelf.charge(asked.quota, asked.at_ms)
            files.replace(place.header, forms.header_bytes(session, log.title), shelf.sync)
            note = End(session.ttl_s, asked.key, _name(shelf, place))
            files.replace(source.moving, forms.end_bytes(note), shelf.sync)
            files.keep_names(source.folder, shelf.sync)
            shelf.keep(place)
            if log.running:
                source.slot_path(log.running.number).unlink()
            source.log.rename(place.log)
            shelf.keep(place)
        files.remove(source.header)
        files.keep_names(source.folder, shelf.sync)
        return session


def _moved(shelf: Shelf, source: Place, asked: Move) -> Session:
    """What a move under the same key did; SessionNotFound for any other."""
    end = source.end()
    target = place_of(shelf.root, asked.to_owner, asked.to_id)
    if end is None or (end.key, end.place) != (asked.key, _name(shelf, target)):
        raise SessionNotFound
    files.remove(source.header)
    with shelf.open(asked.to_owner, asked.to_id, shared=True) as place:
        if place is None or not place.is_alive:
            raise SessionNotFound
        return place.session(asked.to_owner)[0]


def _name(shelf: Shelf, place: Place) -> str:
    return place.folder.relative_to(shelf.root).as_posix()
