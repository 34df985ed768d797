"""Images, documents, search results and citations: which are refused, what they cost, and what is said of them.

An id or a docstring names the source: a page of the provider's docs, the SDK's types, or reports of users.
"""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from local.claude_stand_in import StandIn
from local.claude_stand_in.images import Image, image_in
from tests.unit.claude_stand_in.asking import MODEL, TEXT, WELL_FORMED, posted, with_content
from tests.unit.claude_stand_in.files import encoded, gif, jpeg, pdf, png, webp


def image(data: str, kind: str = "png") -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": f"image/{kind}", "data": data}}


def document(source: object, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source} | more


def pdf_source(data: str) -> dict[str, Any]:
    return {"type": "base64", "media_type": "application/pdf", "data": data}


def text_source(data: str) -> dict[str, Any]:
    return {"type": "text", "media_type": "text/plain", "data": data}


FOUND = {"type": "search_result", "source": "https://example.com/", "title": "Herons", "content": [TEXT]}
CITED: dict[str, Any] = {"citations": {"enabled": True}}


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (png(640, 480), "png"),
        (jpeg(640, 480), "jpeg"),
        (jpeg(640, 480, before=60_000), "jpeg"),
        (gif(640, 480), "gif"),
        (webp(640, 480), "webp"),
        (webp(640, 480, b"VP8L"), "webp"),
        (webp(640, 480, b"VP8X"), "webp"),
    ],
)
def test_the_kind_and_the_size_of_an_image_are_read_from_its_bytes(data: str, kind: str) -> None:
    assert image_in(data) == Image(kind, 640, 480)


