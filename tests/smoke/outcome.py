"""The two ways in which a check does not end well."""

from __future__ import annotations


class Unexpected(Exception):
    """The deployment answers otherwise than it should. The message says what came instead of what, and perhaps why."""


class LeftOut(Exception):
    """The check lacks something. The message says what, and how to give it."""
