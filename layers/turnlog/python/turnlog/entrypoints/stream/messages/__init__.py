"""The Messages API at our own door: a gateway without a session, and a turn of a session with one."""
