"""A schedule: the content of sessions that have ended, and of those that were never whole, is removed."""

from turnlog.entrypoints.events import sweep_sessions

handler = sweep_sessions
