"""Implementations of the ports: one port and one driver each; none of them knows another."""
