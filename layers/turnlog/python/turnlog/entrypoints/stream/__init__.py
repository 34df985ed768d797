"""The place of the streaming entry point, which is not built yet: the same use cases, told as they go."""