@pytest.mark.parametrize(
    "raw", [b"", b"GIF89a", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\x00", b"RIFF\0\0\0\0WEBPVP8X", b"BM" + bytes(60)]
)
def test_bytes_that_are_cut_or_of_another_kind_are_no_image(raw: bytes) -> None:
    assert image_in(encoded(raw)) is None


MANY = [image(png(2001, 5))] + [image(png(5, 5))] * 19
REFUSED = [
    pytest.param("appears to be a image/png image", [image(png(5, 5), "jpeg")], id="reports: an image of another type"),
    pytest.param("Could not process image", [image(encoded(b"Hello"))], id="reports: no image"),
    pytest.param("Could not process image", [image(png(0, 5))], id="reports: an image without pixels"),
    pytest.param("invalid base64 data", [image("%%%%")], id="reports: no base64"),
    pytest.param("invalid base64 data", [image(png(5, 5) + "%%%%" * 9000)], id="reports: no base64 at its end"),
    pytest.param("media_type: Input should be", [image(png(5, 5), "tiff")], id="types Base64ImageSourceParam: kinds"),
    pytest.param("data: Input should be", [image("")], id="types Base64ImageSourceParam: data"),
    pytest.param("exceeds 10 MB maximum: 10485764 bytes > 10485760", [image("A" * 10_485_764)],
                 id="page Vision: 10 MB of base64"),
    pytest.param("max allowed size: 8000 pixels", [image(png(8001, 5))], id="page Vision: 8,000 pixels"),
    pytest.param("max allowed size for many-image requests: 2000 pixels", [*MANY, image(png(5, 5))],
                 id="page Vision: 2,000 pixels of more than 20 images"),
    pytest.param("many-image", [document({"type": "content", "content": [*MANY, image(png(5, 5))]})],
                 id="page Vision: images in documents count"),
    pytest.param("too many images: 601 > 600", [image(png(5, 5))] * 601, id="page Vision: 600 images"),
    pytest.param("Unable to download", [{"type": "image", "source": {"type": "url", "url": "https://example.com/"}}],
                 id="ours: nothing is fetched"),
    pytest.param("source: Field required", [{"type": "image"}], id="types ImageBlockParam: source"),
    pytest.param("source: Field required", [{"type": "image", "source": 5}], id="types ImageBlockParam: its form"),
    pytest.param("base64.colour: Extra inputs", [{"type": "image", "source": pdf_source("a") | {"colour": 1}}],
                 id="types Base64ImageSourceParam: fields"),
    pytest.param("does not match any of the expected tags", [document({"type": "fax"})],
                 id="types DocumentBlockParam: sources"),
    pytest.param("A maximum of 100 PDF pages", [document(pdf_source(pdf(101)))], id="page PDF support: 100 pages"),
    pytest.param("A maximum of 100 PDF pages", [document(pdf_source(pdf(60)))] * 2,
                 id="page PDF support: 100 pages of all"),
    pytest.param("PDF specified was not valid", [document(pdf_source(encoded(b"Hello")))], id="reports: no PDF"),
    pytest.param("PDF specified was not valid", [document(pdf_source("%"))], id="reports: no base64 of a PDF"),
    pytest.param("PDF specified was not valid", [document(pdf_source(pdf(0)))], id="reports: a PDF without pages"),
    pytest.param("password protected", [document(pdf_source(pdf(1, b"/Encrypt 5 0 R")))],
                 id="page PDF support: no passwords"),
    pytest.param("non-empty", [document(text_source(""))], id="types PlainTextSourceParam: data"),
    pytest.param("media_type", [document(text_source("a") | {"media_type": "text/html"})],
                 id="types PlainTextSourceParam: media_type"),
    pytest.param("expected tags", [document({"type": "content", "content": [document(text_source("a"))]})],
                 id="types ContentBlockSourceParam: content"),
    pytest.param("title: Input should be", [document(text_source("a"), title=5)], id="types DocumentBlockParam: title"),
    pytest.param("all or none", [document(text_source("a"), **CITED), document(text_source("b"))],
                 id="page Citations: all or none"),
    pytest.param("citations", [document(text_source("a"), citations=True)], id="types CitationsConfigParam"),
    pytest.param("content: Input should be", [document({"type": "content", "content": []})],
                 id="types ContentBlockSourceParam: some content"),
    pytest.param("source: Input should be", [FOUND | {"source": 5}], id="types SearchResultBlockParam: source"),
    pytest.param("content: Input should be", [FOUND | {"content": []}], id="page Search results: content"),
    pytest.param("expected tags", [FOUND | {"content": [image(png(5, 5))]}], id="types SearchResultBlockParam: text"),
    pytest.param("title: Field required", [{"type": "search_result", "source": "s", "content": [TEXT]}],
                 id="types SearchResultBlockParam: title"),
]  # fmt: skip


class TestRules:
    @pytest.mark.parametrize(("complaint", "blocks"), REFUSED)
    def test_what_claude_cannot_read_is_refused(
        self, claude: StandIn, complaint: str, blocks: list[dict[str, Any]]
    ) -> None:
        status, answer = posted(claude, with_content(blocks))
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert complaint in answer["error"]["message"]

    @pytest.mark.parametrize(
        "blocks",
        [
            [image(png(8000, 8000))],
            MANY,
            [document(pdf_source(pdf(100)))],
            [document({"type": "content", "content": "Hello"}), document(text_source("é"), title="T", context="c")],
            [FOUND | {"citations": {"enabled": False}}],
        ],
    )
    def test_what_is_just_within_the_limits_is_accepted(self, claude: StandIn, blocks: list[dict[str, Any]]) -> None:
        status, answer = posted(claude, with_content(blocks))
        assert status == 200, answer

    def test_a_small_context_holds_a_hundred_images(self, claude: StandIn) -> None:
        """Page Vision."""
        body = with_content([image(png(5, 5))] * 101) | {"model": "claude-haiku-4-5"}
        assert "too many images: 101 > 100" in posted(claude, body)[1]["error"]["message"]

    def test_citations_do_not_go_with_structured_output(self, claude: StandIn) -> None:
        """Page Structured outputs: incompatible features."""
        schema = {"type": "object", "properties": {}, "additionalProperties": False}
        body = with_content([document(text_source("a"), **CITED)])
        asked = body | {"output_config": {"format": {"type": "json_schema", "schema": schema}}}
        assert [posted(claude, each)[0] for each in (body, asked)] == [200, 400]

    def test_media_in_the_result_of_a_tool_are_checked_too(self, claude: StandIn) -> None:
        call = {"type": "tool_use", "id": "t", "name": "camera", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "t", "content": [image(png(8001, 5))]}
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [call]}]
        messages.append({"role": "user", "content": [result]})
        assert "8000 pixels" in posted(claude, WELL_FORMED | {"messages": messages})[1]["error"]["message"]


