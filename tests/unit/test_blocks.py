"""A message is taken as Claude takes it, and what Claude would refuse is refused before it is paid."""

from __future__ import annotations

from typing import Any

import pytest

from tests.media import (
    document,
    gif,
    image,
    in_pdf,
    jpeg,
    pdf,
    png,
    search_result,
    text_block,
    text_document,
    tool_result,
    webp,
)
from turnlog.domain.blocks.reading import read_message
from turnlog.errors import InvalidRequest, ValueRefused

CITED: dict[str, Any] = {"citations": {"enabled": True}}


def content_source(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "content", "content": [*blocks]}}


def refusal(value: object, **how: Any) -> tuple[bool, str, str | None, dict[str, Any]]:
    """Returns True for a refused value, the code, the pointer and the details."""
    with pytest.raises(InvalidRequest) as raised:
        read_message(value, **how)
    error = raised.value
    return isinstance(error, ValueRefused), error.code, error.pointer, dict(error.details)


def with_source(block: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**block, "source": {**block["source"], **fields}}


TAKEN: dict[str, list[dict[str, Any]]] = {
    "a PNG": [image(), text_block()],
    "a JPEG": [image(jpeg(8_000, 8_000), "image/jpeg")],
    "a GIF": [image(gif(), "image/gif")],
    "WebP": [image(webp(kind), "image/webp") for kind in ("VP8 ", "VP8L", "VP8X")],
    "twenty large images": [image(png(8_000, 1))] * 20,
    "a hundred images": [image(png(2_000, 2_000))] * 100,
    "a PDF": [document(pdf(100))],
    "a PDF with all that it may have": [document(title="Herons", context="From a library.", **CITED)],
    "two PDFs": [document(pdf(50)), document(pdf(50))],
    "a text document": [text_document(title="x" * 500, citations={"enabled": False})],
    "citations without a word": [text_document(citations={}), text_document()],
    "a document of blocks": [content_source(text_block(), image())],
    "a document of one text": [{"type": "document", "source": {"type": "content", "content": "Herons."}}],
    "search results": [search_result(**CITED), search_result(**CITED)],
    "a result of a tool": [tool_result(content="42")],
    "a result that is empty": [tool_result(content="")],
    "a result that is left out": [tool_result(), text_block()],
    "results in blocks": [
        tool_result("a", content=[text_block(), image(), search_result(), document()]),
        tool_result("b"),
    ],
    "a result without blocks": [tool_result(content=[])],
    "an error of a tool": [tool_result(content=[text_block("It failed.")], is_error=True)],
    "300 texts": [text_block(f"{number}") for number in range(300)],
}


@pytest.mark.parametrize("blocks", TAKEN.values(), ids=TAKEN)
def test_a_message_is_kept_as_it_was_received(blocks: list[dict[str, Any]]) -> None:
    message = read_message(blocks)
    assert message.role == "user"
    assert [list(block) for block in message.blocks] == [list(block) for block in blocks]
    assert message.blocks == blocks


def test_a_string_is_a_block_of_text() -> None:
    assert read_message("hello").blocks == [{"type": "text", "text": "hello"}]


ENCODED = {
    "UTF-8": "Grüße, 鷺",
    "UTF-8-SIG": "Grüße, 鷺",
    "UTF-16": "Grüße, 鷺",
    "Latin-1": "Grüße, señor",
    "Windows-1252": "„Grüße“ – 5 €",
}


@pytest.mark.parametrize(("encoding", "said"), ENCODED.items(), ids=ENCODED)
@pytest.mark.parametrize("within", [False, True], ids=["in a message", "in a result"])
def test_a_text_document_of_any_encoding_goes_on_as_text(encoding: str, said: str, within: bool) -> None:
    given = document(said.encode(encoding), "text/plain", title="Letter", **CITED)
    read = read_message([tool_result(content=[text_block(), given])] if within else [given]).blocks
    expected = text_document(said, title="Letter", **CITED)
    assert read == ([tool_result(content=[text_block(), expected])] if within else [expected])


