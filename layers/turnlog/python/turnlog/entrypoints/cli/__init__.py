"""The place of the command line, which is not built yet: it parses arguments, calls use cases and prints."""
