"""The texts of the measured conversations: invented words drawn by a seed, the same in every run."""

from __future__ import annotations

import random

_LETTERS = random.Random(0)
_WORDS = ["".join(_LETTERS.choices("etaoinshrdlucmfw", k=_LETTERS.randint(2, 9))) for _ in range(500)]

TOOL_RESULT_CHARACTERS = 60_000


def prose(seed: str, characters: int) -> str:
    """Exactly so many characters; 2,000 of them deflate to about 1 KB, as prose does."""
    source = random.Random(seed)
    words: list[str] = []
    length = 0
    while length <= characters:
        words.append(source.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:characters]


def question(turn: int) -> str:
    return prose(f"question {turn}", 1000)


def answer(turn: int) -> str:
    return prose(f"answer {turn}", 1000)


def question_with_tool_result(turn: int) -> str:
    """Every tenth turn brings what a tool has found, in the caller's message as the Messages API has it."""
    return question(turn) + "\n" + prose(f"tool {turn}", TOOL_RESULT_CHARACTERS) if turn % 10 == 0 else question(turn)
