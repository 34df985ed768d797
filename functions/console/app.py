"""GET /health and GET /openapi.json: that the service answers, and what it answers to; and every path's preflight."""

from turnlog.entrypoints.http import Api, meta

handler = Api({("GET", "/health"): meta.health, ("GET", "/openapi.json"): meta.openapi, **meta.preflights()})
