"""The Messages API at our own door: without a session a request is passed on, with one it is a turn."""
