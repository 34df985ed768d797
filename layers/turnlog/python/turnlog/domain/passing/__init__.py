"""Requests to the Messages API that are passed on as they are: what may be in them, and what they can cost."""
