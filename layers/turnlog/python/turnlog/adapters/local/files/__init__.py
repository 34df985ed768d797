"""SessionStore and QuotaStore on a local file system: one file a session, to which its turns are added."""

from turnlog.adapters.local.files.store import FileSessionStore

__all__ = ["FileSessionStore"]
