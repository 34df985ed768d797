"""Entry points: each parses its input, calls a use case, and renders the result.

`http` answers API Gateway. `events` takes what S3, the schedule and later the queue deliver. `stream` and `cli` come
beside them.
"""
