"""The derivative of an operation in symbols, as its ``backward`` has it in Python."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs
import numpy as np

from mfcore.node import Node
from mfcore.operation import spec_of

_LONG = 160  # characters of a formula that are shown


@attrs.frozen
class Derivative:
    """What an operation sends to one of its inputs, in symbols.

    Attributes
    ----------
    formula : str
        The expression that ``backward`` returns for it, such as ``X.T.dot(grad)``; several,
        with ``or`` between them, where it is not known which; empty where there is no source.
    where : tuple of str
        How the names in it are computed, such as ``scale = grad / x.size``.
    """

    formula: str = ""
    where: tuple[str, ...] = ()


def meaning(operation: type[Node]) -> str:
    """Return the first paragraph of an operation's docstring, on one line."""
    text = inspect.cleandoc(vars(operation).get("__doc__") or "")
    return _short(" ".join(text.split("\n\n")[0].split()).replace("``", ""))


def derivative(operation: type[Node], k: int, given: Mapping[str, Any] | None = None) -> Derivative:
    """Return what an operation sends to its input ``k``, in symbols.

    Parameters
    ----------
    operation : operation class
        One with a ``backward``.
    k : int
        The place of the input.
    given : mapping, optional
        What ``backward`` may ask for, by name. With it, of several formulas the one is
        returned that holds for these values.
    """
    function = spec_of(operation).backward
    source = _source(function)
    if function is None or source is None:
        return Derivative()
    if given is not None:
        try:
            with np.errstate(all="ignore"):
                return _Reading(function, given).derivative(source.body, k)
        except Exception:  # it needs what is not given: all that it may return is shown
            pass
    return _all_of(function, k)


@lru_cache(maxsize=1024)
def _all_of(function: Any, k: int) -> Derivative:
    """Return all formulas that a ``backward`` may return for the input ``k``."""
    source = _source(function)
    assert source is not None
    returned = [node.value for node in _statements(source.body) if isinstance(node, ast.Return)]
    assigned = [node for node in _statements(source.body) if isinstance(node, _ASSIGNMENTS)]
    parts = [part for value in returned for part in _parts(value, k, _both)]
    return _derivative(parts, assigned)


_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)

_Choose = Callable[[ast.IfExp], Sequence[ast.expr]]
"""Which of the two sides of a conditional expression to read."""


def _both(conditional: ast.IfExp) -> Sequence[ast.expr]:
    return conditional.body, conditional.orelse


class _Reading:
    """Reads a ``backward`` statement by statement, knowing what it is given."""

    def __init__(self, function: Any, given: Mapping[str, Any]) -> None:
        free = inspect.getclosurevars(function).nonlocals
        self._names = {**function.__globals__, **free, **given}
        self._assigned: list[ast.stmt] = []

    def derivative(self, body: Sequence[ast.stmt], k: int) -> Derivative:
        returned = self._run(body)
        if returned is None:
            return Derivative()
        return _derivative(list(_parts(returned.value, k, self._side)), self._assigned)

    def _run(self, body: Sequence[ast.stmt]) -> ast.Return | None:
        """Execute statements; return the one that returns, if it is reached."""
        for statement in body:
            if isinstance(statement, ast.Return):
                return statement
            if isinstance(statement, ast.If):
                taken = statement.body if self._value(statement.test) else statement.orelse
                if (returned := self._run(taken)) is not None:
                    return returned
                continue
            inner = list(_statements([statement]))
            if any(isinstance(node, ast.Return) for node in inner):
                raise NotImplementedError("a return in a loop")
            self._assigned += [node for node in inner if isinstance(node, _ASSIGNMENTS)]
            module = ast.Module([statement], [])
            exec(compile(module, "<backward>", "exec"), self._names)
        return None

    def _value(self, expression: ast.expr) -> Any:
        code = compile(ast.Expression(expression), "<backward>", "eval")
        return eval(code, self._names)

    def _side(self, conditional: ast.IfExp) -> Sequence[ast.expr]:
        return (conditional.body if self._value(conditional.test) else conditional.orelse,)


@lru_cache(maxsize=1024)
def _source(function: Any) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    return next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield statements and those within them, in the order of the text."""
    waiting: list[ast.stmt] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        yield node
        inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        waiting.extend(reversed(inner))


def _parts(returned: ast.expr | None, k: int, choose: _Choose) -> Iterator[ast.expr]:
    """Yield the expressions for the input ``k`` in what a ``backward`` returns."""
    if isinstance(returned, ast.IfExp):
        for side in choose(returned):
            yield from _parts(side, k, choose)
    elif isinstance(returned, ast.Tuple | ast.List):
        spread = [place for place, e in enumerate(returned.elts) if isinstance(e, ast.Starred)]
        if spread and spread[0] <= k:
            yield returned.elts[spread[0]].value  # type: ignore[attr-defined]
        elif k < len(returned.elts):
            yield from _alone(returned.elts[k], choose)
    elif isinstance(returned, ast.BinOp) and isinstance(returned.left, ast.Tuple):
        yield from _alone(returned.left.elts[0], choose)  # (grad,) * len(wanted)
    elif isinstance(returned, ast.Call) and len(returned.args) == 1 and _makes_tuple(returned):
        yield from _parts(returned.args[0], k, choose)
    elif isinstance(returned, ast.GeneratorExp | ast.ListComp):
        yield returned.elt
    elif not _is_none(returned):
        assert returned is not None
        yield returned


def _makes_tuple(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in ("tuple", "list")


def _alone(part: ast.expr, choose: _Choose) -> Iterator[ast.expr]:
    """Yield one side of a conditional expression, or all of it if both sides matter."""
    if isinstance(part, ast.IfExp):
        sides = [found for side in choose(part) for found in _alone(side, choose)]
        yield from sides if len(sides) < 2 else [part]
    elif not _is_none(part):
        yield part


def _is_none(part: ast.expr | None) -> bool:
    return part is None or (isinstance(part, ast.Constant) and part.value is None)


def _derivative(parts: Sequence[ast.expr], assigned: Sequence[ast.stmt]) -> Derivative:
    """Return formulas with those assignments that they depend on."""
    formulas = dict.fromkeys(ast.unparse(part) for part in parts)
    wanted = {name for part in parts for name in _names(part)}
    kept: list[str] = []
    for statement in reversed(assigned):
        assert isinstance(statement, _ASSIGNMENTS)
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if statement.value is None or wanted.isdisjoint(*map(_names, targets)):
            continue
        wanted |= _names(statement.value)
        text = ast.unparse(statement)
        if isinstance(statement, ast.AnnAssign):
            text = f"{ast.unparse(statement.target)} = {ast.unparse(statement.value)}"
        kept.append(_short(text))
    return Derivative(_short(" or ".join(formulas)), tuple(dict.fromkeys(kept[::-1])))


def _names(expression: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
