"""Thinking: which kinds a model takes, and whether the blocks that come back are its own and stand where they were."""

from __future__ import annotations

from typing import Any

from local.claude_stand_in.errors import ApiError, invalid
from local.claude_stand_in.models import Model
from local.claude_stand_in.prompt import THINKING, Prompt
from local.claude_stand_in.signatures import unbound
from local.claude_stand_in.turns import turns_of

LEAST_BUDGET = 1_024
BOUND = (
    "The block is bound to a different conversation. Remove the block, or set"
    ' `thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
)

_KINDS = ("adaptive", "between_tools", "disabled", "enabled")
_FIELDS = {"enabled": {"type", "display", "budget_tokens"}, "adaptive": {"type", "display"}}
_DROP = "drop_block"


def check_thinking(prompt: Prompt) -> None:
    """Raises ApiError for thinking or effort that the model does not take, and for thinking blocks in a wrong place."""
    body, model = prompt.body, prompt.model
    config = body.get("thinking")
    if config is not None:
        _check_config(config, prompt)
    for each in (body, *body["messages"]):
        effort = (each.get("output_config") or {}).get("effort")
        if effort is not None and effort not in model.efforts:
            raise _wrong_effort(effort, model)
    _check_ends(body)
    _check_begin(body)
    drops = ((config or {}).get("block_binding") or {}).get("prefix_mismatch_behavior") == _DROP
    for part, is_bound in unbound(prompt):
        if is_bound and drops:
            continue
        message = f"{part.path}: Invalid `signature` in `{part.type}` block"
        raise invalid(f"{message}. {BOUND}" if is_bound else message)


def _check_config(config: object, prompt: Prompt) -> None:
    body, model, dialect = prompt.body, prompt.model, prompt.dialect
    if not isinstance(config, dict) or config.get("type") not in _KINDS:
        raise invalid(f"thinking: Input tag does not match any of the expected tags: {', '.join(_KINDS)}")
    kind = config["type"]
    known = _FIELDS[kind] | dialect.allowed("block_binding") if kind in _FIELDS else {"type"}
    for field in config.keys() - known:
        raise invalid(f"thinking.{kind}.{field}: Extra inputs are not permitted")
    displays = ("summarized", "omitted", *(["updates"] if dialect.has("display updates") else []))
    if config.get("display") not in (None, *displays):
        raise invalid(f"thinking.{kind}.display: Input should be {' or '.join(map(repr, displays))}")
    _check_binding(config.get("block_binding"), f"thinking.{kind}.block_binding")
    if kind not in model.thinking:
        raise invalid(
            f'"thinking.type.{kind}" is not supported for this model. Use "thinking.type.{model.thinking[0]}"'
            ' and "output_config.effort" to control thinking behavior.'
        )
    if kind == "enabled":
        _check_budget(config.get("budget_tokens"), body.get("max_tokens"))
    choice = body.get("tool_choice") or {}
    if kind != "disabled" and choice.get("type") in ("any", "tool"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def _check_binding(binding: object, path: str) -> None:
    if binding is None:
        return
    if not isinstance(binding, dict) or binding.keys() - {"prefix_mismatch_behavior"}:
        raise invalid(f"{path}: Input should be an object with prefix_mismatch_behavior")
    if binding.get("prefix_mismatch_behavior") not in (None, "error", _DROP):
        raise invalid(f"{path}.prefix_mismatch_behavior: Input should be 'error' or '{_DROP}'")


def _check_budget(budget: object, max_tokens: int | None) -> None:
    if type(budget) is not int or budget < LEAST_BUDGET:
        raise invalid(f"thinking.enabled.budget_tokens: Input should be greater than or equal to {LEAST_BUDGET}")
    if max_tokens is not None and budget >= max_tokens:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _wrong_effort(effort: object, model: Model) -> ApiError:
    if not model.efforts:
        return invalid("This model does not support the effort parameter.")
    return invalid(f"output_config.effort: Input should be one of {', '.join(model.efforts)}, not {str(effort)[:20]!r}")


def _check_ends(body: dict[str, Any]) -> None:
    """The last message of the assistant may not end with thinking. Of earlier ones the reports differ."""
    number = max((n for n, each in enumerate(body["messages"]) if each["role"] == "assistant"), default=None)
    content = body["messages"][number]["content"] if number is not None else ""
    if isinstance(content, list) and content[-1]["type"] in THINKING:
        raise invalid(f"messages.{number}: The final block in an assistant message cannot be `{content[-1]['type']}`.")


def _check_begin(body: dict[str, Any]) -> None:
    """With a budget, a turn that called tools begins with its thinking."""
    turns = turns_of(body["messages"])
    if (body.get("thinking") or {}).get("type") != "enabled" or not turns[-1].of_type("tool_result"):
        return
    first = turns[-2].blocks[0]["type"]
    if first not in THINKING:
        raise invalid(
            f"{turns[-2].paths[0]}.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When"
            " `thinking` is enabled, a final `assistant` message must start with a thinking block (preceeding the"
            " lastmost set of `tool_use` and `tool_result` blocks)."
        )
