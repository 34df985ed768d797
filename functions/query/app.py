"""POST /query: any single-turn question."""

from turnlog.http import single_turn

handler = single_turn("/query")
