"""Facts that a user told in plain sentences: who has, is, likes, lives or does what.

Nothing is understood: a fact is its words, in a form that can be compared, and the sentence to say back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from local.claude_stand_in.sentences import sentences

_ASIDES = re.compile(
    r"^(?:(?:hi|hello|hey|no|yes|ok|okay|well|oh|actually|sorry|please|also|and|but|so|by the way)\b[\s,:!–-]*"
    r"|(?:remember|note)(?:\s+(?:that|this))?[:,]?\s+)+",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"(?:;|,?\s+(?:and|but))\s+(?=(?:my|the|our|I|we|remember|(?:s?he|it|they)\s+\w)\b)", re.IGNORECASE
)
_QUESTION = re.compile(
    r"(?:what|where|when|who|whose|which|why|how|do|does|did|can|could|would|will|is|are|am|have|has"
    r"|tell|remind|say|give|show|write|list|explain|describe|summari[sz]e|translate)\b",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"(?:he|she|it|they|his|her|its|their|both|one|the other)\b", re.IGNORECASE)
_OTHER_FORMS = (
    (re.compile(r"\b(I)['’]m\b", re.IGNORECASE), r"\1 am"),
    (re.compile(r"\b(we|you|they)['’]re\b", re.IGNORECASE), r"\1 are"),
    (re.compile(r"\b(I|we|you|they)['’]ve\b", re.IGNORECASE), r"\1 have"),
    (re.compile(r"\b(what|where|when|who|how|he|she|it|that|there|name)['’]s\b", re.IGNORECASE), r"\1 is"),
    (re.compile(r"\b([^\W\d_]+)['’]s(?=\s+(?:an?|my|our|the|called|named|in|at|from|not)\b)"), r"\1 is"),
    (re.compile(r"\b(?:do|did) I come from\b", re.IGNORECASE), "am I from"),
    (re.compile(r"\bI (?:come|came) from\b", re.IGNORECASE), "I am from"),
    (re.compile(r"\bdo I do(?: for (?:a living|work))?(?=\W*$)", re.IGNORECASE | re.MULTILINE), "is my work"),
)
_SAID_BACK = {
    "i am": "you are",
    "i was": "you were",
    "am i": "are you",
    "was i": "were you",
    **dict.fromkeys(("i", "me", "we", "us"), "you"),
    **dict.fromkeys(("my", "our"), "your"),
    **dict.fromkeys(("mine", "ours"), "yours"),
    "myself": "yourself",
    "ourselves": "yourselves",
}
_SAID_BACK_WORDS = re.compile(rf"\b(?:{'|'.join(_SAID_BACK)})\b", re.IGNORECASE)

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_POSSESSIVE = re.compile(r"['’]s?$")
_PLAIN_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a about again all also am an and any are as ask asked at be been by can could did do does for from give had has
    have he her his how i in is it its know many me mention mentioned mine much my of old on or our please really
    recall remember remind said say she so some tell that the their them they this to told us was we were what when
    where which who whose why will with would you your called call named name names""",
    )
)
_OTHER_WORDS = {  # of one meaning, or of one verb: what endings do not show
    "favourite": "favourites favorite favorites",
    "colour": "colours color colors",
    "work": "job jobs profession occupation living",
    "child": "children kid kids",
    "am": "was are were",
    "have": "has had got own owns keep keeps",
    "go": "went",
    "buy": "bought",
    "meet": "met",
    "see": "saw",
    "eat": "ate",
    "drive": "drove",
    "grow": "grew",
    "speak": "spoke",
    "write": "wrote",
    "drink": "drank",
    "come": "came",
    "take": "took",
    "make": "made",
}
_ONE_FORM = {word: one for one, words in _OTHER_WORDS.items() for word in (one, *words.split())}
_MINE = re.compile(r"\b(?:my|our)\s+((?:[^\W_][\w'’-]*\s*){1,4})", re.IGNORECASE)
_I_DO = re.compile(
    r"\b(?:I|we)\s+(?:\w+ly\s+|also\s+|just\s+|still\s+|often\s+|always\s+)*(\w+)(?:\s+(\w+))?", re.IGNORECASE
)
_IS_A = re.compile(r"\b(?:am|is) an? ", re.IGNORECASE)
_BE = re.compile(r"\b(?:am|is|are|was|were|called|named)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fact:
    """One clause that was told, or several of which the later ones go on about "he", "it" or "they"."""

    text: str

    @property
    def words(self) -> set[str]:
        """The words that have a meaning by themselves, each in one form. "… is a …" is taken to name one's work."""
        return words_of(self.text) | ({"work"} if _IS_A.search(self.text) else set())

    @property
    def mine(self) -> set[str]:
        """The words of what the user calls "my …", and of what the user says to have."""
        if "have" in self.deeds or re.search(r"\bI am an? ", self.text):
            return self.words
        return self.deeds | {word for found in _MINE.findall(self.text) for word in words_of(found)}

    @property
    def deeds(self) -> set[str]:
        """The verbs that follow "I" and "we"."""
        return {one_form(verb) for found in _I_DO.findall(self.text) for verb in found if verb}

    @property
    def possessors(self) -> set[str]:
        """The words before an 's: what is told of them is told of nobody else."""
        return {one_form(word) for word in _WORD.findall(self.text) if _POSSESSIVE.search(word)}

    @property
    def has_be(self) -> bool:
        """True when something is, or is called, something."""
        return bool(_BE.search(self.text))

    def said_back(self) -> str:
        """The fact as sentences to the user who told it."""
        text = _SAID_BACK_WORDS.sub(lambda found: _SAID_BACK[found[0].lower()], self.text)
        return f"{text[:1].upper()}{text[1:]}."


def facts_in(texts: list[str]) -> list[Fact]:
    """The facts of a conversation's texts, in the order they were told."""
    found: list[Fact] = []
    for clause in clauses(texts):
        plain = _ASIDES.sub("", clause).rstrip(" .!,")
        if not plain or is_question(clause) or is_question(plain):
            continue
        if found and _GOES_ON.match(plain):
            found[-1] = Fact(f"{found[-1].text}. {plain[0].upper()}{plain[1:]}")
        else:
            found.append(Fact(plain))
    return found


def clauses(texts: list[str]) -> list[str]:
    """The clauses of texts, with "I'm" as "I am" and the like."""
    lines = [line for text in texts for line in _in_full(text).splitlines()]
    return [clause for line in lines for each in sentences(line) for clause in _CLAUSE_END.split(each)]


def is_question(clause: str) -> bool:
    """True for a question, and for a request to tell or to write something."""
    return clause.endswith("?") or bool(_QUESTION.match(clause))


def words_of(text: str) -> set[str]:
    """The words of a text that have a meaning by themselves, each in one form."""
    return {one_form(word) for word in _WORD.findall(text) if _bare(word) not in _PLAIN_WORDS}


def one_form(word: str) -> str:
    """A form that "lives", "lived" and "living" share; no English word need look like it."""
    bare = _bare(word)
    if bare in _ONE_FORM:
        return _ONE_FORM[bare]
    for ending, instead in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("s", ""), ("e", "")):
        if bare.endswith(ending) and len(bare) - len(ending) > 2 and not bare.endswith("ss"):
            return bare.removesuffix(ending) + instead
    return bare


def _bare(word: str) -> str:
    return _POSSESSIVE.sub("", word.lower())


def _in_full(text: str) -> str:
    for pattern, full in _OTHER_FORMS:
        text = pattern.sub(full, text)
    return text
