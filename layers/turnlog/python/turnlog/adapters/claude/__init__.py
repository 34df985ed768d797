"""ChatModel on the anthropic SDK: the Anthropic API, or whatever speaks it at a base URL."""

from turnlog.adapters.claude.client import Claude

__all__ = ["Claude"]
