"""The bodies of answers about documents: what any reply has, and the object that the model answered, typed."""

from __future__ import annotations

from typing import Annotated, Literal

from turnlog.entrypoints.http.fields import count, described
from turnlog.entrypoints.http.replies import AnyReply, ResponseBody
from turnlog.usecases.long_documents import DocumentAnswer

_LINE = "The line of the document, from 1; null when it is not about one line."
_POINTS = "The main points, in the order of their weight."
_LANGUAGE = "The document's language as a tag (BCP 47), in which the summary is written, too."


class Finding(ResponseBody):
    """Something that is wrong or risky."""

    line: Annotated[int | None, count(_LINE, 3, minimum=1)]
    severity: Annotated[Literal["error", "warning", "info"], described("The weight of it.", "warning")]
    rule: Annotated[str, described("A short name of the rule that is broken.", "unused-variable")]
    message: Annotated[str, described("What is wrong, and why.", "The variable is never read.")]
    suggestion: Annotated[str | None, described("How to mend it; null when that is not known.", "Remove it.")]


class Summary(ResponseBody):
    """A summary of a document."""

    title: Annotated[str, described("The document's title.", "Herons in spring")]
    summary: Annotated[str, described("What the document is and says.", "A report on herons.")]
    key_points: Annotated[list[str], described(_POINTS, ["Herons nest early this year."])]
    language: Annotated[str, described(_LANGUAGE, "en")]


class AnalyzeReply(AnyReply):
    """Findings about a source file; `text` says the same for people."""

    findings: Annotated[list[Finding], described("What is wrong or risky, the most serious first; empty for nothing.")]


class SummarizeReply(AnyReply):
    """A summary of a document; `text` says the same for people."""

    summary: Annotated[Summary, described("The summary.")]


def document_reply(answers: Literal["summary", "findings"], given: DocumentAnswer) -> AnalyzeReply | SummarizeReply:
    """Returns the answer with its object, which is a summary or has findings."""
    reply, said = given.reply, given.output
    if answers == "summary":
        summary = Summary(**said)
        return SummarizeReply.of_reply(reply, reply.usage, given.cost_usd, text=given.text, summary=summary)
    findings = [Finding(**each) for each in said["findings"]]
    return AnalyzeReply.of_reply(reply, reply.usage, given.cost_usd, text=given.text, findings=findings)
