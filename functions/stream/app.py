"""POST …/stream and /messages: replies as they come, by an ASGI app that uvicorn serves behind AWS's adapter."""

from turnlog import runtime
from turnlog.entrypoints.stream import MESSAGES, NATIVE, make_app

runtime.load_claude()
app = make_app(NATIVE, MESSAGES)
