"""/sessions: conversations that their owner starts, continues, reads and ends."""

from turnlog import runtime
from turnlog.http import Api, conversations, handover, history

runtime.load_claude()
handler = Api(
    {
        ("POST", "/sessions"): conversations.create,
        ("GET", "/sessions"): conversations.list_all,
        ("GET", "/sessions/{id}"): conversations.get,
        ("PATCH", "/sessions/{id}"): conversations.rename,
        ("DELETE", "/sessions/{id}"): conversations.delete,
        ("GET", "/sessions/{id}/export"): history.export,
        ("POST", "/sessions/{id}/fork"): handover.fork,
        ("POST", "/sessions/{id}/rotate"): handover.rotate,
        ("POST", "/sessions/{id}/claim"): handover.claim,
        ("POST", "/sessions/{id}/turns"): history.take,
        ("GET", "/sessions/{id}/turns"): history.list_turns,
        ("GET", "/sessions/{id}/turns/{n}"): history.get_turn,
    }
)
