"""The event entry points: what S3, the clock and other functions report or ask, read as untrusted input."""

from turnlog.entrypoints.events.sweeps import sweep_sessions
from turnlog.entrypoints.events.tool_calls import run_document_tools
from turnlog.entrypoints.events.uploads import summarize_uploads

__all__ = ["run_document_tools", "summarize_uploads", "sweep_sessions"]
