"""POST /summarize: one document in, one summary out."""

from turnlog.http import single_turn
from turnlog.prompts import SUMMARIZE

handler = single_turn("/summarize", SUMMARIZE)
