"""Arithmetic of single numbers: one Python function of NumPy scalars in place of many ufunc calls.

An operator on two NumPy scalars costs a quarter of a ufunc's call on two arrays without axes,
and keeps their dtype and NumPy's warnings.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfjit.fuse import Group
from mfjit.ir import Value

_EXPRESSIONS = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "power": "{} ** {}",
    "negative": "-{}",
    "square": "{0} * {0}",
    "cast": "{}",
}


def is_scalar_arithmetic(group: Group) -> bool:
    """Whether a loop is several operators on single floating-point numbers."""
    return (
        group.kind == "loop"
        and group.shape == ()
        and len(group.values) > 1
        and all(
            value.op in _EXPRESSIONS
            and value.dtype.char in "fd"
            and (value.op == "cast" or value.args[0].dtype == value.dtype)
            for value in group.values
        )
    )


def scalar_function(group: Group) -> tuple[Any, list[Value], list[Value]]:
    """Return a function of arrays without axes that does what a group does.

    Returns
    -------
    function
        Of the arrays that it reads, and those that it writes.
    reads, writes : list of Value
        What those are.
    """
    reads = [value for value in group.reads if value.op != "literal"]
    names: dict[Value, str] = {value: f"x{i}" for i, value in enumerate(reads)}
    known: dict[str, Any] = {}
    for i, value in enumerate(value for value in group.reads if value.op == "literal"):
        names[value] = f"c{i}"
        known[f"c{i}"] = np.asarray(value.attributes["value"], value.dtype)[()]
    lines = [f"    {names[value]} = a{i}[()]" for i, value in enumerate(reads)]
    for i, value in enumerate(group.values):
        names[value] = f"y{i}"
        expression = _EXPRESSIONS[value.op].format(*[names[arg] for arg in value.args])
        if value.op == "cast":
            known[value.dtype.name] = value.dtype.type
            expression = f"{value.dtype.name}({expression})"
        lines.append(f"    y{i} = {expression}")
    lines += [f"    o{i}[()] = {names[value]}" for i, value in enumerate(group.outputs)]
    given = [f"a{i}" for i in range(len(reads))] + [f"o{i}" for i in range(len(group.outputs))]
    source = "\n".join([f"def scalars({', '.join(given)}):", *lines])
    exec(source, known)
    return known["scalars"], reads, group.outputs
