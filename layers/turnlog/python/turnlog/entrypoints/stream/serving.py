"""The server of the app, with the same settings wherever it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from turnlog import runtime
from turnlog.adapters import telemetry

if TYPE_CHECKING:
    from uvicorn import Server


def serve(app: ASGIApp) -> None:
    """Serves the app to this machine until the process is told to end, and then until the work that runs has ended."""
    telemetry.silence_libraries()  # the server would write the text of errors
    make_server(app, runtime.stream_port()).run()


def make_server(app: ASGIApp, port: int) -> Server:
    """Returns the server, which is not running yet. No header decides where a request comes from."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=port,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
    )
