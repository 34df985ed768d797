"""POST /query: any single-turn question."""

from turnlog.entrypoints.http import single_turn

handler = single_turn("/query")
