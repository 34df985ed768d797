"""AWS for another process: moto's, over HTTP on the loopback interface, so that it counts nothing of what is stored."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber

from local.loopback import GuardedHandler, LoopbackServer

_SERVICE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


class _Handler(GuardedHandler):
    moto = BotocoreStubber()
    one_at_a_time = threading.Lock()

    def answer(self) -> None:
        headers = HTTPHeaders()
        for name, value in self.headers.items():
            headers[name] = value
        body = self.rfile.read(int(headers.get("Content-Length", 0)))
        signed = _SERVICE.search(headers.get("Authorization", ""))
        region, service = signed.groups() if signed else ("us-east-1", "s3")
        url = f"https://{service}.{region}.amazonaws.com{self.path}"
        with self.one_at_a_time:
            asked = AWSPreparedRequest(self.command, url, headers, body, stream_output=False)
            answered = self.moto.process_request(asked)
        if answered is None:
            raise LookupError(service)
        status, sent, content = answered
        raw = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in sent.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, str(value))
        self.send_header(
            "Content-Length", str(sent.get("content-length", len(raw)) if self.command == "HEAD" else len(raw))
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


@contextmanager
def loopback_aws() -> Iterator[str]:
    """Yields the address of an empty account; what it keeps is gone afterwards."""
    with mock_aws(), LoopbackServer(0, _Handler, "aws") as server:
        yield server.url
