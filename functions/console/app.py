"""GET /health and GET /openapi.json: that the service answers, and what it answers to."""

from turnlog.entrypoints.http import Api, meta

handler = Api({("GET", "/health"): meta.health, ("GET", "/openapi.json"): meta.openapi})
