"""The runner of tools: whatever a tool does, its call has a result in time, and no exception's text is in one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from pydantic import Field

from tests.fakes import OWNER, START_MS, HeldClock
from turnlog.adapters.tool_runner import AT_ONCE, MOST_LEFT_BEHIND, ThreadToolRunner
from turnlog.domain import tool_results
from turnlog.domain.tool_functions import ContentBlocks, Tool, ToolFailure, tool
from turnlog.domain.tools import ToolCall, ToolResult
from turnlog.errors import StoreUnavailable
from turnlog.ports.tool_context import ToolContext

SOON = 0.05
"""The bound of a tool that does not end, in seconds."""


@tool(seconds=5, reads_only=True)
def repeated(
    context: ToolContext, text: Annotated[str, Field(max_length=20)], times: Annotated[int, Field(ge=1)] = 1
) -> str:
    """Returns a text several times.

    Nothing is put between.

    Args:
        text: The text.
        times: The number of times.
    """
    return text * times


class Remote:
    """Stands for the functions of tools that have one of their own."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, ToolCall, ToolContext]] = []

    def run(self, tool: Tool, call: ToolCall, context: ToolContext) -> ToolResult:
        self.ran.append((tool.runs_in, call, context))
        return ToolResult(call.id, '"from afar"')


class Runs:
    """Runs tools, and keeps what is told of their failures."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, BaseException]] = []
        self.remote = Remote()

    def runner(self, *tools: Tool) -> ThreadToolRunner:
        return ThreadToolRunner(
            tools, self.remote, lambda name, error: self.failures.append((name, error)), HeldClock()
        )

    def results(self, calls: list[ToolCall], *tools: Tool, seconds: float = 20) -> list[ToolResult]:
        return self.runner(*tools).run(calls, OWNER, seconds)

    def result(self, function: Callable[..., object], result_bytes: int = 400_000, seconds: float = 20) -> ToolResult:
        """The result of one call of the function, which takes no input."""
        (only,) = self.results(
            [ToolCall("toolu_1", function.__name__, "{}")], Tool(function, seconds, True, result_bytes)
        )
        return only


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that nothing sets before the test is over."""
    event = threading.Event()
    yield event
    event.set()


def call(name: str = "repeated", number: int = 1, **given: Any) -> ToolCall:
    return ToolCall(f"toolu_{number}", name, json.dumps(given))


def test_a_definition_is_strict_and_described_by_the_docstring(runs: Runs) -> None:
    definition = json.loads(runs.runner(repeated).definitions()["repeated"])
    assert (definition["name"], definition["strict"]) == ("repeated", True)
    assert definition["description"] == "Returns a text several times.\n\nNothing is put between."
    schema = definition["input_schema"]
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["text"], False)
    assert list(schema["properties"]) == ["text", "times"]
    assert schema["properties"]["times"]["description"].startswith("The number of times.")


def test_no_bound_of_a_value_is_in_a_strict_schema_which_knows_none(runs: Runs) -> None:
    properties = json.loads(runs.runner(repeated).definitions()["repeated"])["input_schema"]["properties"]
    assert not {"maxLength", "minimum"} & {keyword for each in properties.values() for keyword in each}


def test_a_call_is_run_with_its_checked_input(runs: Runs) -> None:
    assert runs.results([call(text="ab", times=2)], repeated) == [ToolResult("toolu_1", '"abab"')]


@pytest.mark.parametrize(
    "given", [{}, {"text": 5}, {"text": "a", "times": 0}, {"text": "a", "more": 1}, {"text": "a" * 21}, {"context": 1}]
)
def test_an_input_that_breaks_the_schema_never_reaches_the_tool(runs: Runs, given: dict[str, Any]) -> None:
    assert runs.results([call(**given)], repeated) == [
        ToolResult("toolu_1", json.dumps(tool_results.INPUT_INVALID), is_error=True)
    ]
    assert runs.failures == []


