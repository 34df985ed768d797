"""Media cost by pixels and pages, and all else by bytes, wherever in a message they stand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import MODEL, OWNER, START_MS, new_session
from tests.media import (
    base64_of,
    document,
    image,
    jpeg,
    pdf,
    png,
    search_result,
    segment,
    text_block,
    text_document,
    tool_result,
)
from turnlog.domain.blocks.images import ImageSize
from turnlog.domain.blocks.media import Load, load_of, media_bytes, size_of
from turnlog.domain.blocks.tokens import MOST_IMAGE_TOKENS, PAGE_TEXT_TOKENS, image_tokens, tokens_of
from turnlog.domain.limits import OwnerLimits, charges, question_charges
from turnlog.domain.messages import Message, ModelRequest, ModelSettings, to_json
from turnlog.domain.sessions import SessionView

BEFORE = "claude-haiku-4-5"


def message(*blocks: dict[str, Any]) -> Message:
    return Message("user", to_json([*blocks]))


def content_source(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "content", "content": [*blocks]}}


def test_media_are_found_wherever_they_stand() -> None:
    data = len(base64_of(png()))
    blocks = [
        text_block(),
        image(),
        content_source(image(), text_block()),
        tool_result(content=[image(), content_source(image())]),
        search_result(),
        text_document(),
    ]
    assert media_bytes(blocks) == 4 * data
    assert media_bytes([document(b"text", "text/plain")]) == 0


@pytest.mark.parametrize(
    "blocks",
    [
        [None, 5, "a", []],
        [{"source": 5}, {"source": {"type": "base64"}}, {"source": {"type": "base64", "data": 5}}],
        [{"content": {"content": []}}, {"content": [None, {"source": {"content": [None]}}]}],
    ],
)
def test_what_is_no_block_has_no_media(blocks: list[Any]) -> None:
    assert media_bytes(blocks) == 0


def test_the_size_of_an_image_is_found_behind_long_notes() -> None:
    for notes in (0, 1, 20):
        assert size_of(base64_of(jpeg(640, 480, before=segment(65_000) * notes))) == ImageSize(640, 480)
    assert size_of(base64_of(b"no image")) is None
    assert size_of("no base64!") is None


@pytest.mark.parametrize(
    ("width", "height", "model", "tokens"),
    [
        (28, 28, MODEL, 2),  # 28 * 28 / 750 is more than one square
        (1_000, 1_000, MODEL, 1_334),
        (1, 8_000, MODEL, 286),  # squares of which most is empty
        (8_000, 8_000, MODEL, MOST_IMAGE_TOKENS),
        (8_000, 8_000, "a model that is not known", MOST_IMAGE_TOKENS),
        (8_000, 8_000, BEFORE, 1_600),
    ],
)
def test_an_image_has_the_tokens_of_its_pixels(width: int, height: int, model: str, tokens: int) -> None:
    assert image_tokens(ImageSize(width, height), model) == tokens


def test_an_image_of_unknown_size_has_the_tokens_of_the_largest() -> None:
    assert image_tokens(None, MODEL) == MOST_IMAGE_TOKENS


def test_a_page_has_the_tokens_of_its_text_and_its_image() -> None:
    added = tokens_of(message(document(pdf(7))), MODEL) - tokens_of(message(document(pdf(1))), MODEL)
    assert added == 6 * (PAGE_TEXT_TOKENS + MOST_IMAGE_TOKENS)


def test_a_pdf_that_cannot_be_counted_has_the_most_pages() -> None:
    lost = tokens_of(message(document(b"%PDF-")), MODEL)
    assert lost > tokens_of(message(document(pdf(99))), MODEL)


def test_text_has_a_token_for_each_byte() -> None:
    for said in (Message.of_text("heron"), Message.of_text("Grüße, 鷺"), message(text_document("鷺"))):
        assert tokens_of(said, MODEL) == len(said.content.encode())


def test_all_but_media_has_a_token_for_each_byte() -> None:
    large, small = message(image(png(filling=900_000)), text_block("鷺")), message(image(png()), text_block("鷺"))
    assert tokens_of(large, MODEL) == tokens_of(small, MODEL)
    assert len(small.content.encode()) - len(base64_of(png())) + 1 == tokens_of(small, MODEL)


def test_two_megabytes_of_media_fit_into_the_budget_of_a_day() -> None:
    limits = OwnerLimits(budget_a_day=Decimal(2_000_000))
    for block in (image(png(4_000, 3_000, filling=1_500_000)), document(pdf(100, filling=1_500_000))):
        assert media_bytes([block]) > 2_000_000
        view = SessionView(new_session(), "", 0, ())
        [charge] = charges(view, message(block), limits, START_MS)
        assert charge.amount < 800_000
        question = ModelRequest(ModelSettings(MODEL, 1_000), (message(block),))
        asked = question_charges(OWNER, question, limits, START_MS)
        assert asked
        assert asked.charges[0].amount < 800_000


def test_a_load_is_the_sum_of_its_messages() -> None:
    said = message(image(png(2_001, 1)), image(), document(pdf(3)), document(pdf(4)))
    assert load_of([said, Message.of_text("鷺")]) == Load(
        len(said.content.encode()) + len(Message.of_text("鷺").content.encode()), 2, 1, 7
    )
    assert load_of([]) == Load()


@pytest.mark.parametrize(
    ("load", "fits", "half"),
    [
        (Load(), True, True),
        (Load(1_000), True, False),
        (Load(1_001), False, False),
        (Load(500, 50, 0, 50), True, True),
        (Load(0, 100, 0, 100), True, False),
        (Load(0, 101), False, False),
        (Load(0, 0, 0, 101), False, False),
        (Load(0, 10, 10), True, True),
        (Load(0, 20, 1), True, False),
        (Load(0, 21, 1), False, False),
    ],
)
def test_a_load_fits_into_one_request_or_not(load: Load, fits: bool, half: bool) -> None:
    assert (load.fits(1_000), load.fits(1_000, 0.5)) == (fits, half)