def test_utf_16_of_either_order_is_read() -> None:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        [read] = read_message([document(mark + "heron".encode(encoding), "text/plain")]).blocks
        assert read["source"]["data"] == "heron"


PNG_AS_JPEG = image(media_type="image/jpeg")
MISMATCHED = {
    "a PNG that is called a JPEG": PNG_AS_JPEG,
    "a JPEG that is called a PNG": image(jpeg()),
    "a page that is called a PNG": image(b"<html>"),
    "nothing that is called a GIF": image(b"", "image/gif"),
    "a PDF that is called an image": image(pdf()),
    "an image that is called a PDF": document(png()),
    "a PDF that begins late": document(b"\n" + pdf()),
}


@pytest.mark.parametrize("block", MISMATCHED.values(), ids=MISMATCHED)
def test_data_of_another_type_than_it_says_is_refused(block: dict[str, Any]) -> None:
    assert refusal([text_block(), block]) == (True, "media_type_mismatch", "/message/1/source/media_type", {})


def test_an_image_without_a_size_is_refused() -> None:
    for data in (png(0, 5), png()[:20]):
        assert refusal([image(data)]) == (True, "image_invalid", "/message/0/source/data", {})


def test_an_image_with_a_side_that_is_too_long_is_refused() -> None:
    for data in (png(8_001, 1), png(1, 8_001), png(2**31 - 1, 2**31 - 1)):
        said = True, "image_too_large", "/message/0/source/data", {"maximum": 8_000}
        assert refusal([image(data)]) == said


def test_among_more_than_twenty_images_none_may_be_large() -> None:
    blocks = [image(), *[tool_result(str(number), content=[image()]) for number in range(20)]]
    blocks = [*blocks[1:], blocks[0], image(png(2_001, 1))]
    said = True, "image_too_large", "/message/21/source/data", {"maximum": 2_000}
    assert refusal(blocks) == said


def test_more_than_a_hundred_images_are_refused_wherever_they_stand() -> None:
    said = True, "images_too_many", "/message", {"maximum": 100}
    assert refusal([image()] * 200) == said
    assert refusal([content_source(*[image()] * 60), *[image()] * 41]) == said


def test_an_image_of_more_than_ten_million_characters_is_refused() -> None:
    said = True, "image_too_large", "/message/0/source/data", {"max_length": 10_000_000}
    assert refusal([image(png(filling=7_500_000))]) == said


def test_more_than_a_hundred_pages_are_refused_together() -> None:
    said = True, "document_too_long", "/message/0/source/data", {"maximum": 100}
    assert refusal([document(pdf(101))]) == said
    assert refusal([document(pdf(1_000))]) == said
    assert refusal([document(pdf(60)), document(pdf(41))])[1:3] == ("document_too_long", "/message/1/source/data")


def test_an_encrypted_pdf_is_refused() -> None:
    encrypted = document(pdf(trailer=b"/Encrypt 9 0 R"))
    assert refusal([encrypted]) == (True, "document_encrypted", "/message/0/source/data", {})


def test_a_pdf_whose_pages_cannot_be_counted_is_refused() -> None:
    for data in (b"%PDF-1.7", in_pdf([b"<</Type/Catalog>>"])):
        assert refusal([document(data)]) == (True, "document_invalid", "/message/0/source/data", {})


def test_bytes_that_are_no_text_are_refused_as_a_text_document() -> None:
    at = "/message/0/source/data"
    assert refusal([document(b"\x81 heron", "text/plain")]) == (True, "document_not_text", at, {})
    assert refusal([document(b"\xff\xfeh", "text/plain")]) == (True, "document_not_text", at, {})
    assert refusal([document("heron".encode("utf-16-le"), "text/plain")]) == (False, "control_character", at, {})
    assert refusal([document(png(), "text/plain")])[1] in ("control_character", "document_not_text")
    assert refusal([document(b" \n", "text/plain")]) == (True, "message_empty", at, {})


