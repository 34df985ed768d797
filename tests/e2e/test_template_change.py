"""`make run` after a change of the template: a key deploys it, and what is stored stays.

The last module but one of this folder by its name, since the next start deploys anew, as the last one does anyway.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.stack import PATIENCE_S, Stack


def test_a_changed_template_is_deployed_when_somebody_presses_the_key(stack: Stack, until: Callable[..., None]) -> None:
    session_id = stack.new_session("guillemot")
    before = len(stack.output)
    with stack.saved(
        "template.yaml", "CodeUri: functions/console\n", "CodeUri: functions/console\n      Timeout: 28\n"
    ):
        until(lambda: "saved: template.yaml; it needs a deploy: press d" in stack.output[before:])
        stack.press("d")
        until(lambda: "  deployed\n" in stack.output[before:], 3 * PATIENCE_S)
        functions = stack.client("lambda").list_functions()["Functions"]
        assert [each["Timeout"] for each in functions if "ConsoleFunction" in each["FunctionName"]] == [28]
        assert stack.recalls(session_id, "guillemot")
