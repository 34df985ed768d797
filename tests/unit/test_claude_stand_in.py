"""The Claude stand-in, called by the real SDK over the loopback interface."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict, cast

import anthropic
import httpx2
import pytest
from anthropic.types import (
    AssistantMessageParam,
    ContentBlockParam,
    DocumentBlockParam,
    Message,
    MessageParam,
    ToolResultBlockParam,
    UserMessageParam,
)

from local.claude_stand_in import StandIn
from local.claude_stand_in.record import Record

MARK = "[stand-in, not Claude] "
MODEL = "claude-sonnet-5-5"


class Question(TypedDict):
    """A request body with the required fields, changed by `more`."""

    model: str
    max_tokens: int
    messages: list[MessageParam]


WELL_FORMED: Question = {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": "Hello there"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with StandIn() as claude:
        yield claude


@pytest.fixture
def claude(running: StandIn) -> StandIn:
    running.forget_requests()
    running.clear_faults()
    return running


@pytest.fixture
def sdk(claude: StandIn) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=claude.url, api_key="a-secret-key", max_retries=0, timeout=5) as client:
        yield client


def conversation(*texts: str) -> list[MessageParam]:
    """Messages of user and assistant in turns, the user first."""
    return [
        AssistantMessageParam(role="assistant", content=text)
        if number % 2
        else UserMessageParam(role="user", content=text)
        for number, text in enumerate(texts)
    ]


def text_of(reply: Message) -> str:
    """The text of the first block, which must be a text block."""
    block = reply.content[0]
    assert block.type == "text"
    return block.text


def body_of(error: anthropic.APIStatusError) -> dict[str, Any]:
    assert isinstance(error.body, dict)
    return error.body


def said(sdk: anthropic.Anthropic, *texts: str, system: str = "", max_tokens: int = 500) -> str:
    """The answer to a conversation, without the mark."""
    reply = sdk.messages.create(model=MODEL, max_tokens=max_tokens, system=system, messages=conversation(*texts))
    text = text_of(reply)
    assert text.startswith(MARK)
    return text.removeprefix(MARK)


def http_answer(
    claude: StandIn, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, dict[str, str]]:
    """Status, parsed body and headers of one request without the SDK. A `body` of bytes goes as it is."""
    connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)
    try:
        sent = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, path, sent, headers or {})
        response = connection.getresponse()
        return response.status, json.loads(response.read()), {n.lower(): v for n, v in response.getheaders()}
    finally:
        connection.close()


def posted(claude: StandIn, body: object, path: str = "/v1/messages", **headers: str) -> tuple[int, Any]:
    """Status and parsed body of a message request sent without the SDK."""
    sent = {"x-api-key": "k", "anthropic-version": "2026-10-21"} | {n.replace("_", "-"): v for n, v in headers.items()}
    status, answer, _ = http_answer(claude, "POST", path, body, {n: v for n, v in sent.items() if v})
    return status, answer


class TestReplies:
    def test_a_reply_has_the_shape_of_claudes_and_says_that_it_is_a_stand_in(self, sdk: anthropic.Anthropic) -> None:
        raw = sdk.messages.with_raw_response.create(**WELL_FORMED)
        reply = json.loads(raw.http_response.content)
        assert reply.keys() == {
            "id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage",
        }  # fmt: skip
        assert reply["id"].startswith("msg_")
        assert (reply["type"], reply["role"], reply["model"]) == ("message", "assistant", MODEL)
        assert (reply["stop_reason"], reply["stop_sequence"]) == ("end_turn", None)
        assert reply["content"][0]["text"].startswith(MARK)
        assert raw.headers["x-turnlog-stand-in"] == "1"
        assert raw.headers["request-id"].startswith("req_")

    def test_the_same_request_gets_the_same_reply(self, sdk: anthropic.Anthropic) -> None:
        first, second = (sdk.messages.create(**WELL_FORMED) for _ in range(2))
        assert first.to_dict() == second.to_dict()

    def test_another_request_gets_another_id(self, sdk: anthropic.Anthropic) -> None:
        assert sdk.messages.create(**WELL_FORMED).id != sdk.messages.create(**WELL_FORMED | {"max_tokens": 201}).id

    def test_a_streamed_reply_equals_the_plain_one(self, sdk: anthropic.Anthropic) -> None:
        plain = sdk.messages.create(**WELL_FORMED)
        with sdk.messages.stream(**WELL_FORMED) as stream:
            text = "".join(stream.text_stream)
            streamed = stream.get_final_message()
        assert text == text_of(plain)
        assert streamed.model_dump() == plain.model_dump()

    def test_a_stream_has_the_events_of_the_api_in_its_order(self, sdk: anthropic.Anthropic) -> None:
        kinds = [event.type for event in sdk.messages.create(**WELL_FORMED, stream=True)]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        assert len(kinds[2:-3]) > 2
        assert set(kinds[2:-3]) == {"content_block_delta"}

    def test_a_stream_begins_without_content_or_stop_reason(self, sdk: anthropic.Anthropic) -> None:
        with sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            start = next(stream)
        assert start.type == "message_start"
        assert (start.message.content, start.message.stop_reason) == ([], None)
        assert start.message.usage.input_tokens > 0

    def test_an_answer_longer_than_max_tokens_is_cut_there(self, sdk: anthropic.Anthropic) -> None:
        whole = sdk.messages.create(**WELL_FORMED)
        short = sdk.messages.create(**WELL_FORMED | {"max_tokens": 7})
        assert (short.stop_reason, short.usage.output_tokens) == ("max_tokens", 7)
        assert text_of(short) == text_of(whole)[: 4 * 7]

    def test_a_stop_sequence_ends_the_answer_before_it(self, sdk: anthropic.Anthropic) -> None:
        reply = sdk.messages.create(**WELL_FORMED, stop_sequences=["never said", " message "])
        assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", " message ")
        assert text_of(reply) == f"{MARK}This is"

    def test_an_answer_stopped_at_its_first_character_has_no_content(self, sdk: anthropic.Anthropic) -> None:
        stops = ["[stand"]
        assert sdk.messages.create(**WELL_FORMED, stop_sequences=stops).content == []
        with sdk.messages.stream(**WELL_FORMED, stop_sequences=stops) as stream:
            assert stream.get_final_message().content == []


class TestAnswers:
    @pytest.mark.parametrize(
        ("told", "name"),
        [
            ("Hello! My name is Ada.", "Ada"),
            ("I am called Grace Hopper and I like ships", "Grace Hopper"),
            ("I'm called ada, by the way", "ada"),
            ("Just call me Zoë!", "Zoë"),
            ("my name is user-17", "user-17"),
        ],
    )
    @pytest.mark.parametrize("asked", ["What is my name?", "who am i?", "Do you know what my name is?"])
    def test_it_recalls_a_name_told_two_turns_earlier(
        self, sdk: anthropic.Anthropic, told: str, name: str, asked: str
    ) -> None:
        answer = said(sdk, told, "Noted.", "Call me back when the kettle is ready.", "Yes.", asked)
        assert answer == f"Your name is {name}."

    def test_the_name_told_last_wins(self, sdk: anthropic.Anthropic) -> None:
        assert "Grace" in said(sdk, "My name is Ada.", "Yes.", "No, my name is Grace.", "Yes.", "What's my name?")

    def test_a_name_that_was_not_told_is_unknown(self, sdk: anthropic.Anthropic) -> None:
        said(sdk, "My name is Ada.")
        assert said(sdk, "What is my name?") == "You have not told me your name."

    @pytest.mark.parametrize(
        ("told", "asked", "answer"),
        [
            ("My favourite colour is green.", "What is my favorite color?", "Your favourite colour is green."),
            ("Remember that the code word is heron!", "What's the code word again?", "The code word is heron."),
            ("my cat is Tom and my dog is Rex", "Who is my dog?", "Your dog is Rex."),
            ("My dog is Rex. No, my dog is Bo.", "Who is my dog?", "Your dog is Bo."),
            ("Our train is at 9.15 from Basel.", "When is our train?", "Your train is at 9.15 from Basel."),
            (
                "Please remember the number 7.",
                "What did I ask you to remember?",
                "You asked me to remember: the number 7.",
            ),
        ],
    )
    def test_a_fact_that_was_told_can_be_asked_back(
        self, sdk: anthropic.Anthropic, told: str, asked: str, answer: str
    ) -> None:
        assert said(sdk, told, "Yes.", asked) == answer

    @pytest.mark.parametrize(
        ("sentence", "asked", "answer"),
        [
            ("I have three hens, Pia and Ruth.", "What are my hens called?", "You have three hens, Pia and Ruth."),
            ("I have three hens.", "How many hens do I have?", "You have three hens."),
            ("I have three hens.", "What are my hens called?", None),
            ("I have three hens.", "Do I have hens?", "You have three hens."),
            ("We have a boat near Lyon.", "Where is our boat?", "You have a boat near Lyon."),
            ("I have a fox. He is called Otto.", "What is my fox's name?", "You have a fox. He is called Otto."),
            ("Hi! I live in Turin with my aunt.", "Where do I live?", "You live in Turin with your aunt."),
            ("My aunt Rosa lives in Turin.", "Where does my aunt live?", "Your aunt Rosa lives in Turin."),
            ("My aunt Rosa lives in Turin.", "Where does Rosa live?", "Your aunt Rosa lives in Turin."),
            ("My aunt Rosa lives in Turin.", "Where do I live?", None),
            ("My aunt Rosa lives in Turin.", "How old is my aunt?", None),
            ("My son Leo is seven.", "How old is Leo?", "Your son Leo is seven."),
            ("I'm 41 and I work as a baker.", "How old am I?", "You are 41."),
            ("I'm 41 and I work as a baker.", "What is my job?", "You work as a baker."),
            ("I work as a baker.", "Where do I work?", None),
            ("I'm a plumber.", "What do I do for a living?", "You are a plumber."),
            ("I'm from Peru, by the way.", "Where do I come from?", "You are from Peru, by the way."),
            ("I like chess and sailing.", "Can you tell me what I like?", "You like chess and sailing."),
            ("I speak Dutch.", "Which languages do I speak?", "You speak Dutch."),
            ("Actually, my favorite fruit is a pear.", "What's my favourite fruit?", "Your favorite fruit is a pear."),
            ("Blue is my favourite colour.", "Which colour is my favourite?", "Blue is your favourite colour."),
            ("My brother's favourite colour is red.", "What is my favourite colour?", None),
            ("I've got a bike.", "Which pets do I have?", None),
            ("I moved to Oslo in 2019.", "When did I move to Oslo?", "You moved to Oslo in 2019."),
            ("I was born in May.", "When was I born?", "You were born in May."),
            ("My exam is on Monday.", "Do you remember when my exam is?", "Your exam is on Monday."),
            ("My boss is strict.", "Who is my boss?", None),
            ("Nina is my boss.", "Who is my boss?", "Nina is your boss."),
            ("Nina is my boss.", "Who is Nina?", "Nina is your boss."),
            ("Nina is my boss.", "Where does Nina work?", None),
            ("The door code is 4711.", "What was the door code?", "The door code is 4711."),
            ("I'm allergic to nuts; my sister is not.", "What am I allergic to?", "You are allergic to nuts."),
            ("I'm Irish.", "What is my nationality?", None),
        ],
    )  # fmt: skip
    def test_what_is_told_in_plain_sentences_can_be_asked_back(
        self, sdk: anthropic.Anthropic, sentence: str, asked: str, answer: str | None
    ) -> None:
        """None stands for what the sentence does not tell."""
        assert said(sdk, sentence, "Noted.", asked) == (answer or "You have not told me that.")

    @pytest.mark.parametrize(
        "asked",
        ["How do I train a parrot?", "Where can I buy a parrot?", "Do you like my parrot?", "What is a heron?",
         "Write a poem about my parrot."],
    )  # fmt: skip
    def test_advice_and_knowledge_are_not_taken_for_memory(self, sdk: anthropic.Anthropic, asked: str) -> None:
        assert said(sdk, "I have a parrot in Turin.", "Noted.", asked).startswith("This is message 2")

    def test_all_that_was_told_can_be_asked_back(self, sdk: anthropic.Anthropic) -> None:
        answer = said(
            sdk, "I have a parrot and I live in Turin. What is a heron?", "A bird.", "What do you know about me?"
        )
        assert answer == "You have a parrot. You live in Turin."

    def test_a_nationality_is_no_name(self, sdk: anthropic.Anthropic) -> None:
        assert said(sdk, "I'm Nora.", "Hello.", "I'm Norwegian.", "Yes.", "Who am I?") == "Your name is Nora."

    def test_what_was_told_twice_is_remembered_once(self, sdk: anthropic.Anthropic) -> None:
        told = "Remember the number 7."
        answer = said(sdk, told, "Yes.", told, "Yes.", "What did I ask you to remember?")
        assert answer == "You asked me to remember: the number 7."

    def test_what_the_assistant_said_is_not_taken_for_told(self, sdk: anthropic.Anthropic) -> None:
        assert said(sdk, "Hello", "My name is Claude.", "What is my name?") == "You have not told me your name."

    def test_an_echo_names_the_message_and_quotes_its_first_words(self, sdk: anthropic.Anthropic) -> None:
        answer = said(sdk, "One", "1", "Two", "2", "Herons stand in the river and wait for hours on end")
        assert answer.startswith("This is message 3 of this conversation.")
        assert "“Herons stand in the river and wait for …”" in answer
        assert "herons" in answer.partition("about")[2]
        assert "on end" not in answer

    def test_text_is_read_from_blocks_and_other_blocks_are_accepted(self, sdk: anthropic.Anthropic) -> None:
        blocks: list[ContentBlockParam] = [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "text", "text": "My name is Ada."},
        ]
        tool_call: ContentBlockParam = {"type": "tool_use", "id": "t", "name": "clock", "input": {}}
        thinking: list[ContentBlockParam] = [
            {"type": "thinking", "thinking": "", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
        ]
        result: ContentBlockParam = {"type": "tool_result", "tool_use_id": "t", "content": "noon"}
        document = cast("DocumentBlockParam", {"type": "document", "source": {}})  # its source is not read
        reply = sdk.messages.create(
            model=MODEL,
            max_tokens=100,
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            messages=[
                {"role": "user", "content": blocks},
                {"role": "assistant", "content": [*thinking, tool_call]},
                {"role": "user", "content": [result, document]},
                {"role": "user", "content": "Who am I?"},
            ],
        )
        assert text_of(reply) == f"{MARK}Your name is Ada."

    def test_a_message_without_text_is_answered(self, claude: StandIn) -> None:
        body = WELL_FORMED | {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}
        status, reply = posted(claude, body)
        assert status == 200
        assert "It has no text." in reply["content"][0]["text"]

    DOCUMENT = (
        "Herons are large wading birds. They eat fish. Some live in cities. Herons hunt fish in shallow water. "
        "It rained on Tuesday. A bus was late. Herons nest in colonies near water. Nobody knew why. The end."
    )

    @pytest.mark.parametrize(
        ("system", "message"),
        [
            ("You summarise documents.", f"<document>\n{DOCUMENT}\n</document>"),
            ("", f"Please give me a summary of this: {DOCUMENT}"),
            ("", f"Summarize the following.\n\n{DOCUMENT}"),
        ],
    )
    def test_a_summary_is_a_few_telling_sentences_in_their_order(
        self, sdk: anthropic.Anthropic, system: str, message: str
    ) -> None:
        assert said(sdk, message, system=system) == (
            "In short: Herons are large wading birds. "
            "Herons hunt fish in shallow water. Herons nest in colonies near water."
        )

    def test_a_summary_has_at_most_five_sentences(self, sdk: anthropic.Anthropic) -> None:
        document = " ".join(f"Sentence {number} says something about birds." for number in range(100))
        assert said(sdk, document, system="Write a summary.").count("Sentence") == 5

    def test_a_summary_of_one_sentence_does_not_repeat_it(self, sdk: anthropic.Anthropic) -> None:
        assert said(sdk, "The heron stands in the river.", system="Summarise.") == "In short: The heron stands …"

    @pytest.mark.parametrize("times", [2, 9])
    def test_a_summary_says_no_sentence_twice(self, sdk: anthropic.Anthropic, times: int) -> None:
        once = said(sdk, self.DOCUMENT, system="Write a summary.")
        assert said(sdk, f"{self.DOCUMENT}\n" * times, system="Write a summary.") == once
        assert said(sdk, "Herons eat fish. " * times, system="Write a summary.") == "In short: Herons …"

    def test_a_summary_of_markdown_is_of_its_prose(self, sdk: anthropic.Anthropic) -> None:
        table = "| herons | fish |\n|---|---|\n| herons | frogs |\n"
        document = (
            f"# Herons, fish\n\nHerons eat fish. It rained.\n\n```\nherons.eat(fish)\n```\n\n{table}A bus was late.\n"
        )
        assert said(sdk, document, system="Write a summary.") == "In short: Herons eat fish."
        assert said(sdk, table, system="Write a summary.").startswith("In short: | herons")

    def test_a_summary_of_a_readme_has_neither_links_nor_badges(self, sdk: anthropic.Anthropic) -> None:
        readme = (
            '<p align="center"><img\n src="heron.png"></p>\n\n# Heron\n\n'
            "[![Build](https://ci.example/badge.svg)](https://ci.example) ![Version](https://v.example/v.svg)\n\n"
            "Heron is a **fast** [parser](https://parser.example) of `YAML`. <!-- soon -->\n"
            "Its [parser][docs] is small.\n\n"
            "~~~\npip install heron\n~~~\n\n- It has no dependencies.\n"
            "- See https://heron.example.\n\n[docs]: https://d.example\n"
        )
        answer = said(sdk, readme, system="Write a summary.")
        assert answer == "In short: Heron is a fast parser of YAML."
        assert said(sdk, f"Summarise this:\n{readme}") == answer

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize(
        ("system", "begin"), [("Write a summary.", "<document>\n"), ("", "What is in this file?\n")]
    )
    def test_a_csv_is_described_by_its_columns(
        self, sdk: anthropic.Anthropic, system: str, begin: str, delimiter: str
    ) -> None:
        rows = ["name,age,town", "Ada,36,London", "Grace,85,", '"Zoë",7.5,Bern', "Bo,12,Bern", "Cy,13,Rome"]
        answer = said(sdk, begin + "\n".join(rows).replace(",", delimiter), system=system)
        assert answer == (
            "In short: A table of 5 rows and 3 columns: "
            "name (Ada, Grace, Zoë and 2 more), age (7.5 to 85), town (London, Bern, Rome, 1 empty)."
        )

    def test_prose_with_commas_is_no_csv(self, sdk: anthropic.Anthropic) -> None:
        prose = "Herons eat fish, frogs.\nIt rained, then stopped.\nA bus was late, again.\n"
        assert said(sdk, prose, system="Write a summary.") == "In short: Herons eat fish, frogs."

    def test_a_cut_summary_does_not_repeat_its_first_words(self, sdk: anthropic.Anthropic) -> None:
        long = " ".join(["herons"] * 30)
        document = f"{long} eat. {long} sleep. " + "It rained. " + " ".join(f"Bus {n} was late." for n in range(6))
        assert said(sdk, document, system="Write a summary.").count(long) == 1

    def test_a_conversation_can_be_summarised(self, sdk: anthropic.Anthropic) -> None:
        answer = said(sdk, "Herons eat fish. I saw one.", "Nice.", "Summarise our conversation, please.")
        assert answer == "In short: Herons eat fish."

    def test_a_summary_of_a_conversation_says_no_sentence_twice(self, sdk: anthropic.Anthropic) -> None:
        told = "Herons eat fish. I saw one. It rained."
        answer = said(sdk, told, "Nice.", told, "Nice.", "Summarise our conversation, please.")
        assert answer == "In short: Herons eat fish."

    def test_code_is_reviewed_with_its_lines_and_functions(self, sdk: anthropic.Anthropic) -> None:
        code = "def first():\n    return eval('1')\n\nasync def second(a):\n    pass  # TODO\n"
        answer = said(sdk, f"Look at this:\n```python\n{code}```\n", system="You analyse source code.")
        assert answer.startswith("The code has 5 lines and defines 2 functions: first, second.")
        assert "eval" in answer
        assert "TODO" in answer

    def test_code_without_functions_is_reviewed_too(self, sdk: anthropic.Anthropic) -> None:
        answer = said(sdk, "x = 1", system="You do code reviews.")
        assert answer == "The code has 1 line and defines no functions. Nothing else stands out."


class TestUsage:
    def test_tokens_are_a_quarter_of_the_bytes_rounded_up_and_four_a_message(self, sdk: anthropic.Anthropic) -> None:
        reply = sdk.messages.create(
            model=MODEL, max_tokens=50, system="12345", messages=conversation("éé", "1", "123456789")
        )
        assert reply.usage.input_tokens == 2 + (4 + 1) + (4 + 1) + (4 + 3)
        assert reply.usage.output_tokens == -(-len(text_of(reply).encode()) // 4)
        assert (reply.usage.cache_creation_input_tokens, reply.usage.cache_read_input_tokens) == (0, 0)

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"system": "Be brief."},
            {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
            {"tools": [{"name": "clock", "input_schema": {"type": "object"}}]},
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "é"}]}]},
            {"messages": conversation("Hello", "Hello to you", "And again")},
        ],
    )
    def test_count_tokens_agrees_with_the_usage_of_the_same_request(
        self, sdk: anthropic.Anthropic, asked: dict[str, Any]
    ) -> None:
        prompt = {"model": MODEL, "messages": WELL_FORMED["messages"]} | asked
        counted = sdk.messages.count_tokens(**prompt).input_tokens
        assert counted == sdk.messages.create(**prompt, max_tokens=50).usage.input_tokens

    def test_a_cache_breakpoint_changes_no_count(self, sdk: anthropic.Anthropic) -> None:
        block: ToolResultBlockParam = {"type": "tool_result", "tool_use_id": "t", "content": "noon"}
        cached: ToolResultBlockParam = {**block, "cache_control": {"type": "ephemeral"}}
        counts = {
            sdk.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": [each]}]).input_tokens
            for each in (block, cached)
        }
        assert len(counts) == 1


def with_messages(*messages: object) -> dict[str, Any]:
    return WELL_FORMED | {"messages": list(messages)}


def with_content(content: object) -> dict[str, Any]:
    return with_messages({"role": "user", "content": content})


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in WELL_FORMED.items() if name != field}


TEXT = {"type": "text", "text": "Hello"}
CACHED = TEXT | {"cache_control": {"type": "ephemeral"}}
USER = {"role": "user", "content": "Hello"}
ASSISTANT = {"role": "assistant", "content": "Hello"}

REFUSED = [
    ("model", without("model")),
    ("max_tokens", without("max_tokens")),
    ("messages", without("messages")),
    ("max_tokens", WELL_FORMED | {"max_tokens": 0}),
    ("max_tokens", WELL_FORMED | {"max_tokens": "7"}),
    ("max_tokens", WELL_FORMED | {"max_tokens": 7.5}),
    ("max_tokens", WELL_FORMED | {"max_tokens": True}),
    ("model", WELL_FORMED | {"model": ""}),
    ("stream", WELL_FORMED | {"stream": "yes"}),
    ("stop_sequences", WELL_FORMED | {"stop_sequences": "end"}),
    ("stop_sequences", WELL_FORMED | {"stop_sequences": [" "]}),
    ("temperature", WELL_FORMED | {"temperature": 0.5}),
    ("top_p", WELL_FORMED | {"top_p": 0.5}),
    ("top_k", WELL_FORMED | {"top_k": 5}),
    ("colour", WELL_FORMED | {"colour": "green"}),
    ("tools", WELL_FORMED | {"tools": {}}),
    ("system", WELL_FORMED | {"system": 5}),
    ("system", WELL_FORMED | {"system": [{"type": "image"}]}),
    ("non-empty", WELL_FORMED | {"system": [{"type": "text", "text": ""}]}),
    ("at least one message", with_messages()),
    ("messages", WELL_FORMED | {"messages": "Hello"}),
    ("messages.0", with_messages("Hello")),
    ("content", with_messages({"role": "user"})),
    ("name", with_messages(USER | {"name": "Ada"})),
    ("role", with_messages(USER | {"role": "system"})),
    ("role", with_messages(USER | {"role": []})),
    ("first message", with_messages(ASSISTANT, USER)),
    ("prefill", with_messages(USER, ASSISTANT)),
    ("non-empty", with_content("")),
    ("non-empty", with_content([])),
    ("non-empty", with_content([TEXT | {"text": ""}])),
    ("non-whitespace", with_content(" \n")),
    ("non-whitespace", with_content([TEXT | {"text": "\t"}])),
    ("non-whitespace", with_messages(USER, ASSISTANT | {"content": " "}, USER)),
    ("content", with_content(5)),
    ("type", with_content(["Hello"])),
    ("type", with_content([{"text": "Hello"}])),
    ("expected tags", with_content([{"type": "hologram"}])),
    ("colour", with_content([TEXT | {"colour": "green"}])),
    ("Found 5", with_content([CACHED] * 5)),
    ("Found 5", with_content([CACHED] * 4) | {"cache_control": {"type": "ephemeral"}}),
    ("ephemeral", with_content([TEXT | {"cache_control": {"type": "eternal"}}])),
    ("ephemeral", with_content([TEXT | {"cache_control": {"type": "ephemeral", "ttl": "9h"}}])),
    ("JSON", b"{"),
    ("JSON", b'{"max_tokens": NaN}'),
    ("JSON", b'"\xff"'),
    ("JSON", b'{"model": "\\ud800"}'),
    ("JSON", b"[" * 100_000),
    ("object", b"[]"),
]


class TestStrictness:
    @pytest.mark.parametrize(("complaint", "body"), REFUSED)
    def test_what_claude_refuses_is_refused(self, claude: StandIn, complaint: str, body: object) -> None:
        status, answer = posted(claude, body)
        assert (status, answer["type"], answer["error"]["type"]) == (400, "error", "invalid_request_error")
        assert complaint in answer["error"]["message"]
        assert answer["request_id"].startswith("req_")

    def test_the_sdk_sees_a_bad_request(self, sdk: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match="temperature"):
            sdk.messages.create(**WELL_FORMED, extra_body={"temperature": 1})

    def test_counting_refuses_fields_that_it_does_not_have(self, claude: StandIn) -> None:
        status, answer = posted(claude, WELL_FORMED, "/v1/messages/count_tokens")
        assert (status, answer["error"]["message"]) == (400, "max_tokens: Extra inputs are not permitted")

    @pytest.mark.parametrize(
        "body",
        [
            with_messages(USER, USER),
            with_messages(USER, ASSISTANT, ASSISTANT, USER),
            with_content([CACHED] * 4),
            WELL_FORMED | {"cache_control": {"type": "ephemeral", "ttl": "1h"}, "metadata": {"user_id": "u"}},
            WELL_FORMED | {"thinking": {"type": "disabled"}, "tool_choice": {"type": "auto"}, "output_config": {}},
        ],
    )
    def test_what_claude_accepts_is_accepted(self, claude: StandIn, body: object) -> None:
        assert posted(claude, body)[0] == 200

    def test_a_request_without_credentials_is_refused(self, claude: StandIn) -> None:
        status, answer = posted(claude, WELL_FORMED, x_api_key="")
        assert (status, answer["error"]["type"]) == (401, "authentication_error")

    @pytest.mark.parametrize("credentials", [{"x-api-key": "k"}, {"authorization": "Bearer k"}])
    def test_either_kind_of_credentials_will_do(self, claude: StandIn, credentials: dict[str, str]) -> None:
        headers = {"anthropic-version": "2026-10-21", **credentials}
        assert http_answer(claude, "POST", "/v1/messages", WELL_FORMED, headers)[0] == 200

    def test_a_request_without_a_version_is_refused(self, claude: StandIn) -> None:
        status, answer = posted(claude, WELL_FORMED, anthropic_version="")
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert "anthropic-version" in answer["error"]["message"]

    def test_more_than_32_megabytes_are_too_large(self, claude: StandIn) -> None:
        status, answer = posted(claude, b" " * (32 * 1024 * 1024 + 1))
        assert (status, answer["error"]["type"]) == (413, "request_too_large")

    @pytest.mark.parametrize(("method", "path"), [("GET", "/v1/messages"), ("POST", "/v1/complete"), ("PUT", "/")])
    def test_there_is_nothing_else_here(self, claude: StandIn, method: str, path: str) -> None:
        status, answer, headers = http_answer(claude, method, path)
        assert (status, answer["error"]["type"]) == (404, "not_found_error")
        assert (headers["x-turnlog-stand-in"], headers["request-id"]) == ("1", answer["request_id"])

    @pytest.mark.parametrize(
        "headers",
        [
            {"host": "evil.example"},
            {"host": "evil.example:8788"},
            {"host": "localhost.evil.example"},
            {"host": "127.0.0.1@evil.example"},
            {"host": ""},
            {"origin": "http://localhost:3000"},
            {"origin": "null"},
        ],
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("POST", "/v1/messages"), ("GET", "/_stand_in/requests"), ("OPTIONS", "/v1/messages")]
    )
    def test_a_web_page_is_refused(self, claude: StandIn, method: str, path: str, headers: dict[str, str]) -> None:
        credentials = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        status, answer, answered = http_answer(claude, method, path, WELL_FORMED, credentials | headers)
        assert (status, answer["error"]["type"]) == (403, "permission_error")
        assert "access-control-allow-origin" not in answered
        assert claude.requests == []

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1"])
    def test_the_machine_itself_may_ask_by_any_of_its_names(self, claude: StandIn, host: str) -> None:
        named = {"host": f"{host}:{claude.url.rpartition(':')[2]}"}
        assert http_answer(claude, "GET", "/_stand_in/stats", headers=named)[0] == 200

    @pytest.mark.parametrize("headers", [{"transfer-encoding": "chunked"}, {"content-length": "-1"}])
    def test_a_body_of_unknown_length_is_refused(self, claude: StandIn, headers: dict[str, str]) -> None:
        assert http_answer(claude, "POST", "/v1/messages", headers=headers)[0] == 400

    def test_a_method_that_http_servers_do_not_know_gets_the_envelope_too(self, claude: StandIn) -> None:
        status, answer, headers = http_answer(claude, "BREW", "/v1/messages")
        assert (status, answer["type"], headers["x-turnlog-stand-in"]) == (501, "error", "1")


class TestFaults:
    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize(
        ("fault", "error", "status", "kind"),
        [
            ("rate_limit", anthropic.RateLimitError, 429, "rate_limit_error"),
            ("overloaded", anthropic.InternalServerError, 529, "overloaded_error"),
            ("server_error", anthropic.InternalServerError, 500, "api_error"),
        ],
    )
    def test_an_error_of_the_api_reaches_the_sdk_as_one(
        self,
        claude: StandIn,
        sdk: anthropic.Anthropic,
        fault: str,
        error: type[anthropic.APIStatusError],
        status: int,
        kind: str,
        streamed: bool,
    ) -> None:
        claude.fail(fault)
        with pytest.raises(error) as raised:
            sdk.messages.create(**WELL_FORMED, stream=streamed)
        assert raised.value.status_code == status
        assert body_of(raised.value)["error"]["type"] == kind
        assert raised.value.request_id == body_of(raised.value)["request_id"]
        assert sdk.messages.create(**WELL_FORMED).stop_reason == "end_turn"

    @pytest.mark.parametrize(("told", "sent"), [(None, "1"), (7, "7"), (0, "0"), (0.25, "0.25")])
    def test_a_rate_limit_says_when_to_come_again(
        self, claude: StandIn, sdk: anthropic.Anthropic, told: float | None, sent: str
    ) -> None:
        claude.fail("rate_limit", retry_after_s=told)
        with pytest.raises(anthropic.RateLimitError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert raised.value.response.headers["retry-after"] == sent

    @pytest.mark.parametrize(("told", "sent"), [(None, None), (3, "3")])
    def test_an_overloaded_server_says_it_only_when_told(
        self, claude: StandIn, sdk: anthropic.Anthropic, told: float | None, sent: str | None
    ) -> None:
        claude.fail("overloaded", retry_after_s=told)
        with pytest.raises(anthropic.InternalServerError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert raised.value.response.headers.get("retry-after") == sent

    def test_a_cut_answer_is_a_connection_error(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("cut")
        with pytest.raises(anthropic.APIConnectionError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert "without sending complete message body" in str(raised.value.__cause__)

    def test_a_cut_stream_breaks_after_a_few_events(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("cut")
        kinds = []
        with pytest.raises(httpx2.RemoteProtocolError), sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            for event in stream:
                kinds.append(event.type)  # noqa: PERF401 (it must keep what came before the break)
        assert kinds == ["message_start", "content_block_start", "content_block_delta"]

    def test_a_stream_that_ends_early_ends_without_a_stop_reason(
        self, claude: StandIn, sdk: anthropic.Anthropic
    ) -> None:
        claude.fail("early_end")
        with sdk.messages.stream(**WELL_FORMED) as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_message().stop_reason is None
        assert kinds[-1] == "content_block_stop"

    def test_a_plain_answer_that_ends_early_has_no_stop_reason(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("early_end")
        reply = sdk.messages.create(**WELL_FORMED)
        assert reply.stop_reason is None
        assert text_of(reply).startswith(MARK)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_silence_lasts_until_the_client_gives_up(
        self, claude: StandIn, sdk: anthropic.Anthropic, streamed: bool
    ) -> None:
        claude.fail("silence")
        with pytest.raises(anthropic.APITimeoutError):
            sdk.messages.create(**WELL_FORMED, stream=streamed, timeout=0.1)
        assert ends(claude)

    def test_silence_ends_by_hanging_up(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("silence", seconds=0.05)
        with pytest.raises(anthropic.APIConnectionError) as raised:
            sdk.messages.create(**WELL_FORMED)
        assert not isinstance(raised.value, anthropic.APITimeoutError)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_slow_answer_comes_after_its_time(
        self, claude: StandIn, sdk: anthropic.Anthropic, streamed: bool
    ) -> None:
        claude.fail("slow", seconds=0.2)
        begun = time.monotonic()
        answer = sdk.messages.create(**WELL_FORMED, stream=streamed)
        if streamed:
            assert isinstance(answer, anthropic.Stream)
            assert list(answer)[-1].type == "message_stop"
        assert time.monotonic() - begun >= 0.2

    def test_garbage_is_no_json(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("garbage", times=2)
        assert sdk.messages.with_raw_response.create(**WELL_FORMED).status_code == 200
        with pytest.raises(json.JSONDecodeError):
            sdk.messages.create(**WELL_FORMED)

    def test_a_stream_of_garbage_is_no_json(self, claude: StandIn, sdk: anthropic.Anthropic) -> None:
        claude.fail("garbage")
        with pytest.raises(json.JSONDecodeError), sdk.messages.create(**WELL_FORMED, stream=True) as stream:
            next(stream)

    def test_faults_come_in_order_and_as_often_as_asked(self, claude: StandIn) -> None:
        claude.fail("overloaded", times=2)
        claude.fail("rate_limit")
        assert [posted(claude, WELL_FORMED)[0] for _ in range(4)] == [529, 529, 429, 200]

    def test_a_fault_waits_for_the_message_it_matches(self, claude: StandIn) -> None:
        claude.fail("overloaded", match="heron")
        claude.fail("rate_limit")
        heron = with_messages(*conversation("Hello", "Hello", "A heron!"))
        past_heron = with_messages(*conversation("A heron!", "Hello", "Hello"))
        assert [posted(claude, each)[0] for each in (past_heron, past_heron, heron, heron)] == [429, 200, 529, 200]

    def test_neither_a_refused_request_nor_a_count_uses_up_a_fault(self, claude: StandIn) -> None:
        claude.fail("overloaded")
        assert posted(claude, without("max_tokens"), "/v1/messages/count_tokens")[0] == 200
        assert [posted(claude, without("model"))[0], posted(claude, WELL_FORMED)[0]] == [400, 529]

    def test_faults_are_ordered_and_cleared_over_http(self, claude: StandIn) -> None:
        listed = [{"fault": "overloaded", "times": 5}, {"fault": "rate_limit", "retry_after_s": 2, "match": None}]
        assert http_answer(claude, "POST", "/_stand_in/faults", listed)[:2] == (200, {"added": 2})
        assert posted(claude, WELL_FORMED)[0] == 529
        assert http_answer(claude, "DELETE", "/_stand_in/faults")[0] == 200
        assert posted(claude, WELL_FORMED)[0] == 200

    @pytest.mark.parametrize(
        "listed",
        [
            b"{",
            {"fault": "cut"},
            ["cut"],
            [{"times": 2}],
            [{"fault": "flood"}],
            [{"fault": ["cut"]}],
            [{"fault": "cut", "colour": "green"}],
            [{"fault": "cut", "times": 0}],
            [{"fault": "cut", "times": True}],
            [{"fault": "slow", "seconds": 0}],
            [{"fault": "slow", "seconds": "1"}],
            [{"fault": "rate_limit", "retry_after_s": -1}],
            [{"fault": "cut", "match": 5}],
            [{"fault": "overloaded"}, {"fault": "flood"}],
        ],
    )
    def test_what_is_no_fault_is_refused_and_none_is_added(self, claude: StandIn, listed: object) -> None:
        status, answer, _ = http_answer(claude, "POST", "/_stand_in/faults", listed)
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        assert posted(claude, WELL_FORMED)[0] == 200


def ends(claude: StandIn, within_s: float = 2.0) -> bool:
    """True as soon as no call runs any more; False after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while claude.stats.running and time.monotonic() < deadline:
        time.sleep(0.005)
    return claude.stats.running == 0


