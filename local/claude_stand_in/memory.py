"""Names and facts that the user has told in a conversation, recalled when the user asks for them.

Only the messages of the request are read: nothing is kept between requests. A question is answered by the fact told
last that has all its words and the kind of thing it asks for.
"""

from __future__ import annotations

import re

from local.claude_stand_in.facts import Fact, clauses, facts_in, is_question, one_form, words_of

LONGEST_QUESTION = 300  # characters: what is longer is a document that happens to ask
_UNKNOWN = "You have not told me that."

_NAME_TOLD = re.compile(r"\b(?:my name is|I am called|(call me|I am))\s+(.+)", re.IGNORECASE)
_NAME_WORD = re.compile(r"\w[\w'’-]*")
_NATIONALITY = re.compile(r"(?:ish|ese|[eircm]an|ench|utch|eek|iss)$")
_NAME_ASKED = re.compile(
    r"\bwho am I(?: again)?\W*$|\bwhat my name is\b|\bam I called\b|\bI am called\?"
    r"|\b(?:what (?:is|was)|know|remember|recall|say|tell me)\s+my name\b(?!\s+is)",
    re.IGNORECASE,
)
_REMEMBER_TOLD = re.compile(r"\bremember(?:\s+(?:that|this))?[:,]?\s+(.+)", re.IGNORECASE)
_REMEMBER_ASKED = re.compile(r"\b(?:what|which)\b.*\b(?:ask|asked|tell|told)\b.*\bremember\b", re.IGNORECASE)
_EVERYTHING_ASKED = re.compile(
    r"\bwhat\b.*\b(?:know|remember|recall)\b.*\b(?:about|of) (?:me|us)\b"
    r"|\bwhat (?:did|have) I (?:tell|told|said|say)\b(?!.*\babout\b)",
    re.IGNORECASE,
)
_HAVE_OR_BE = r"(?:I|am|is|are|was|were|do|does|did|have|has)\b"
_ASKING = re.compile(
    r"\b(?:(?P<count>how (?:many|much))|(?P<age>how old)|(?P<measure>how(?= (?:tall|long|far|big|heavy|often)\b))"
    r"|(?P<place>where)|(?P<time>when)|(?P<person>who)|(?:tell|remind) me (?:about|of)"
    rf"|(?:what|which)(?P<kind>(?:\s+(?!{_HAVE_OR_BE}|my\b|our\b)[\w-]+){{1,4}}(?=\s+{_HAVE_OR_BE}))?)(?!\w)",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(r"(?:do|does|did|am|is|are|was|were|have|has)\b", re.IGNORECASE)
_OF_THE_USER = re.compile(r"\b(?:I|me|my|we|us|our|mine)\b", re.IGNORECASE)
_ADVICE = re.compile(r"\b(?:can|could|should|may|might|must|shall|will|would) (?:I|we)\b", re.IGNORECASE)
_TO_THE_MODEL = re.compile(
    r"\b(?:can|could|do|would|will) you\b(?: (?:please|still|also))*"
    r"(?: (?:know|remember|recall|(?:tell|remind) me))|\b(?:tell|told) you\b",
    re.IGNORECASE,
)
_MINE_ASKED = re.compile(r"\b(?:my|our)\s+((?:[^\W_][\w'’-]*\s*){1,4})", re.IGNORECASE)
_DEED_ASKED = re.compile(
    r"\b(?P<be>am|was) I\b|\b(?:I|we)\s+(?:(?:have|had)\s+(?=\w+(?:ed|en)\b)|\w+ly\s+|also\s+)?"
    r"(?!(?:say|said|tell|told|mention|mentioned|ask|asked)\b)(?P<verb>\w+)",
    re.IGNORECASE,
)
_IS_ASKED = re.compile(r"\b(?:what|who|which|where|when)\s+(?:is|are|was|were)\b", re.IGNORECASE)
_NAME_OF_ASKED = re.compile(r"\b(?:called|named?|names)\b", re.IGNORECASE)

_NAME = re.compile(r"(?<!^)(?<!\. )\b(?!I\b)[A-Z][\w'’-]*")
_CALLED = re.compile(r"\b(?:called|named?|names? (?:is|are|was|were)) \w+", re.IGNORECASE)
_NAME_FIRST = re.compile(
    r"^(?!(?:My|Our|The|I|We|An?|This|That)\b)[A-Z]\w*(?:,? (?:and )?[A-Z]\w*)* (?:is|are|was|were)\b"
)
_NUMBER = (
    r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\w+teen|(?:twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety)(?:-\w+)?|hundred|thousand|million|dozen)\b"
)
_SHOWN = {
    "count": re.compile(rf"\b(?:{_NUMBER}|(?:an?|no|several|many|few|both)\b)", re.IGNORECASE),
    "age": re.compile(rf"\b(?:am|is|are|was|turned|aged?)\s+(?:\w+\s+)?{_NUMBER}", re.IGNORECASE),
    "measure": re.compile(rf"\b(?:{_NUMBER}|every|once|twice)", re.IGNORECASE),
    "place": re.compile(r"\b(?:in|at|near|from|on|to|under|behind|beside|by|opposite|abroad|home)\b", re.IGNORECASE),
    "time": re.compile(
        r"\d|\b(?:at|on|in|since|until|after|before|every|today|tonight|tomorrow|yesterday|noon|midnight|\w+day)\b",
        re.IGNORECASE,
    ),
}