@pytest.mark.parametrize(
    "data",
    ["====", "YQ", "YQ=", "YQ===", "Y Q==", "YQ==\n", "YQ==YQ==", "Y-_=", "grüß", "=YQ="],
)
def test_base64_must_be_exact(data: str) -> None:
    for block in (image(), document()):
        assert refusal([with_source(block, data=data)]) == (False, "base64_invalid", "/message/0/source/data", {})


def test_a_source_that_would_be_fetched_is_refused() -> None:
    for source in ({"type": "url", "url": "https://birds.example/"}, {"type": "file", "file_id": "file_1"}):
        said = True, "source_not_fetched", "/message/0/source/type"
        assert refusal([{"type": "image", "source": source}]) == (*said, {"allowed": ["base64"]})
        allowed = {"allowed": ["base64", "text", "content"]}
        assert refusal([{"type": "document", "source": source}]) == (*said, allowed)


def test_citations_are_for_all_or_for_none() -> None:
    at = "/message/1/citations"
    assert refusal([text_document(**CITED), text_document(citations={"enabled": False})])[1:3] == (
        "citations_mixed",
        at,
    )
    assert refusal([text_document(**CITED), text_document()])[1:3] == ("citations_mixed", "/message/1")
    assert refusal([text_document(), search_result(**CITED)])[1:3] == ("citations_mixed", at)
    nested = [tool_result(content=[search_result()]), document(**CITED)]
    assert refusal(nested)[1:3] == ("citations_mixed", at)


def test_results_of_tools_come_first_and_once() -> None:
    assert refusal([text_block(), tool_result()]) == (True, "tool_result_misplaced", "/message/1", {})
    assert refusal([tool_result("a"), image(), tool_result("b")])[1:3] == ("tool_result_misplaced", "/message/2")
    twice = refusal([tool_result("a"), tool_result("a")])
    assert twice == (True, "tool_result_duplicate", "/message/1/tool_use_id", {})


def test_results_of_tools_are_refused_where_none_was_called() -> None:
    assert refusal([tool_result()], with_results=False) == (True, "tool_result_unexpected", "/message/0", {})


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "ä", "x" * 257, "toolu_1\n"])
def test_the_id_of_a_call_has_its_form(name: str) -> None:
    said = refusal([tool_result(name)])
    assert said[:3] == (True, "tool_use_id_range", "/message/0/tool_use_id")


def test_an_error_of_a_tool_has_only_text() -> None:
    said = True, "block_type_unknown", "/message/0/content/0/type", {"allowed": ["text"]}
    assert refusal([tool_result(content=[image()], is_error=True)]) == said


