"""A schedule: the content of sessions that have ended, and of those that were never whole, is removed."""

from turnlog.events import sweep_sessions

handler = sweep_sessions
