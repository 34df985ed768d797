"""Answers of the stand-in to plain words."""

from __future__ import annotations

import anthropic
import pytest
from anthropic.types import ContentBlockParam, DocumentBlockParam

from local.claude_stand_in import StandIn
from tests.unit.claude_stand_in.asking import (
    MARK,
    MODEL,
    WELL_FORMED,
    posted,
    said,
    text_of,
)
from tests.unit.claude_stand_in.files import png


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
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png(3, 2)}},
            {"type": "text", "text": "My name is Ada."},
        ]
        tool_call: ContentBlockParam = {"type": "tool_use", "id": "t", "name": "clock", "input": {}}
        result: ContentBlockParam = {"type": "tool_result", "tool_use_id": "t", "content": "noon"}
        document: DocumentBlockParam = {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Herons eat fish."},
        }
        reply = sdk.messages.create(
            model=MODEL,
            max_tokens=100,
            system=[{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
            messages=[
                {"role": "user", "content": blocks},
                {"role": "assistant", "content": [tool_call]},
                {"role": "user", "content": [result, document]},
                {"role": "user", "content": "Who am I?"},
            ],
        )
        assert text_of(reply) == f"{MARK}You showed me 1 document (text, 16 characters). Your name is Ada."

    def test_a_message_without_text_is_answered(self, claude: StandIn) -> None:
        source = {"type": "base64", "media_type": "image/png", "data": png(3, 2)}
        body = WELL_FORMED | {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
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
