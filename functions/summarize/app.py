"""POST /summarize: one document in, one summary out."""

from turnlog.entrypoints.http import single_turn
from turnlog.usecases.document_tasks import SUMMARIZE

handler = single_turn("/summarize", SUMMARIZE)
