"""/sessions: conversations that their owner starts, continues, reads and ends."""

from turnlog import runtime
from turnlog.entrypoints.http import Api, sessions, transfers, turns

runtime.load_claude()
handler = Api(
    {
        ("POST", "/sessions"): sessions.create,
        ("GET", "/sessions"): sessions.list_all,
        ("GET", "/sessions/{id}"): sessions.get,
        ("PATCH", "/sessions/{id}"): sessions.change,
        ("DELETE", "/sessions/{id}"): sessions.delete,
        ("GET", "/sessions/{id}/export"): turns.export,
        ("POST", "/sessions/{id}/fork"): transfers.fork,
        ("POST", "/sessions/{id}/rotate"): transfers.rotate,
        ("POST", "/sessions/{id}/claim"): transfers.claim,
        ("POST", "/sessions/{id}/turns"): turns.take,
        ("GET", "/sessions/{id}/turns"): turns.list_turns,
        ("GET", "/sessions/{id}/turns/{n}"): turns.get_turn,
        ("POST", "/sessions/{id}/turns/{n}/cancel"): turns.cancel,
    }
)