@pytest.mark.parametrize("text", ["[]", '"text"', "3", "{"])
def test_an_input_that_is_no_object_is_an_error(runs: Runs, text: str) -> None:
    (result,) = runs.results([ToolCall("toolu_1", "repeated", text)], repeated)
    assert (result.content, result.is_error) == (json.dumps(tool_results.INPUT_INVALID), True)


def test_a_tool_is_told_whose_call_it_is_and_under_which_id(runs: Runs) -> None:
    seen: list[ToolContext] = []
    runs.result(lambda_named("look", seen.append), seconds=7)
    (context,) = seen
    assert (context.call_id, context.owner, context.now_ms) == ("toolu_1", OWNER, START_MS)
    assert 0 < context.seconds_left() <= 7


def test_a_tool_of_an_unknown_name_is_not_available(runs: Runs) -> None:
    (result,) = runs.results([call("gone")], repeated)
    assert (result.content, result.is_error) == (json.dumps(tool_results.NOT_AVAILABLE), True)


@pytest.mark.parametrize("error", [RuntimeError("canary"), StoreUnavailable("canary"), SystemExit("canary")])
def test_what_a_tool_raises_is_told_to_the_log_and_not_to_the_model(runs: Runs, error: BaseException) -> None:
    def fail(context: ToolContext) -> str:
        raise error

    assert runs.result(fail) == ToolResult("toolu_1", json.dumps(tool_results.FAILED), is_error=True)
    assert runs.failures == [("fail", error)]


def test_a_tool_can_say_in_its_own_words_why_it_failed(runs: Runs) -> None:
    result = runs.result(lambda_named("say", lambda context: ToolFailure("There is none.")))
    assert result == ToolResult("toolu_1", '"There is none."', is_error=True)


def test_a_tool_that_hangs_has_an_error_at_its_bound(runs: Runs, never: threading.Event) -> None:
    result = runs.result(lambda_named("hang", lambda context: never.wait()), seconds=SOON)
    assert (result.content, result.is_error) == (json.dumps(tool_results.OVERTIME), True)


def test_a_tool_that_never_ends_does_not_hold_up_its_neighbours(runs: Runs, never: threading.Event) -> None:
    def spin(context: ToolContext) -> str:
        while not never.is_set():
            pass
        return ""

    spinning, fast = runs.results([call("spin", 1), call(number=2, text="b")], Tool(spin, SOON, True), repeated)
    assert (spinning.content, spinning.is_error) == (json.dumps(tool_results.OVERTIME), True)
    assert fast == ToolResult("toolu_2", '"b"')


def test_no_tool_is_waited_for_longer_than_the_turn_has(runs: Runs, never: threading.Event) -> None:
    hang = Tool(lambda_named("hang", lambda context: never.wait()), 1000, True)
    (result,) = runs.results([call("hang")], hang, seconds=SOON)
    assert result.is_error


def test_a_call_that_has_no_time_left_is_not_begun(runs: Runs) -> None:
    ran: list[object] = []
    (result,) = runs.results([call("note")], Tool(lambda_named("note", ran.append), 5, True), seconds=0)
    assert (result.content, result.is_error, ran) == (json.dumps(tool_results.NOT_BEGUN), True, [])


def test_after_too_many_threads_that_did_not_end_no_further_is_begun(runs: Runs, never: threading.Event) -> None:
    runner = runs.runner(Tool(lambda_named("hang", lambda context: never.wait()), SOON, True), repeated)
    runner.run([call("hang", number) for number in range(MOST_LEFT_BEHIND)], OWNER, 20)
    (refused,) = runner.run([call(text="a")], OWNER, 20)
    assert (refused.content, refused.is_error) == (json.dumps(tool_results.NOT_AVAILABLE), True)
    never.set()
    for thread in runner._left_behind:
        thread.join()
    assert runner.run([call(text="a")], OWNER, 20) == [ToolResult("toolu_1", '"a"')]


