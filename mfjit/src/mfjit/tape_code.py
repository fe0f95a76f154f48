"""The interpreter of tapes: one loop over runs of instructions, compiled by numba.

It holds a loop for each instruction that a graph needs, and for the common ones in any case, so
that most graphs share one interpreter, which the disk cache keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mfjit import cache
from mfjit.ir import Value
from mfjit.numba_elementwise import Literals, expression
from mfjit.numba_engine import OPTIONS
from mfjit.tape_layout import ACCUMULATE
from mfjit.tape_templates import COPY, Code, Dtype

COMMON: tuple[Code, ...] = (
    ACCUMULATE,
    ("add", "ff", "f"),
    ("multiply", "ff", "f"),
    ("subtract", "ff", "f"),
    ("negative", "f", "f"),
    ("divide", "ff", "f"),
    ("square", "f", "f"),
    (COPY, "f", "f"),
)
"""What every interpreter can do, the most frequent first."""


_compiled: dict[Dtype, list[tuple[list[Code], Any]]] = {}


def interpreter(needed: Iterable[Code], dtype: Dtype) -> tuple[list[Code], Any]:
    """Return an interpreter: its instructions by number, and its compiled function.

    One that has been compiled for another graph does, where it knows what is needed.

    Parameters
    ----------
    needed : iterable of Code
        Instructions that it must know.
    dtype : dtype
        Of all numbers.

    Returns
    -------
    codes : list of Code
        What it knows.
    run : callable
        ``run(numbers, slots, runs, count)``: three addresses, and how many runs there are.

    Raises
    ------
    CannotCompile
        If there is no code for an instruction.
    """
    wanted = set(needed) | set(COMMON)
    for codes, run in _compiled.get(dtype, []):
        if wanted.issubset(codes):
            return codes, run
    codes = [*COMMON, *sorted(wanted - set(COMMON))]
    run = cache.load(source(codes, dtype), OPTIONS)
    _compiled.setdefault(dtype, []).append((codes, run))
    return codes, run


def source(codes: Sequence[Code], dtype: Dtype) -> str:
    """Return the source of an interpreter."""
    literals, functions = Literals(), set[str]()
    body: list[str] = []
    for number, code in enumerate(codes):
        op, kinds, result = code
        names = ["x", "y", "z"][: len(kinds)]
        body.append(f"        {'elif' if number else 'if'} code == {number}:  # {op}")
        body.append("            for i in range(count):")
        if code == ACCUMULATE:
            body += [
                "                target = slots[at + 2 * i]",
                "                v[target] = v[target] + v[slots[at + 2 * i + 1]]",
            ]
        else:
            for k, (name, kind) in enumerate(zip(names, kinds, strict=True)):
                place = f"v[slots[at + {len(kinds)} * i + {k}]]"
                body.append(f"                {name} = {place}{' != 0' if kind == 'b' else ''}")
            text = (
                "x" if op == COPY else expression(_value(code, dtype), names, literals, functions)
            )
            if result == "b":
                text = f"one if {text} else zero"
            body.append(f"                v[result + i] = {text}")
        body.append(f"            at += {len(kinds)} * count")
    name = dtype.name
    head = [
        f"# the interpreter of graphs of scalars, {name}",
        "import math",
        "import numpy as np",
        "from numba import types",
        "if COMPILING:  # machine code from the cache needs none of it",
        "    from mfjit.numba_runtime import *",
        *[f"    from mfjit.elementary import {function}" for function in sorted(functions)],
        *[f"{key} = {number}" for key, number in literals.numbers],
        f"one, zero = np.{name}(1), np.{name}(0)",
        "",
        f"@compiled(types.void({', '.join(['types.int64'] * 4)}), parallel=False)",
        "def run(numbers, slots_at, runs_at, run_count):",
        f"    v = at_{name}(numbers)",
        "    slots = at_uint32(slots_at)",
        "    runs = at_int32(runs_at)",
        "    at = 0",
        "    for r in range(run_count):",
        "        code = runs[3 * r]",
        "        count = runs[3 * r + 1]",
        "        result = runs[3 * r + 2]",
    ]
    return "\n".join([*head, *body, ""])


def _value(code: Code, dtype: Dtype) -> Value:
    """Return an instruction of the lowered form that stands for a code."""
    op, kinds, result = code
    dtypes = [np.dtype(np.bool_) if kind == "b" else dtype for kind in (*kinds, result)]
    args = tuple([Value("input", (), {}, (), kind) for kind in dtypes[:-1]])
    return Value(op, args, {}, (), dtypes[-1], "a scalar")
