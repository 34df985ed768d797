"""POST /analyze: one source file in, findings out."""

from turnlog.entrypoints.http import single_turn
from turnlog.usecases.document_tasks import ANALYZE

handler = single_turn("/analyze", ANALYZE)