KINDS = ["text", "image", "document", "search_result", "tool_result"]
MALFORMED: list[tuple[object, str, str, dict[str, Any]]] = [
    (5, "wrong_type", "/message", {}),
    (None, "wrong_type", "/message", {}),
    ({"type": "text"}, "wrong_type", "/message", {}),
    (["a"], "wrong_type", "/message/0", {}),
    ([{}], "field_missing", "/message/0/type", {}),
    ([{"type": 5}], "wrong_type", "/message/0/type", {}),
    ([{"type": "image"}], "field_missing", "/message/0/source", {}),
    ([{"type": "image", "source": "x"}], "wrong_type", "/message/0/source", {}),
    ([{"type": "image", "source": {}}], "field_missing", "/message/0/source/type", {}),
    ([{"type": "image", "source": {"type": "base64"}}], "field_missing", "/message/0/source/media_type", {}),
    ([with_source(image(), data=5)], "wrong_type", "/message/0/source/data", {}),
    ([with_source(image(), media_type=None)], "wrong_type", "/message/0/source/media_type", {}),
    (
        [with_source(image(), more=1)],
        "unknown_field",
        "/message/0/source",
        {"allowed": ["type", "media_type", "data"], "field": 4},
    ),
    (
        [{**image(), "cache_control": {"type": "ephemeral"}}],
        "unknown_field",
        "/message/0",
        {"allowed": ["type", "source"], "field": 3},
    ),
    ([document(title=None)], "wrong_type", "/message/0/title", {}),
    ([document(context=5)], "wrong_type", "/message/0/context", {}),
    ([document(title="a\x00")], "control_character", "/message/0/title", {}),
    ([document(citations=True)], "wrong_type", "/message/0/citations", {}),
    ([document(citations={"enabled": 1})], "wrong_type", "/message/0/citations/enabled", {}),
    ([document(citations={"on": True})], "unknown_field", "/message/0/citations", {"allowed": ["enabled"], "field": 1}),
    ([text_document("a\x07")], "control_character", "/message/0/source/data", {}),
    ([content_source(text_block("a\x07"))], "control_character", "/message/0/source/content/0/text", {}),
    (
        [{"type": "document", "source": {"type": "content", "content": 5}}],
        "wrong_type",
        "/message/0/source/content",
        {},
    ),
    ([search_result(source=5)], "wrong_type", "/message/0/source", {}),
    ([search_result(content="a")], "wrong_type", "/message/0/content", {}),
    ([{**tool_result(), "tool_use_id": 5}], "wrong_type", "/message/0/tool_use_id", {}),
    ([tool_result(is_error="no")], "wrong_type", "/message/0/is_error", {}),
    ([tool_result(content={"a": 1})], "wrong_type", "/message/0/content", {}),
    ([tool_result(content="a\x9b")], "control_character", "/message/0/content", {}),
]
REFUSED: list[tuple[object, str, str, dict[str, Any]]] = [
    ([], "message_empty", "/message", {}),
    ("", "message_empty", "/message", {}),
    ([text_block(" \n")], "message_empty", "/message/0/text", {}),
    ([{"type": "video"}], "block_type_unknown", "/message/0/type", {"allowed": KINDS}),
    ([{"type": "tool_use"}], "block_type_unknown", "/message/0/type", {"allowed": KINDS}),
    ([{"type": "thinking"}], "block_type_unknown", "/message/0/type", {"allowed": KINDS}),
    ([{"type": "image", "source": {"type": "text"}}], "source_type_unknown", "/message/0/source/type",
     {"allowed": ["base64"]}),
    ([image(media_type="image/svg+xml")], "media_type_unknown", "/message/0/source/media_type",
     {"allowed": ["image/jpeg", "image/png", "image/gif", "image/webp"]}),
    ([document(media_type="text/html")], "media_type_unknown", "/message/0/source/media_type",
     {"allowed": ["application/pdf", "text/plain"]}),
    ([with_source(text_document(), media_type="text/markdown")], "media_type_unknown",
     "/message/0/source/media_type", {"allowed": ["text/plain"]}),
    ([document(title=" ")], "message_empty", "/message/0/title", {}),
    ([document(title="x" * 501)], "document_title_range", "/message/0/title", {"max_length": 500}),
    ([text_document(" ")], "message_empty", "/message/0/source/data", {}),
    ([content_source()], "message_empty", "/message/0/source/content", {}),
    ([content_source(document())], "block_type_unknown", "/message/0/source/content/0/type",
     {"allowed": ["text", "image"]}),
    ([search_result(content=[])], "message_empty", "/message/0/content", {}),
    ([search_result(content=[image()])], "block_type_unknown", "/message/0/content/0/type", {"allowed": ["text"]}),
    ([search_result(title="")], "message_empty", "/message/0/title", {}),
    ([tool_result(content=[tool_result("b")])], "block_type_unknown", "/message/0/content/0/type",
     {"allowed": KINDS[:-1]}),
    ([tool_result(content=[text_block("")])], "message_empty", "/message/0/content/0/text", {}),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code", "pointer", "details"), MALFORMED)
def test_what_is_no_message_is_pointed_at(value: object, code: str, pointer: str, details: dict[str, Any]) -> None:
    assert refusal(value) == (False, code, pointer, details)


@pytest.mark.parametrize(("value", "code", "pointer", "details"), REFUSED)
def test_a_value_that_is_not_taken_is_pointed_at(
    value: object, code: str, pointer: str, details: dict[str, Any]
) -> None:
    assert refusal(value) == (True, code, pointer, details)
