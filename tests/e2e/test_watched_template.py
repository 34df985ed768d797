"""`make run` after a change of the template: a key deploys it, and what is stored stays.

The last module of this folder by its name, since the next start deploys anew. It takes the stack as the module before
leaves it: with a user pool, which has to outlast the deploy too.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.stack import PATIENCE_S, Stack


@pytest.fixture(scope="module", autouse=True)
def _running(stack: Stack) -> None:
    """In place of the one for all modules: this one works with any stack."""
    if not stack.is_running:
        stack.start(ISSUER="cognito")


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