class TestTokens:
    @pytest.mark.parametrize(
        ("block", "tokens"),
        [
            (image(png(750, 1)), 1),
            (image(png(751, 1)), 2),
            (image(png(1000, 900)), 1200),
            (image(png(3136, 200)), 210),
            (image(png(8000, 8000)), 1600),
            (document(pdf_source(pdf(3))), 9300),
            (document(text_source("12345678"), title="1234"), 3),
            (document({"type": "content", "content": [TEXT, image(png(750, 1))]}), 3),
        ],
    )
    def test_media_are_counted_by_pixels_pages_and_texts(
        self, sdk: anthropic.Anthropic, block: Any, tokens: int
    ) -> None:
        messages: list[Any] = [{"role": "user", "content": [block]}]
        counted = sdk.messages.count_tokens(model=MODEL, messages=messages).input_tokens
        assert counted == tokens + 4
        assert sdk.messages.create(model=MODEL, max_tokens=9, messages=messages).usage.input_tokens == counted


def said(claude: StandIn, *blocks: dict[str, Any]) -> list[dict[str, Any]]:
    status, answer = posted(claude, with_content(list(blocks)))
    assert status == 200, answer
    content: list[dict[str, Any]] = answer["content"]
    return content


class TestAnswers:
    def test_the_answer_says_what_it_was_shown(self, claude: StandIn) -> None:
        text = said(claude, image(png(640, 480)), image(jpeg(3, 5), "jpeg"), document(pdf_source(pdf(1))), TEXT)[0][
            "text"
        ]
        assert (
            "You showed me 2 images (PNG, 640 × 480 pixels; JPEG, 3 × 5 pixels) and 1 document (PDF, 1 page)." in text
        )
        assert "You said “Hello”" in text

    def test_a_picture_of_an_earlier_message_is_not_told_again(self, claude: StandIn) -> None:
        messages = [{"role": "user", "content": [image(png(3, 5))]}, {"role": "assistant", "content": "Nice"}]
        messages.append({"role": "user", "content": "Hello"})
        text = posted(claude, WELL_FORMED | {"messages": messages})[1]["content"][0]["text"]
        assert "showed" not in text

    @pytest.mark.parametrize(
        ("block", "citation"),
        [
            (
                document(text_source("Herons eat fish. It rained."), title="T"),
                {"type": "char_location", "cited_text": "Herons eat fish.", "document_index": 0, "document_title": "T",
                 "file_id": None, "start_char_index": 0, "end_char_index": 16},
            ),
            (
                document(pdf_source(pdf(2))),
                {"type": "page_location", "cited_text": "The first page.", "document_index": 0, "document_title": None,
                 "file_id": None, "start_page_number": 1, "end_page_number": 2},
            ),
            (
                document({"type": "content", "content": [TEXT]}),
                {"type": "content_block_location", "cited_text": "Hello", "document_index": 0, "document_title": None,
                 "file_id": None, "start_block_index": 0, "end_block_index": 1},
            ),
            (
                FOUND,
                {"type": "search_result_location", "cited_text": "Hello", "search_result_index": 0, "title": "Herons",
                 "source": "https://example.com/", "start_block_index": 0, "end_block_index": 1},
            ),
        ],
    )  # fmt: skip
    def test_what_may_be_cited_is_cited(self, claude: StandIn, block: dict[str, Any], citation: dict[str, Any]) -> None:
        """Page Citations; types of the locations."""
        assert said(claude, block | CITED, TEXT)[1]["citations"] == [citation]
        assert len(said(claude, block, TEXT)) == 1

    def test_a_streamed_citation_equals_the_plain_one(self, sdk: anthropic.Anthropic) -> None:
        content: Any = [document(text_source("Herons eat fish."), **CITED), TEXT]
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": content}]}
        with sdk.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        plain = sdk.messages.create(**asked)
        assert streamed.model_dump() == plain.model_dump()
        more = [*asked["messages"], {"role": "assistant", "content": plain.to_dict()["content"]}]
        more.append({"role": "user", "content": "Thank you"})
        assert sdk.messages.create(**asked | {"messages": more}).stop_reason == "end_turn"