class TestRecord:
    def test_requests_are_kept_with_their_body_but_without_the_key(
        self, claude: StandIn, sdk: anthropic.Anthropic
    ) -> None:
        sdk.messages.create(**WELL_FORMED)
        sdk.messages.count_tokens(model=MODEL, messages=WELL_FORMED["messages"])
        _, listed, _ = http_answer(claude, "GET", "/_stand_in/requests")
        assert [each["path"] for each in listed] == ["/v1/messages", "/v1/messages/count_tokens"]
        assert listed[0]["body"] == WELL_FORMED
        assert listed[0]["authorised"] is True
        assert listed[0]["headers"]["anthropic-version"] == "2026-10-21"
        assert "a-secret-key" not in json.dumps(listed)
        assert [each.path for each in claude.requests] == [each["path"] for each in listed]

    def test_a_refused_request_is_kept_too(self, claude: StandIn) -> None:
        posted(claude, b"{")
        posted(claude, WELL_FORMED, x_api_key="")
        assert [(each.authorised, each.body) for each in claude.requests] == [(True, None), (False, None)]

    def test_requests_can_be_forgotten(self, claude: StandIn) -> None:
        posted(claude, WELL_FORMED)
        assert http_answer(claude, "DELETE", "/_stand_in/requests")[0] == 200
        assert claude.requests == []

    def test_the_last_two_hundred_are_kept(self, claude: StandIn) -> None:
        for number in range(203):
            posted(claude, WELL_FORMED | {"max_tokens": number + 1})
        assert [each.body["max_tokens"] for each in claude.requests if each.body] == list(range(4, 204))

    def test_it_counts_how_many_calls_ran_at_once(self) -> None:
        with StandIn() as claude:
            claude.fail("slow", times=4, seconds=0.3)
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _: posted(claude, WELL_FORMED)[0], range(4)))
            posted(claude, WELL_FORMED)
            assert answers == [200] * 4
            assert http_answer(claude, "GET", "/_stand_in/stats")[1] == {"calls": 5, "running": 0, "most_running": 4}

    @pytest.mark.parametrize("streamed", [False, True])
    def test_who_has_read_the_answer_sees_the_call_as_ended(
        self, claude: StandIn, monkeypatch: pytest.MonkeyPatch, sdk: anthropic.Anthropic, streamed: bool
    ) -> None:
        count = Record._count

        def count_down_late(record: Record, calls: int, running: int) -> None:
            time.sleep(0.05 if running < 0 else 0)
            count(record, calls, running)

        monkeypatch.setattr(Record, "_count", count_down_late)
        answer = sdk.messages.create(**WELL_FORMED, stream=streamed)
        assert not streamed or list(answer)
        assert claude.stats.running == 0