def recalled(user_texts: list[str]) -> str | None:
    """The answer to the last message when it asks for what was told; None when it asks for something else.

    The last value wins. What the user asks about themselves and never told is said to be unknown.
    """
    if len(user_texts[-1]) > LONGEST_QUESTION:
        return None
    asked = [clause for clause in clauses(user_texts[-1:]) if is_question(clause)]
    if not asked:
        return None
    question = asked[-1]
    if _NAME_ASKED.search(question):
        name = _name_told(user_texts)
        return f"Your name is {name}." if name else "You have not told me your name."
    if _REMEMBER_ASKED.search(question):
        to_remember = _told_to_remember(user_texts)
        return f"You asked me to remember: {'; '.join(dict.fromkeys(to_remember)) or 'nothing'}."
    facts = facts_in(user_texts)
    if _EVERYTHING_ASKED.search(question):
        return " ".join(dict.fromkeys(fact.said_back() for fact in facts)) or "You have not told me anything."
    return _fact_recalled(facts, question)


def _fact_recalled(facts: list[Fact], question: str) -> str | None:
    question = _TO_THE_MODEL.sub(" ", question).strip()
    asking = _ASKING.search(question)
    is_of_the_user = bool(_OF_THE_USER.search(question))
    if not (asking or _YES_OR_NO.match(question)) or _ADVICE.search(question) or re.search(r"\byou\b", question):
        return None
    wanted = _Wanted(question, asking)
    for fact in reversed(facts):
        if wanted.is_met_by(fact):
            return fact.said_back()
    names = {one_form(name) for name in _NAME.findall(question)}
    return _UNKNOWN if is_of_the_user or any(names & fact.words for fact in facts) else None


class _Wanted:
    """The words that a question asks about, and the kind of thing that an answer must show."""

    def __init__(self, question: str, asking: re.Match[str] | None) -> None:
        self._shows = next((kind for kind in _SHOWN if asking and asking[kind]), "")
        self._needs_from = self._shows == "place" and bool(re.search(r"\bfrom\b", question, re.IGNORECASE))
        self._needs_name = bool(
            _NAME_OF_ASKED.search(question) or (asking and asking["person"] and not _NAME.search(question))
        )
        deed = _DEED_ASKED.search(question)
        self._deed = "am" if deed and deed["be"] else one_form(deed["verb"]) if deed else ""
        mine = _MINE_ASKED.search(question)
        self._mine = words_of(mine[1]) if mine else None
        self._needs_be = not mine and not deed and bool(_IS_ASKED.search(question))
        self._words = words_of(question.replace(asking[0], " ", 1) if asking else question)
        self._all_words = words_of(question)
        if self._deed == "have":  # "I have a car" tells nothing about pets; "I speak French" is about languages
            self._words = self._all_words

    def is_met_by(self, fact: Fact) -> bool:
        """True when the fact has all the words, of the same person, and shows what is asked for."""
        return (
            bool(self._words or self._deed)
            and self._words <= fact.words
            and (not self._deed or self._deed in fact.deeds)
            and (self._mine is None or bool(self._mine & fact.mine))
            and fact.possessors <= self._all_words
            and (not self._needs_be or fact.has_be)
            and (not self._needs_name or self._has_name(fact.text))
            and (not self._shows or bool(_SHOWN[self._shows].search(fact.text)))
            and (not self._needs_from or " from " in fact.text)
        )

    def _has_name(self, text: str) -> bool:
        """True for a name after the words that are asked about, or at the start, as in "Rex is my dog"."""
        after = max((each.end() for each in re.finditer(r"\w+", text) if one_form(each[0]) in self._words), default=0)
        return bool(_NAME.search(text, after) or _CALLED.search(text) or _NAME_FIRST.search(text))


def _name_told(user_texts: list[str]) -> str | None:
    """The name that was told last: one word and the capitalised words after it; None when none was told."""
    name = None
    for clause in clauses(user_texts):
        if told := _NAME_TOLD.search(clause):
            found = _name_at_start(told[2], only_capital=bool(told[1]))
            if not (told[1] and _NATIONALITY.search(found)):
                name = found or name
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


def _told_to_remember(user_texts: list[str]) -> list[str]:
    found = (_REMEMBER_TOLD.search(clause) for clause in clauses(user_texts) if not is_question(clause))
    return [told[1].rstrip(" .!") for told in found if told]
