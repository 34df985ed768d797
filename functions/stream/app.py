"""POST …/stream: replies as they come, by an ASGI app behind the Lambda Web Adapter; uvicorn serves `app`."""

from turnlog import runtime
from turnlog.entrypoints.stream import NATIVE, make_app
from turnlog.entrypoints.stream.messages.door import MESSAGES

runtime.load_claude()
app = make_app(NATIVE, MESSAGES)
