"""POST /anonymous/sessions: the one public route; a session for whoever makes up a secret."""

from turnlog.http import Api, conversations

handler = Api({("POST", "/anonymous/sessions"): conversations.create_anonymous})
