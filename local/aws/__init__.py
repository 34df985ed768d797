"""Turnlog in an AWS account: its deploy from this machine, and the people of its user pool."""
