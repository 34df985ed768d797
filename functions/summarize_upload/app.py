"""S3 ObjectCreated: a document under inbox/<owner>/ becomes outbox/<owner>/<name>.summary.json."""

from turnlog import runtime
from turnlog.entrypoints.events import SummarizeUploads

runtime.load_claude()
handler = SummarizeUploads()