def test_calls_run_side_by_side_and_their_results_are_in_order(runs: Runs) -> None:
    met = threading.Barrier(AT_ONCE, timeout=10)  # each waits until all have come

    def meet(context: ToolContext) -> str:
        met.wait()
        return context.call_id

    results = runs.results([call("meet", number) for number in range(AT_ONCE)], Tool(meet, 10, True))
    assert [json.loads(each.content) for each in results] == [f"toolu_{number}" for number in range(AT_ONCE)]


def test_more_calls_than_run_at_once_are_all_run(runs: Runs) -> None:
    calls = [call(number=number, text=str(number)) for number in range(3 * AT_ONCE)]
    assert [json.loads(each.content) for each in runs.results(calls, repeated)] == [
        str(number) for number in range(3 * AT_ONCE)
    ]


def test_ten_megabytes_are_an_error_that_says_so(runs: Runs) -> None:
    result = runs.result(lambda_named("large", lambda context: "x" * 10_000_000))
    assert (result.content, result.is_error) == (json.dumps(tool_results.TOO_LARGE), True)


def test_a_result_is_measured_in_bytes_of_json(runs: Runs) -> None:
    assert not runs.result(lambda_named("fits", lambda context: "é" * 4), result_bytes=10).is_error
    assert runs.result(lambda_named("large", lambda context: "é" * 5), result_bytes=10).is_error


@pytest.mark.parametrize(
    ("returned", "content"),
    [
        ("text", '"text"'),
        ({"n": 1, "é": None}, '"{\\"n\\":1,\\"é\\":null}"'),
        ([1, 2], '"[1,2]"'),
        (True, '"true"'),
        (None, json.dumps(tool_results.EMPTY)),
        (" \n", json.dumps(tool_results.EMPTY)),
        (ContentBlocks([{"type": "text", "text": "a"}]), '[{"type":"text","text":"a"}]'),
        (ContentBlocks([{"type": "text", "text": " "}]), json.dumps(tool_results.EMPTY)),
        (ContentBlocks([]), json.dumps(tool_results.EMPTY)),
        ("half \ud800 and \x00 and \x1b", '"half \ufffd and \ufffd and \\u001b"'),
        (ContentBlocks([{"type": "text", "text": "\udfff"}]), '[{"type":"text","text":"\ufffd"}]'),
        ({"half": "\ud800"}, '"{\\"half\\":\\"\ufffd\\"}"'),
    ],
)
def test_a_result_is_text_json_or_blocks_that_the_api_takes(runs: Runs, returned: object, content: str) -> None:
    result = runs.result(lambda_named("give", lambda context: returned))
    assert (result.content, result.is_error) == (content, False)
    result.content.encode()


@pytest.mark.parametrize("returned", [object(), {1, 2}, ContentBlocks([{"type": "tool_use"}]), ContentBlocks([{}])])
def test_a_result_of_another_kind_is_a_failure_of_the_tool(runs: Runs, returned: object) -> None:
    assert runs.result(lambda_named("give", lambda context: returned)).content == json.dumps(tool_results.FAILED)
    assert [name for name, _ in runs.failures] == ["give"]


def test_a_tool_with_a_function_of_its_own_runs_there_once_its_input_is_checked(runs: Runs) -> None:
    apart = Tool(repeated.function, 5, True, runs_in="elsewhere")
    results = runs.results([call(text="a"), call(number=2)], apart)
    assert results == [
        ToolResult("toolu_1", '"from afar"'),
        ToolResult("toolu_2", json.dumps(tool_results.INPUT_INVALID), is_error=True),
    ]
    assert [(where, asked.id, context.owner) for where, asked, context in runs.remote.ran] == [
        ("elsewhere", "toolu_1", OWNER)
    ]


def lambda_named(name: str, function: Callable[[ToolContext], object]) -> Callable[[ToolContext], object]:
    """A tool's function of this name."""

    def named(context: ToolContext) -> object:
        return function(context)

    named.__name__ = name
    return named
