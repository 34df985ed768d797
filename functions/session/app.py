"""/sessions: conversations that their owner starts, continues, reads and ends."""

from turnlog import runtime
from turnlog.http import Api, conversations

runtime.load_claude()
handler = Api(
    {
        ("POST", "/sessions"): conversations.create,
        ("GET", "/sessions/{id}"): conversations.get,
        ("DELETE", "/sessions/{id}"): conversations.delete,
        ("POST", "/sessions/{id}/turns"): conversations.take,
        ("GET", "/sessions/{id}/turns"): conversations.list_turns,
        ("GET", "/sessions/{id}/turns/{n}"): conversations.get_turn,
    }
)
