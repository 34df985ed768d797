"""Entry points: each parses its input, calls a use case, and renders the result.

`http` answers API Gateway. `events` takes what S3 and the schedule deliver, and a queue's worker belongs there too.
`stream` tells what it does as it goes, to HTTP clients too, so it stands on `http`. `cli` is a place for what is not
built yet.
"""
