"""The stand-in's answers in words: computed from the request alone, and to be marked as not Claude's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from local.claude_stand_in.markdown import prose_of
from local.claude_stand_in.memory import recalled
from local.claude_stand_in.sentences import sentences, summary, telling_words
from local.claude_stand_in.tables import table_in
from local.claude_stand_in.turns import said, text_of

MARK = "[stand-in, not Claude] "
QUOTED_WORDS = 8
LONGEST_TASK = 4_000  # characters of a system prompt

_SUMMARY = re.compile(r"\bsummar(?:y|ies|i[sz]\w*)\b", re.IGNORECASE)
_CODE = re.compile(r"\b(?:code|source)\b", re.IGNORECASE)
_REVIEW = re.compile(r"\b(?:analy[sz]\w*|review\w*)\b", re.IGNORECASE)
_FENCE = "```"
_FUNCTION = re.compile(r"(?:\bdef|\bfunction|\bfn|\bfunc(?:\s*\([^)\n]{0,100}\))?)\s+(\w+)\s*[(<\[]")
_OBSERVATIONS = (
    (re.compile(r"\b(?:TODO|FIXME)\b"), "It has notes of unfinished work (TODO or FIXME)."),
    (re.compile(r"\b(?:eval|exec)\s*\("), "It runs text as code (eval or exec)."),
    (re.compile(r"\bexcept\s*:|\bexcept (?:Base)?Exception\b"), "It catches every exception in one place."),
    (re.compile(r"^.{121,}$", re.MULTILINE), "Some lines are longer than 120 characters."),
)


def answer(body: dict[str, Any]) -> str:
    """The answer to a valid request: the task of the system prompt, else a recalled fact, a summary or an echo.

    A long system prompt, as Claude Code has one, tells so much that it sets no task.
    """
    system = text_of(body.get("system", ""))
    by_user = [each["content"] for each in body["messages"] if each["role"] == "user"]
    # A message in which Claude Code alone speaks is none of the user's, unless there is no other.
    user_texts = [said(each) for each in by_user if said(each) or not text_of(each)] or [text_of(by_user[-1])]
    return (
        _task_answer(system, user_texts[-1]) or recalled(user_texts) or _asked_summary(user_texts) or _echo(user_texts)
    )


def _task_answer(system: str, text: str) -> str | None:
    if len(system) > LONGEST_TASK:
        return None
    if text and _CODE.search(system) and _REVIEW.search(system):
        return _review(text)
    if text and _SUMMARY.search(system):
        return f"In short: {summary(text)}"
    return None


def _asked_summary(user_texts: list[str]) -> str | None:
    if table := table_in(user_texts[-1]):
        return f"In short: {table.description()}"
    if _SUMMARY.search(user_texts[-1]):
        return f"In short: {summary(_text_to_summarise(user_texts))}"
    return None


def _text_to_summarise(user_texts: list[str]) -> str:
    """The last message without its request for a summary; the user's earlier messages when nothing else is in it."""
    prose = [prose_of(text) for text in user_texts]
    for texts in (prose[-1:], prose[:-1]):
        rest = "\n".join(_without_asking(texts))
        if rest:
            return rest
    return user_texts[-1]


def _without_asking(texts: list[str]) -> Iterator[str]:
    for sentence in (each for text in texts for each in sentences(text)):
        asked, colon, rest = sentence.partition(":")
        if not _SUMMARY.search(sentence):
            yield sentence
        elif colon and rest.strip() and _SUMMARY.search(asked):
            yield rest.strip()


def _review(text: str) -> str:
    fenced = text.split(_FENCE)
    code = fenced[1].partition("\n")[2] if len(fenced) > 2 else text  # what follows the fence names the language
    names = list(dict.fromkeys(_FUNCTION.findall(code)))
    functions = f"{_count(len(names), 'function')}: {', '.join(names)}" if names else "no functions"
    observed = [says for sign, says in _OBSERVATIONS if sign.search(code)] or ["Nothing else stands out."]
    return " ".join([f"The code has {_count(len(code.splitlines()), 'line')} and defines {functions}.", *observed])


def _echo(user_texts: list[str]) -> str:
    counted = f"This is message {len(user_texts)} of this conversation."
    words = user_texts[-1].split()
    if not words:
        return f"{counted} It has no text."
    quoted = " ".join(words[:QUOTED_WORDS]) + (" …" if len(words) > QUOTED_WORDS else "")
    gist = ", ".join(word for word, _ in telling_words(user_texts[-1]).most_common(3))
    return f"{counted} You said “{quoted}”" + (f", which seems to be about {gist}." if gist else ".")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
