"""The dialect of a request: the version of the API that its headers name, and the betas.

Fields and values that are in beta are refused like unknown ones until a request names a beta that has them. FEATURES is
the whole table: what is not in it, such as `compaction`, the stand-in does not play.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from local.claude_stand_in.errors import invalid

OLD_VERSION, NEW_VERSION = VERSIONS = ("2023-06-01", "2026-10-21")
# Each feature with the betas that have it. Sources: the types under anthropic.types.beta of anthropic 2.12.0, and what
# Claude Code 2.1.332 sends.
FEATURES = {
    # fields of a request
    "context_management": ("context-management-2025-06-27", "compact-2026-01-12"),
    "fallback_credit_token": ("fallback-credit-2026-06-01", "fallback-credit-2026-07-01"),
    "fallbacks": ("server-side-fallback-2026-06-01", "server-side-fallback-2026-07-01"),
    "mcp_servers": ("mcp-client-2025-04-04", "mcp-client-2025-11-20", "mcp-client-2026-09-15"),
    "safeguards": ("dangerous-tool-use-2026-09-03",),
    "thread": ("message-threads-2026-08-12",),
    # fields of a message of the system, and blocks in it
    "output_config of a message": ("per-turn-control-2026-07-01", "mid-conversation-output-config-2026-07-01"),
    "clear_at": ("mid-conversation-system-clear-at-2026-08-21",),
    "tool_addition": ("mid-conversation-tool-changes-2026-07-01",),
    "tool_removal": ("mid-conversation-tool-changes-2026-07-01",),
    # what is inside other fields
    "advisor": ("advisor-tool-2026-03-01",),
    "block_binding": ("thinking-binding-controls-2026-08-01",),
    "display updates": ("thinking-display-updates-2026-08-18",),
    "task_budget": ("task-budgets-2026-03-13",),
    # what is in the answer
    "estimated_tokens": ("thinking-token-count-2026-05-13",),
}

# The betas of tomorrow are not known here, so any that has the form of one may be named.
_BETA = re.compile(r"[a-z][a-z0-9-]{0,99}-20\d\d-?[01]\d-?[0-3]\d")


@dataclass(frozen=True, slots=True)
class Dialect:
    """A version and betas."""

    version: str = NEW_VERSION
    betas: frozenset[str] = frozenset()

    @classmethod
    def of_headers(cls, version: str | None, betas: str) -> Dialect:
        """Reads the two headers, of which `betas` is a list with commas. Raises ApiError for what the API refuses."""
        if not version:
            raise invalid("anthropic-version: header is required")
        if version not in VERSIONS:
            raise invalid(f'anthropic-version: "{version[:40]}" is not a valid version')
        named = [each.strip() for each in betas.split(",") if each.strip()]
        if unknown := [each for each in named if not _BETA.fullmatch(each)]:
            listed = ", ".join(f"`{each[:40]}`" for each in unknown)
            raise invalid(f"Unexpected value(s) {listed} for the `anthropic-beta` header.")
        return cls(version, frozenset(named))

    def has(self, feature: str) -> bool:
        """True when one of the betas has this feature of the table."""
        return not self.betas.isdisjoint(FEATURES[feature])

    def allowed(self, *features: str) -> frozenset[str]:
        """Those of the features that the betas have."""
        return frozenset(each for each in features if self.has(each))


PLAIN = Dialect()
