"""The Claude stand-in: a local server that speaks the Messages API, so that Turnlog runs without a key.

`python -m local.claude_stand_in --port 8788`, or `with StandIn() as claude:` and `claude.url` in a test. It is strict
where Claude is strict, answers deterministically from the history it is sent, says in every reply that it is not
Claude, and fails on demand.
"""

from local.claude_stand_in.server import StandIn

__all__ = ["StandIn"]
