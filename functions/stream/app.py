"""POST …/stream: replies as they come, by an ASGI app behind the Lambda Web Adapter.

Its server is started by `python app.py`, and listens on PORT.
"""

from turnlog import runtime
from turnlog.entrypoints.stream import NATIVE, make_app, serve

runtime.load_claude()
app = make_app(NATIVE)

if __name__ == "__main__":
    serve(app)
