"""Pages are counted by their tree, whatever the tables of the file claim, and a hostile file costs little."""

from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import in_pdf, pdf
from turnlog.domain.blocks.pdf import MOST_INFLATED, Effort, PdfEncrypted, PdfUnreadable, page_count

CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
PAGE = b"<</Type/Page/Parent 2 0 R>>"


def object_stream(objects: dict[int, bytes], *, claims: int | None = None) -> bytes:
    """A stream that holds objects, as files of PDF 1.5 and later have them."""
    header, bodies = b"", b""
    for number, each in objects.items():
        header += b"%d %d " % (number, len(bodies))
        bodies += each + b" "
    packed = zlib.compress(header + bodies)
    names = b"/Type/ObjStm/N %d/First %d/Filter/FlateDecode" % (
        len(objects) if claims is None else claims,
        len(header),
    )
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (names, len(packed), packed)


@pytest.mark.parametrize("pages", [1, 3, 99, 100])
def test_all_pages_are_counted(pages: int) -> None:
    assert page_count(pdf(pages), 100) == pages


def test_a_thousand_pages_are_more_than_a_hundred() -> None:
    assert page_count(pdf(1000), 100) > 100


def test_the_larger_of_pages_and_claimed_pages_counts() -> None:
    assert page_count(pdf(3, claimed=1), 100) == 3
    assert page_count(pdf(3, claimed=700), 100) == 700


def test_branches_of_the_tree_are_followed() -> None:
    top, branch = b"<</Type/Pages/Kids[3 0 R 4 0 R]>>", b"<</Type /Pages /Kids 5 0 R>>"
    assert page_count(in_pdf([CATALOG, top, PAGE, branch, b"[6 0 R 7 0 R]", PAGE, PAGE]), 100) == 3


def test_pages_within_streams_of_objects_are_counted() -> None:
    tree = {2: b"<</Type/Pages/Kids[3 0 R 4 0 R]>>", 3: PAGE, 4: PAGE}
    assert page_count(in_pdf([CATALOG, b"null", b"null", b"null", object_stream(tree)]), 100) == 2


def test_the_last_definition_of_an_object_holds() -> None:
    appended = b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\ntrailer<</Root 1 0 R>>"
    assert page_count(pdf(5) + appended, 100) == 1


def test_what_looks_like_an_object_within_a_stream_is_none() -> None:
    lie = b"2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj"
    stream = b"<</Length %d>>stream\n%s\nendstream" % (len(lie), lie)
    objects = [CATALOG, b"<</Type/Pages/Kids[3 0 R]>>", PAGE, stream]
    assert page_count(in_pdf(objects), 100) == 1


def test_a_damaged_table_is_no_obstacle() -> None:
    whole = pdf(7)
    assert page_count(whole.replace(b"xref", b"xxxx"), 100) == 7
    assert page_count(whole[: whole.index(b"xref")], 100) == 7


@pytest.mark.parametrize("value", [b"/Encrypt 9 0 R", b"/Encrypt<</Filter/Standard>>", b"/Encrypt  9 0 R"])
def test_an_encrypted_file_is_recognised(value: bytes) -> None:
    with pytest.raises(PdfEncrypted):
        page_count(pdf(trailer=value), 100)


def test_encryption_is_found_in_a_stream_of_references() -> None:
    references = b"<</Type/XRef/Root 1 0 R/Encrypt 5 0 R/Length 1>>stream\nx\nendstream"
    with pytest.raises(PdfEncrypted):
        page_count(in_pdf([CATALOG, b"<</Type/Pages/Kids[3 0 R]>>", PAGE, references], b""), 100)


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7", b"%PDF-1.7\n" + b"x" * 99, in_pdf([CATALOG]), pdf(1)[:60]])
def test_a_file_without_a_page_cannot_be_read(data: bytes) -> None:
    with pytest.raises(PdfUnreadable):
        page_count(data, 100)


def test_a_tree_that_loops_ends() -> None:
    loop = [CATALOG, b"<</Type/Pages/Kids[2 0 R 3 0 R]>>", b"<</Type/Pages/Kids[2 0 R 3 0 R 4 0 R]>>", PAGE]
    assert page_count(in_pdf(loop), 100) == 1


def test_many_nodes_with_one_long_list_are_given_up() -> None:
    nodes = b"".join(b"%d 0 obj<</Kids 3 0 R>>endobj\n" % number for number in range(4, 3_000))
    children = b"3 0 obj[%s]endobj\n" % b"".join(b"%d 0 R " % number for number in range(4, 3_000))
    with pytest.raises(PdfUnreadable):
        page_count(
            b"%PDF-1.7 1 0 obj"
            + CATALOG
            + b"endobj 2 0 obj<</Kids 3 0 R>>endobj "
            + children
            + nodes
            + b"trailer<</Root 1 0 R>>",
            100,
        )


def test_a_stream_that_inflates_without_end_is_given_up() -> None:
    bomb = object_stream({3: PAGE + b" " * (MOST_INFLATED + 1)})
    assert len(bomb) < 50_000
    with pytest.raises(PdfUnreadable):
        page_count(in_pdf([CATALOG, b"<</Kids[3 0 R]>>", b"null", bomb]), 100)


def test_more_objects_than_there_can_be_are_given_up() -> None:
    with pytest.raises(PdfUnreadable):
        page_count(in_pdf([CATALOG, b"<</Kids[3 0 R]>>", PAGE, object_stream({5: PAGE}, claims=999_999)]), 100)
    with pytest.raises(PdfUnreadable):
        page_count(pdf(2) + b"1 0 obj " * 100_000, 100)


def test_all_files_of_a_message_share_one_effort() -> None:
    effort = Effort(objects=12)
    assert page_count(pdf(1), 100, effort) == 1
    assert page_count(pdf(1), 100, effort) == 1
    with pytest.raises(PdfUnreadable):
        [page_count(pdf(1), 100, effort) for _ in range(4)]


@pytest.mark.parametrize(
    "stream",
    [
        b"<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length 3>>stream\nxxx\nendstream",
        b"<</Type/ObjStm/Length 3>>stream\nxxx\nendstream",
        b"<</Type/ObjStm/N 2/First 99/Length 9>>stream\n1 5 2 0 aa\nendstream",
        b"<</Type/ObjStm/N 1/First 4/Length 9>>stream\n-1 z xxxx\nendstream",
        b"<</Type/ObjStm/N 1/First 4/Length 99999>>stream\n",
    ],
)
def test_a_damaged_stream_of_objects_is_passed_over(stream: bytes) -> None:
    assert page_count(in_pdf([CATALOG, b"<</Kids[3 0 R]>>", PAGE, stream]), 100) == 1


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_read_without_another_error(junk: bytes, at: int) -> None:
    whole = pdf(2)
    with suppress(PdfUnreadable, PdfEncrypted):
        assert page_count(whole[:at] + junk + whole[at:], 100) > 0
