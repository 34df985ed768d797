"""Server-sent events are read by the rules of the standard, wherever chunks end, and written so that all read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise

import pytest
import sseclient
from hypothesis import given
from hypothesis import strategies as st

from turnlog.domain.server_sent_events import EventReader, EventTooLarge, ServerSentEvent, rendered

MOST = 1000


def read(*chunks: bytes, most_bytes: int = MOST) -> list[ServerSentEvent]:
    reader = EventReader(most_bytes)
    return [event for chunk in chunks for event in reader.feed(chunk)]


def events(*pairs: tuple[str, str]) -> list[ServerSentEvent]:
    return [ServerSentEvent(name, data) for name, data in pairs]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=repr)
def test_each_line_end_of_the_standard_is_one(end: bytes) -> None:
    stream = end.join([b"event: a", b"data: 1", b"data: 2", b"", b"data: 3", b"", b""])
    assert read(stream) == events(("a", "1\n2"), ("message", "3"))


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b": a comment\n\ndata: x\n\n", [("message", "x")]),
        (b"data:x\n\n", [("message", "x")]),
        (b"data:  x\n\n", [("message", " x")]),
        (b"data\n\n", [("message", "")]),
        (b"data\ndata\n\n", [("message", "\n")]),
        (b"data: a: b\n\n", [("message", "a: b")]),
        (b"event: a\n\ndata: x\n\n", [("message", "x")]),  # an event without data is none, and its name is forgotten
        (b"event: a\nevent: b\ndata: x\n\n", [("b", "x")]),
        (b"id: 1\nretry: 5\nodd: 7\nDATA: no\ndata: x\n\n", [("message", "x")]),
        (b"\xef\xbb\xbfdata: x\n\n", [("message", "x")]),
        (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [("message", "x")]),  # a mark is one at the beginning only
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: y\n\n", []),
        (b"data: x\n", []),  # cut before its end, so it never came
        (b"data: x", []),
        (b"\n\n\n", []),
        ("data: \u2028 \x85 \x0b ü☃\n\n".encode(), [("message", "\u2028 \x85 \x0b ü☃")]),
    ],
    ids=repr,
)
def test_fields_are_read_as_the_standard_says(stream: bytes, found: list[tuple[str, str]]) -> None:
    assert read(stream) == events(*found)
    assert read(*(bytes([byte]) for byte in stream)) == events(*found)


LINES = st.sampled_from(
    ["data: ü☃𝄞", "data:", "data", "event: odd", ": comment", "", "", "id: 7", "\ufeffdata: x", " data"]
)
ENDS = st.sampled_from(["\n", "\r", "\r\n"])
STREAMS = st.lists(st.tuples(LINES, ENDS)).map(lambda lines: "".join(map("".join, lines)).encode())


@given(STREAMS, st.lists(st.integers(0, 200)))
def test_the_ends_of_chunks_change_nothing(stream: bytes, cuts: list[int]) -> None:
    at = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    assert read(*(stream[a:b] for a, b in pairwise(at))) == read(stream)


def test_an_event_is_there_as_soon_as_its_last_line_ends() -> None:
    reader = EventReader(MOST)
    assert list(reader.feed(b"data: x\r\n\r")) == events(("message", "x"))
    assert list(reader.feed(b"\ndata: y\r\r")) == events(("message", "y"))


@given(
    st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))
)
def test_what_is_written_is_read_back(name: str, data: str) -> None:
    """On one line, since the data is JSON, where a line end means as much as a space."""
    written = rendered(name, data)
    assert read(b": a comment\n\n", written, most_bytes=10_000) == events((name, re.sub("[\r\n]", " ", data)))
    assert written.count(b"\n") == 3


@given(st.lists(st.tuples(st.sampled_from(["ping", "a.b"]), st.text(st.characters(codec="utf-8")))))
def test_another_reader_finds_the_same_events(sent: list[tuple[str, str]]) -> None:
    """The public sseclient. It splits lines at more characters than the standard does, of which JSON text has none."""
    plain = [(name, "".join(filter(str.isprintable, data)) or "x") for name, data in sent]
    stream = b"".join(b":\n\n" + rendered(*each) for each in plain)
    found = [(each.event, each.data) for each in sseclient.SSEClient(BytesIO(stream)).events()]
    assert found == [(each.event, each.data) for each in read(stream, most_bytes=10**6)] == plain


@pytest.mark.parametrize("line", [b"data: \xff\n\n", b"event: \xff\ndata: x\n\n", b"data: \xed\xa0\x80\n\n"], ids=repr)
def test_bytes_that_are_no_text_are_refused(line: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        read(line)


def endless(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


@pytest.mark.parametrize("piece", [b"x", b"data: x\n", b"data\n", b"event: x\n", b": x"], ids=repr)
def test_an_event_that_never_ends_is_refused(piece: bytes) -> None:
    reader, held = EventReader(MOST), 0
    with pytest.raises(EventTooLarge):
        for chunk in endless(piece):
            held += len(chunk)
            assert list(reader.feed(chunk)) == []
            assert held <= 2 * MOST


def test_comments_and_events_may_come_without_end() -> None:
    assert len(read(*[b": a comment\n", b"id: 1\n"] * MOST, *[b"data: x\n\n"] * MOST)) == MOST


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\r\ndata: x"], ids=repr)
def test_a_name_that_would_begin_another_field_is_not_written(name: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        rendered(name, "x")
