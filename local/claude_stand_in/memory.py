"""Names and facts that the user has told in a conversation, recalled when the user asks for them.

Only the messages of the request are read: nothing is kept between requests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from local.claude_stand_in.sentences import sentences

LONGEST_QUESTION = 300  # characters: what is longer is a document that happens to ask

_CLAUSE_END = re.compile(r",?\s+and\s+(?=(?:my|the|our|I|remember)\b)", re.IGNORECASE)
_NAME_TOLD = re.compile(r"\b(?:my name(?:['’]s| is)|I(?:['’]m| am) called|(call me))\s+(.+)", re.IGNORECASE)
_NAME_WORD = re.compile(r"\w[\w'’-]*")
_FACT_TOLD = re.compile(r"\b(my|the|our)\s+(\w[\w\s'’-]{0,60}?)\s+(is|are|was|were)\s+(.+)", re.IGNORECASE)
_REMEMBER_TOLD = re.compile(r"\bremember(?:\s+(?:that|this))?[:,]?\s+(.+)", re.IGNORECASE)
_ASKING = re.compile(r"(?:what|where|when|who|which|how|do|did|can|could)\b", re.IGNORECASE)

_NAME_ASKED = re.compile(
    r"\bwho am I\b|\bwhat my name is\b"
    r"|\b(?:what(?:['’]s| is| was)|know|remember|recall|say|tell me)\s+my name\b(?!\s+is)",
    re.IGNORECASE,
)
_FACT_ASKED = re.compile(
    r"\b(?:what|where|when|who|which)(?:['’]s| is| are| was| were)\s+(my|the|our)\s+([^?.!,]+)", re.IGNORECASE
)
_REMEMBER_ASKED = re.compile(r"\b(?:what|which|do|did|can)\b.*\bremember\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fact:
    """`owner` `thing` `verb` `value`, as in "my" "favourite colour" "is" "green"."""

    owner: str
    thing: str
    verb: str
    value: str

    def said_back(self) -> str:
        """The fact as a sentence to the user who told it."""
        owner = "your" if self.owner == "my" else self.owner
        return f"{owner.capitalize()} {self.thing} {self.verb} {self.value}."


def recalled(user_texts: list[str]) -> str | None:
    """The answer to the last message when it asks for a name or fact; None when it does not.

    The last value wins. A name or a fact of the user's own ("my …") that was never told is said to be unknown.
    """
    question = user_texts[-1]
    if len(question) > LONGEST_QUESTION:
        return None
    if _NAME_ASKED.search(question):
        name = told_name(user_texts)
        return f"Your name is {name}." if name else "You have not told me your name."
    if asked := _FACT_ASKED.search(question):
        return _fact_recalled(user_texts, asked[1].lower(), asked[2])
    if _REMEMBER_ASKED.search(question):
        told = _told_to_remember(user_texts)
        return f"You asked me to remember: {'; '.join(dict.fromkeys(told)) or 'nothing'}."
    return None


def told_name(user_texts: list[str]) -> str | None:
    """The name that was told last: one word and the capitalised words after it; None when none was told."""
    name = None
    for clause in _clauses(user_texts):
        if told := _NAME_TOLD.search(clause):
            name = _name_at_start(told[2], only_capital=bool(told[1])) or name
    return name


def _name_at_start(text: str, *, only_capital: bool) -> str:
    """The name at the start of a text; "" when there is none. `only_capital` keeps "call me back" from being one."""
    words: list[str] = []
    for word in text.split():
        plain = _NAME_WORD.match(word)
        if not plain or ((words or only_capital) and not plain[0][0].isupper()):
            break
        words.append(plain[0])
        if plain[0] != word:
            break
    return " ".join(words)


def _fact_recalled(user_texts: list[str], owner: str, thing: str) -> str | None:
    for fact in reversed(_facts(user_texts)):
        # Followed by a space, so that "the code word again" still asks for the code word.
        if fact.owner == owner and f"{_plain(thing)} ".startswith(f"{_plain(fact.thing)} "):
            return fact.said_back()
    return f"You have not told me your {thing.strip()}." if owner == "my" else None


def _facts(user_texts: list[str]) -> list[Fact]:
    found = (_FACT_TOLD.search(clause) for clause in _statements(user_texts))
    return [Fact(told[1].lower(), told[2], told[3].lower(), told[4].rstrip(" .!")) for told in found if told]


def _told_to_remember(user_texts: list[str]) -> list[str]:
    found = (_REMEMBER_TOLD.search(clause) for clause in _statements(user_texts))
    return [told[1].rstrip(" .!") for told in found if told]


def _statements(user_texts: list[str]) -> list[str]:
    return [each for each in _clauses(user_texts) if not each.endswith("?") and not _ASKING.match(each)]


def _clauses(user_texts: list[str]) -> list[str]:
    lines = [line for text in user_texts for line in text.splitlines()]
    return [clause for line in lines for each in sentences(line) for clause in _CLAUSE_END.split(each)]


def _plain(thing: str) -> str:
    """A form for comparisons, without case, extra space and the American spellings of favourite and colour."""
    return " ".join(thing.lower().split()).replace("favorite", "favourite").replace("color", "colour")
