"""Turnlog: Claude on Lambda, stateless by default, with sessions that never lose a turn."""

__version__ = "0.1.0"
