"""GET /health and GET /openapi.json: that the service answers, and what it answers to."""

from turnlog.http import Api, console

handler = Api({("GET", "/health"): console.health, ("GET", "/openapi.json"): console.openapi})
