"""The function that streams, in a process of its own as Lambda and the adapter run it: under uvicorn, on a free port.

The first line that it writes is its port. For each line that it reads it writes its peak of memory and its CPU so far.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import threading
import time

# An exec hands its process the peak of the memory before it, here the parent's; a fork begins anew.
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the function prints is its log

import app  # type: ignore[import-not-found] # noqa: E402 (after the fork; each function's folder has its own)
import uvicorn  # noqa: E402

listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(128)
server = uvicorn.Server(uvicorn.Config(app.app, log_level="warning", access_log=False, lifespan="off"))
threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
print(listening.getsockname()[1], file=answers, flush=True)
for _ in sys.stdin:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = peak / (1_048_576 if sys.platform == "darwin" else 1024)
    print(json.dumps([peak_mb, time.process_time()]), file=answers, flush=True)
server.should_exit = True
