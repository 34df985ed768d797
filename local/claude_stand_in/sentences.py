"""Sentences and telling words of a text, and the few sentences that say most of it."""

from __future__ import annotations

import math
import re
from collections import Counter

from local.claude_stand_in.markdown import prose_of
from local.claude_stand_in.tables import table_in

MOST_SENTENCES = 5
MOST_WORDS = 30  # of one sentence in a summary: a text without full stops is one sentence

_SENTENCE_END = re.compile(r"(?<=[.!?])\s|\n(?![a-z])")
_MARKUP = re.compile(r"</?\w[^<>\n]*>")
_WORD = re.compile(r"[^\W\d_]{3,}")
_PLAIN_WORDS = frozenset(  # they say nothing by themselves
    re.findall(
        r"\w+",
        """
        about after all also and any are been before being but can could did does down each few for from had has
        have her here hers him his how into its just may might more most must not now off one only onto other our
        out over own please said same say she should some such tell than that the their them then there these they
        this those through too two under upon very was way were what when where which while who whom why will with
        would you your""",
    )
)


def sentences(text: str) -> list[str]:
    """The sentences of a text in order, single-spaced, without <markup>. A line break ends one too, unless it wraps."""
    found = (" ".join(each.split()) for each in _SENTENCE_END.split(_MARKUP.sub(" ", text)))
    return [each for each in found if each]


def telling_words(text: str) -> Counter[str]:
    """Counts the words that have a meaning by themselves, in lower case, in order of appearance."""
    return Counter(word for word in _WORD.findall(text.lower()) if word not in _PLAIN_WORDS)


def summary(text: str) -> str:
    """The columns of a table, else the most telling third of the sentences: 1 to MOST_SENTENCES in their order.

    A sentence tells more the more often its words occur in the whole text, for its length; the earlier wins a tie.
    A single sentence is cut to half its words, so that a summary never repeats the whole.
    """
    if table := table_in(text):
        return table.description()
    prose = prose_of(text) or text
    all_sentences = list(dict.fromkeys(sentences(prose)))
    if len(all_sentences) < 2:
        only = " ".join(all_sentences) or text
        return _first_words(only, min(MOST_WORDS, max(1, len(only.split()) // 2)))
    frequency = telling_words(prose)
    ranked = sorted(range(len(all_sentences)), key=lambda number: -_weight(all_sentences[number], frequency))
    kept = sorted(ranked[: min(MOST_SENTENCES, max(1, len(all_sentences) // 3))])
    return " ".join(dict.fromkeys(_first_words(all_sentences[number], MOST_WORDS) for number in kept))


def _weight(sentence: str, frequency: Counter[str]) -> float:
    words = telling_words(sentence)
    return sum(frequency[word] for word in words) / math.sqrt(len(sentence.split()))


def _first_words(text: str, count: int) -> str:
    words = text.split()
    return " ".join(words[:count]) + (" …" if len(words) > count else "")
