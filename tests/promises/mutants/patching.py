"""Plants a mutant: the shipped code with one rule of the protocol taken out, for as long as a test runs."""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

_FLAGS = __future__.annotations.compiler_flag


@dataclass(frozen=True, slots=True)
class Edit:
    """In the source of the function at `where`, as in `turns:_Taking.take`, `old` is replaced by `new`."""

    where: str
    old: str
    new: str


@contextmanager
def planted(edits: Sequence[Edit]) -> Iterator[None]:
    """Whoever has imported the functions has them changed too. LookupError when the shipped code no longer has a text
    that was to be replaced: then the mutant needs a new one.
    """
    sources: dict[str, str] = {}
    for edit in edits:
        function = _function(edit.where)
        source = sources.get(edit.where) or textwrap.dedent(inspect.getsource(function))
        if edit.old not in source:
            raise LookupError(f"{edit.where} has no {edit.old!r}")
        sources[edit.where] = source.replace(edit.old, edit.new)
    before = [(_function(where), _function(where).__code__) for where in sources]
    try:
        for where, source in sources.items():
            function = _function(where)
            function.__code__ = _compiled(function, source)
        yield
    finally:
        for function, code in before:
            function.__code__ = code


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = importlib.import_module(f"turnlog.{module}")
    for name in path.split("."):
        found = found.__dict__[name]
    found = found.fget if isinstance(found, property) else inspect.unwrap(found)
    assert isinstance(found, FunctionType)
    return found


def _compiled(function: FunctionType, source: str) -> Any:
    names: dict[str, Any] = {}
    code = compile(source, f"<mutant of {function.__qualname__}>", "exec", flags=_FLAGS, dont_inherit=True)
    exec(code, function.__globals__, names)  # noqa: S102 (the source is the shipped one with one edit of ours)
    made = names[function.__name__]
    made = made.fget if isinstance(made, property) else inspect.unwrap(made)
    assert isinstance(made, FunctionType)
    return made.__code__
