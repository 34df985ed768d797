"""SessionStore and QuotaStore on a local file system: one folder a session, one file a turn."""

from turnlog.adapters.files.store import FileSessionStore

__all__ = ["FileSessionStore"]
