"""Conversations as values and functions: no I/O, no clock, no environment; only ids, nonces and jitter are random."""
