"""Implementations of the ports, one folder or file for each technology, and the log; none imports another."""
