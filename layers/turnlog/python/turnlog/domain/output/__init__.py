"""Replies by a schema: which schemas are taken, and that replies are held to them."""