def threads_of_stand_ins() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("claude stand-in")}


class TestServing:
    def test_stopping_takes_less_than_a_second_and_leaves_no_thread(self) -> None:
        before = threads_of_stand_ins()
        with StandIn() as claude, ThreadPoolExecutor(3) as pool:
            claude.fail("silence")
            claude.fail("slow", seconds=30)
            idle = http.client.HTTPConnection(claude.url.removeprefix("http://"))
            idle.connect()
            hanging = [pool.submit(posted, claude, WELL_FORMED) for _ in range(2)]
            while claude.stats.running < 2:
                time.sleep(0.005)
            begun = time.monotonic()
            claude.stop()
            assert time.monotonic() - begun < 1
            assert all(isinstance(each.exception(timeout=1), http.client.RemoteDisconnected) for each in hanging)
            idle.close()
        assert threads_of_stand_ins() - before == set()

    def test_a_stopped_stand_in_answers_no_more_and_can_be_stopped_again(self) -> None:
        with StandIn() as claude:
            pass
        claude.stop()
        with pytest.raises(ConnectionRefusedError):
            posted(claude, WELL_FORMED)

    def test_it_listens_on_the_loopback_interface_only(self, claude: StandIn) -> None:
        assert claude.url.startswith("http://127.0.0.1:")

    def test_a_taken_port_is_an_error(self, claude: StandIn) -> None:
        with pytest.raises(OSError, match="in use"):
            StandIn(int(claude.url.rpartition(":")[2])).start()

    def test_a_connection_is_kept_for_the_next_request(self, claude: StandIn) -> None:
        connection = http.client.HTTPConnection(claude.url.removeprefix("http://"), timeout=5)
        connection.connect()
        own_end = connection.sock.getsockname()
        headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
        for body in (WELL_FORMED, WELL_FORMED | {"stream": True}, without("model"), WELL_FORMED):
            connection.request("POST", "/v1/messages", json.dumps(body), headers)
            connection.getresponse().read()
            assert connection.sock.getsockname() == own_end
        connection.close()

    def test_nothing_is_written_about_what_was_said(self, claude: StandIn, capfd: pytest.CaptureFixture[str]) -> None:
        claude.fail("cut")
        with pytest.raises(http.client.IncompleteRead):
            posted(claude, WELL_FORMED)
        assert [posted(claude, WELL_FORMED)[0], posted(claude, b"{")[0]] == [200, 400]
        assert capfd.readouterr() == ("", "")

    def test_its_own_failure_is_told_without_what_was_said(
        self, claude: StandIn, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(body: dict[str, Any]) -> None:
            raise KeyError(body["messages"])

        monkeypatch.setattr("local.claude_stand_in.connection.reply_to", fails)
        with pytest.raises(http.client.RemoteDisconnected):
            posted(claude, WELL_FORMED)
        assert ends(claude)
        told = capfd.readouterr().err
        assert told.startswith("claude stand-in: KeyError in fails")
        assert "Hello" not in told

    def test_it_runs_as_a_program_until_it_is_told_to_end(self) -> None:
        command = [sys.executable, "-m", "local.claude_stand_in", "--port", "0"]
        root = Path(__file__).parents[2]
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdout
            address = re.search(r"http://(127\.0\.0\.1:\d+)", program.stdout.readline())
            assert address
            connection = http.client.HTTPConnection(address[1], timeout=5)
            connection.request("GET", "/_stand_in/stats")
            assert connection.getresponse().status == 200
            program.terminate()
            assert program.wait(timeout=5) == 0
            connection.close()
