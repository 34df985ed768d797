"""POST /anonymous/sessions: the one public route; a session for whoever makes up a secret."""

from turnlog.entrypoints.http import Api, sessions

handler = Api({("POST", "/anonymous/sessions"): sessions.create_anonymous})
