"""S3 Object Created: a document under inbox/<owner>/ becomes outbox/<owner>/<name>.summary.json."""

from turnlog import runtime
from turnlog.entrypoints.events import summarize_uploads

runtime.load_claude()
handler = summarize_uploads
