"""The event entry points: what S3 and the clock report, read as untrusted input."""

from turnlog.entrypoints.events.sweeps import sweep_sessions
from turnlog.entrypoints.events.uploads import SummarizeUploads

__all__ = ["SummarizeUploads", "sweep_sessions"]
