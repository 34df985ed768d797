"""API Gateway's authorizer: a JWT in, the verified caller out."""

from turnlog.entrypoints.http.authorizer import authorize

handler = authorize
