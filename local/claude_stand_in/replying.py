"""Replies on their way: in a piece or as a stream, at their pace, and as a fault spoils them.

What is returned as bytes is the end of an answer, for the caller to send.
"""

from __future__ import annotations

from dataclasses import replace

from local.claude_stand_in.course import Course, plain_error, seconds_of
from local.claude_stand_in.faults import Fault
from local.claude_stand_in.replies import Reply
from local.claude_stand_in.wire import ApiHandler, chunk, event_bytes, json_bytes

_GARBAGE = b"<html><body>This is not JSON.</body></html>"


class ReplyHandler(ApiHandler):
    """Sends replies."""

    def begin_plain(self, reply: Reply, fault: Fault | None) -> bytes:
        kind, wait_s = fault.kind if fault else "", seconds_of(reply.wishes, fault)
        if wait_s and not self.client_waits(wait_s):
            self.close_connection = True
            return b""
        if error := plain_error(fault):
            raise error
        ends = kind in ("early_end", "no_stop_reason")
        body = json_bytes(replace(reply, stop_reason=None).message() if ends else reply.message())
        self.send_head(200, "application/json", {"content-length": str(len(body))})
        if kind != "cut":
            return body
        self.close_connection = True
        return body[: len(body) // 2]

    def begin_stream(self, course: Course) -> bytes:
        self.send_head(200, "text/event-stream; charset=utf-8", {"transfer-encoding": "chunked"})
        last_bytes = b""
        for step in course.steps:
            self.wfile.write(last_bytes)
            if step.after_s and not self.client_waits(step.after_s):
                self.close_connection = True
                return b""
            last_bytes = chunk(event_bytes(step.event))
        self.close_connection = self.close_connection or not course.is_whole
        return last_bytes + (chunk(b"") if course.is_whole else b"")

    def begin_garbage(self, *, streamed: bool) -> bytes:
        body = b"event: message_start\ndata: " + _GARBAGE + b"\n\n" if streamed else _GARBAGE
        kind = "text/event-stream; charset=utf-8" if streamed else "application/json"
        self.send_head(200, kind, {"content-length": str(len(body))})
        return body

    def ends_in_silence(self, fault: Fault, *, streamed: bool) -> bool:
        """Waits as the fault says. True when there is no answer after it, or nobody who waits for one."""
        if fault.kind == "slow":
            return not self.client_waits(fault.wait_s)
        if fault.kind == "silence" or (fault.kind == "never_ends" and not streamed):
            self.client_waits(fault.wait_s)
            return True
        return False
