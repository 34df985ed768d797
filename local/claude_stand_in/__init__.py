"""The Claude stand-in: a local server that speaks the Messages API, so that Turnlog runs without a key.

`python -m local.claude_stand_in --port 8788`, or `with StandIn() as claude:` and `claude.url` in a test. It is strict
where Claude is strict and fails on demand. Its answers depend on the history it is sent and on nothing else. Every
reply says that it is not Claude. README.md lists the words that ask it for tools, thinking or a stop reason.
"""

from local.claude_stand_in.server import StandIn

__all__ = ["StandIn"]
