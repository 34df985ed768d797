"""The event entry points: what S3 and the clock report, read as untrusted input."""

from turnlog.entrypoints.events.sweeps import sweep_sessions
from turnlog.entrypoints.events.uploads import summarize_uploads

__all__ = ["summarize_uploads", "sweep_sessions"]
