"""S3 ObjectCreated: a document under inbox/<owner>/ becomes outbox/<owner>/<name>.summary.json."""

from turnlog import runtime
from turnlog.events import SummarizeUploads

runtime.load_claude()
handler = SummarizeUploads()
