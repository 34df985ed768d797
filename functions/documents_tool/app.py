"""Tools that read the caller's own uploaded documents, under a role that reaches nothing else."""

from turnlog.entrypoints.events import run_document_tools
from turnlog.tools import tools_named

handler = run_document_tools(tools_named(["list_documents", "read_document"]))
