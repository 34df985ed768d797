"""The shipped implementations of SessionStore; they differ only in durability and reach."""
