"""API Gateway's authorizer: a JWT in, the verified caller out."""

from turnlog.http.authorizer import authorize

handler = authorize
