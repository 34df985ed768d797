"""Patches the shipped code with a mutant: one rule of the protocol is taken out, for as long as a test runs."""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from tests.promises.mutants.code_patterns import Code, Pattern

Change = str | Callable[[Any], ast.AST | None]
"""Source text, in which THIS stands for the code that is replaced; or a function from the old node to the new one."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces, in the function, the code that the pattern finds."""

    function: object
    pattern: Pattern
    change: Change


def unconditional(call: ast.Call) -> ast.Call:
    """Drops the condition of a write, which follows the item: `put(item, MINE, mine)` becomes `put(item)`."""
    return ast.Call(call.func, call.args[:1], [])


def dropped(node: ast.AST) -> None:
    """Leaves out an argument."""


def otherwise(choice: ast.IfExp) -> ast.expr:
    """Takes the second branch of `a if b else c`."""
    return choice.orelse


def unheeded(error: type[Exception]) -> Change:
    """Goes on after a statement that raised the error."""

    def changed(statement: ast.stmt) -> ast.AST:
        handler = ast.ExceptHandler(ast.Name(error.__name__, ast.Load()), None, [ast.Pass()])
        return ast.Try([statement], [handler], [], [])

    return changed


@contextmanager
def patched(edits: Sequence[Edit]) -> Iterator[None]:
    """Changes the functions for everybody who has imported them, and restores them at the end.

    Raises LookupError when a function lacks the code that an edit replaces, when an edit changes nothing, or when its
    text uses a name that the function does not know: then the mutant must be brought up to date.
    """
    codes: dict[FunctionType, Code] = {}
    for edit in edits:
        function = _function(edit.function)
        code = codes.setdefault(function, _parsed(function))
        before = ast.dump(code.tree)
        _Replacement(code, edit).visit(code.tree)
        if ast.dump(code.tree) == before:
            raise LookupError(f"{function.__qualname__} stays as it is: {edit.pattern.text}")
    originals = {function: function.__code__ for function in codes}
    try:
        for function, code in codes.items():
            function.__code__ = _compiled(function, code.tree)
        yield
    finally:
        for function, original in originals.items():
            function.__code__ = original


class _Replacement(ast.NodeTransformer):
    def __init__(self, code: Code, edit: Edit) -> None:
        self._code = code
        self._targets = edit.pattern.nodes(code)
        self._change = edit.change

    def visit(self, node: ast.AST) -> Any:
        if not any(node is target for target in self._targets):
            return self.generic_visit(node)
        made = self._from_text(self._change, node) if isinstance(self._change, str) else self._change(node)
        for part in ast.walk(made) if made else ():
            ast.copy_location(part, node)  # so that a second edit sees the order of the source
        return made

    def _from_text(self, text: str, node: ast.AST) -> ast.AST:
        (statement,) = ast.parse(text).body
        made: ast.AST = statement.value if isinstance(statement, ast.Expr) else statement
        if unknown := [name for name in _free_names(made) - {"THIS"} if not self._code.knows(name)]:
            raise LookupError(f"{self._code.tree.name} does not know {', '.join(unknown)}")
        made = _This(node).visit(made)
        return ast.keyword(node.arg, made) if isinstance(node, ast.keyword) else made  # type: ignore[call-overload]


class _This(ast.NodeTransformer):
    def __init__(self, replaced: ast.AST) -> None:
        self._replaced = replaced

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self._replaced) if node.id == "THIS" else node


def _free_names(made: ast.AST) -> set[str]:
    names = [node for node in ast.walk(made) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {node.id for node in names} - bound


def _function(symbol: object) -> FunctionType:
    found = inspect.unwrap(symbol.fget if isinstance(symbol, property) else symbol)  # type: ignore[arg-type]
    assert isinstance(found, FunctionType)
    return found


def _parsed(function: FunctionType) -> Code:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    return Code(tree, function)


def _compiled(function: FunctionType, tree: ast.FunctionDef) -> CodeType:
    tree.decorator_list = []
    module = ast.fix_missing_locations(ast.Module([tree], []))
    source = compile(
        module, f"<mutant of {function.__qualname__}>", "exec", __future__.annotations.compiler_flag, dont_inherit=True
    )
    names: dict[str, Any] = {}
    exec(source, function.__globals__, names)  # noqa: S102 (the shipped code with an edit of ours)
    made: FunctionType = names[function.__name__]
    return made.__code__
