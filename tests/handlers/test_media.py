"""Images, documents and results of tools go from the caller to the model and back, as they were received."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.handlers.conftest import Backstage, Call
from tests.handlers.test_session import create, get, take
from tests.media import document, image, jpeg, pdf, png, search_result, text_block, text_document
from turnlog.domain.messages import Message, to_json

SENT: list[dict[str, Any]] = [
    image(jpeg(640, 480), "image/jpeg"),
    document(pdf(3), title="Herons", context="From a library.", citations={"enabled": True}),
    search_result(citations={"enabled": True}),
    {"text": "Grüße, \u202e鷺", "type": "text"},
]


@pytest.mark.parametrize("path", ["query", "analyze", "summarize"])
def test_a_question_with_media_reaches_the_model_as_it_was_received(
    call: Call, backstage: Backstage, path: str
) -> None:
    function = "analyze_code" if path == "analyze" else path
    uncited = [{name: part for name, part in block.items() if name != "citations"} for block in SENT]
    sent = SENT if path == "query" else uncited  # an answer with a form of its own cannot cite
    assert call(function, "POST", f"/{path}", {"message": sent}).status == 200
    assert backstage.model.requests[-1].messages[-1].content == to_json(sent)


def test_a_turn_with_media_is_sent_again_kept_and_exported_as_it_was_received(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    first = take(call, session_id, SENT, "first")
    assert first.status == 200
    assert take(call, session_id, "And now?", "second").status == 200
    assert backstage.model.requests[-1].messages[0].content == to_json(SENT)
    assert get(call, session_id, "/turns/{n}", also={"n": "1"}).body["message"] == SENT
    assert get(call, session_id, "/turns").body["items"][0]["message"] == SENT
    assert get(call, session_id, "/export").body["turns"][0]["message"] == SENT
    assert take(call, session_id, SENT, "first").raw == first.raw


def test_a_text_document_in_latin_1_is_read(call: Call, backstage: Backstage) -> None:
    letter = document("Grüße, señor".encode("latin-1"), "text/plain", title="Letter")
    assert call("query", "POST", "/query", {"message": [letter]}).status == 200
    assert backstage.model.requests[-1].messages[-1].blocks == [text_document("Grüße, señor", title="Letter")]


def test_a_picture_of_three_megabytes_is_taken(call: Call, backstage: Backstage) -> None:
    blocks = [image(png(4_000, 3_000, filling=3_000_000)), text_block("x" * 200_000)]
    assert call("query", "POST", "/query", {"message": blocks}).status == 200
    assert backstage.model.requests[-1].messages[-1].content == to_json(blocks)


def test_a_picture_beside_which_the_longest_reply_has_no_room_is_refused(call: Call, backstage: Backstage) -> None:
    sent = [image(png(4_000, 3_000, filling=1_500_000)), text_block()]
    long, short = (str(create(call, {"max_tokens": most}).body["session_id"]) for most in (128_000, 64_000))
    refused = take(call, long, sent, "first")
    assert (refused.status, refused.body["code"], refused.body["stored"]) == (413, "turn_too_large", False)
    assert backstage.model.requests == []
    assert take(call, long, "hello", "second").status == 200
    assert take(call, short, sent, "first").status == 200


@pytest.mark.parametrize("escaped", [("/", "\\/"), ("+", "\\u002B"), ("=", "\\u003d")])
def test_base64_with_the_escapes_of_some_encoders_is_taken(
    call: Call, backstage: Backstage, escaped: tuple[str, str]
) -> None:
    whole = json.dumps({"message": [image(png() + bytes(range(256)) * 1_000)]})
    head, data, tail = whole.partition('"data": "')[0], whole.partition('"data": "')[2].partition('"')[0], '"}}]}'
    raw = f'{head}"data": "{data.replace(*escaped)}{tail}'.encode()
    assert escaped[1].encode() in raw
    assert len(raw) > 262_144
    assert call("query", "POST", "/query", raw=raw).status == 200
    assert backstage.model.requests[-1].messages[-1].blocks[0]["source"]["data"] == data


def test_a_session_goes_on_after_as_many_images_as_a_request_may_have(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    assert take(call, session_id, [image()] * 100, "first").status == 200
    assert take(call, session_id, [image(), text_block("And this?")], "second").status == 200
    assert backstage.model.requests[-1].messages == (Message("user", to_json([image(), text_block("And this?")])),)
    assert take(call, session_id, "And both?", "third").status == 200
    assert len(backstage.model.requests[-1].messages) == 3
    assert get(call, session_id, "/turns/{n}", also={"n": "1"}).body["message"] == [image()] * 100


def test_citations_that_differ_from_those_before_are_refused_and_not_paid(call: Call, backstage: Backstage) -> None:
    session_id = str(create(call).body["session_id"])
    take(call, session_id, [text_document(citations={"enabled": True})], "first")
    refused = take(call, session_id, [text_document()], "second")
    assert (refused.status, refused.body["code"]) == (422, "citations_mixed")
    assert len(backstage.model.requests) == 1
    assert take(call, session_id, "And now?", "third").status == 200
