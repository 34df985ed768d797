"""The blocks that people may put into a message: what they may hold, how large they are, and what they cost."""
