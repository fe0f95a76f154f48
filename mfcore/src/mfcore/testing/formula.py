"""An optimizer's update against the formula that was published for it, transcribed apart."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import CodeType, FrameType
from typing import Any

import attrs
import numpy as np

from mfcore.node import Array
from mfcore.optimizer import OptimizerSpec, Updates, optimizer_spec
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.rule import Rule

STEPS = 6

_YEAR = re.compile(r"\b(1[6-9]|20)\d\d\b")


@attrs.frozen(eq=False)
class Formula:
    """A published formula, as an optimizer's class states it.

    Attributes
    ----------
    function : callable
        Given a parameter, the gradients of all steps and hyperparameters by name, it yields
        the parameter after each step.
    source : str
        Where it was published: the first paragraph of its docstring.
    """

    function: Callable[..., Any]
    source: str

    def parameters(self, start: Array, gradients: list[Array], made: Any) -> list[Array]:
        """Return the parameter after each step, in float64."""
        asked = [*inspect.signature(self.function).parameters][2:]
        given = {name: getattr(made, name) for name in asked}
        yielded = self.function(start.copy(), [g.copy() for g in gradients], **given)
        found = [np.asarray(value, dtype=np.float64) for value in yielded]
        if [x.shape for x in found] != [start.shape] * len(gradients):
            raise CheckError(
                f"formula must yield the parameter after each step: {len(gradients)} arrays of "
                f"shape {start.shape}, not {[x.shape for x in found]}"
            )
        return found


def formula_of(cls: type) -> Formula:
    """Return the formula that an optimizer's class states.

    Raises
    ------
    NotApplicable
        If it states none.
    CheckError
        If what it states can prove nothing: it names no source, or is ``update`` itself.
    """
    stated = inspect.getattr_static(cls, "formula", None)
    if stated is None:
        raise NotApplicable(
            "no published formula is stated: give it a static method formula(parameter, gradients, "
            "...) that yields the parameter after each step"
        )
    if isinstance(stated, str):
        function = _imported(stated)
    elif isinstance(stated, staticmethod):
        function = stated.__func__
    else:
        raise CheckError("formula must be a static method, or name a function: 'module:function'")
    spec = optimizer_spec(cls)
    asked = [*inspect.signature(function).parameters]
    if unknown := [name for name in asked[2:] if name not in spec.hyperparameters]:
        raise CheckError(
            f"formula asks for {unknown[0]!r}: after the parameter and the gradients it may ask "
            f"for hyperparameters only, {', '.join(spec.hyperparameters)}"
        )
    if len(asked) < 2:
        raise CheckError("formula must take the parameter and the gradients of all steps")
    source = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    if not _YEAR.search(source):
        raise CheckError(
            "formula must say in its docstring where it was published: who, which year, and where "
            "in it"
        )
    if _same_code(function, spec.update):
        raise CheckError("formula is update itself, which proves nothing: transcribe the paper")
    return Formula(function, source)


def _imported(reference: str) -> Callable[..., Any]:
    module, _, name = reference.partition(":")
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckError(f"formula {reference!r} cannot be imported: {error}") from error
    return function


def _same_code(one: Any, other: Any) -> bool:
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    # The same text compiles to the same instructions, whatever names and lines it has.
    instructions = [code.co_code for code in codes if code is not None]
    return len(instructions) == 2 and instructions[0] == instructions[1]


def formula(rule: Rule) -> tuple[int, str]:
    """Steps by ``update`` are those of the published formula, whatever the hyperparameters."""
    stated = formula_of(rule.cls)
    if any(callable(value) for value in attrs.asdict(rule.made, recurse=False).values()):
        raise NotApplicable(
            "a hyperparameter is a schedule, and a formula has numbers: give it a static method "
            "sample() that returns one with numbers"
        )
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4))
    # From large to so small that what keeps a division finite counts; and one without any.
    scales = np.geomspace(10, 1e-6, 12).reshape(3, 4)
    scales[2, 0] = 0.0
    gradients = [rng.normal(size=(3, 4)) * scales for _ in range(STEPS)]
    _refuse_shared_code(rule, stated, start, gradients)
    for made in rule.variants:
        expected = stated.parameters(start, gradients, made)
        updates, (parameter,), before = Updates(made, [start]), [start], start
        for number, (gradient, its) in enumerate(zip(gradients, expected, strict=True), 1):
            (parameter,) = updates.apply([parameter], [gradient])
            _compare(made, number, parameter, its, before)
            before = its
    return len(rule.variants) * STEPS, stated.source


def _compare(made: Any, number: int, mine: Array, its: Array, before: Array) -> None:
    """Compare what a step moved: where it moves little, parameters would hide how little."""
    room = 1e-9 * np.abs(its - before) + 1e-13 * np.maximum(1.0, np.abs(before))
    off = np.abs(mine - its) / room
    if np.all(off <= 1):
        return
    worst = np.unravel_index(int(np.argmax(np.nan_to_num(off, nan=np.inf))), mine.shape)
    place = tuple(int(i) for i in worst)
    raise CheckError(
        f"step {number} of {made!r} is not the formula's, most of all at parameter{list(place)}: "
        f"update goes from {before[place]:.10g} to {mine[place]:.10g}, the formula to "
        f"{its[place]:.10g}"
    )


def _refuse_shared_code(rule: Rule, stated: Formula, start: Array, gradients: list[Array]) -> None:
    """Refuse a formula that calls ``update``, or the pack's code that ``update`` calls too."""
    spec: OptimizerSpec = optimizer_spec(rule.cls)
    package = rule.cls.__module__.partition(".")[0]
    of_update = {f.__code__ for f in (spec.update, spec.init) if f is not None}
    of_formula: set[CodeType] = set()
    for made in rule.variants:
        updates = Updates(made, [start])
        of_update |= _called(package, partial(updates.apply, [start], gradients[:1]))
        of_formula |= _called(package, partial(stated.parameters, start, gradients[:1], made))
    if shared := sorted(code.co_name for code in of_update & of_formula):
        raise CheckError(
            f"formula calls {shared[0]} of the pack, and so does update: a mistake in it would "
            f"be in both; transcribe the paper"
        )


def _called(package: str, run: Callable[[], Any]) -> set[CodeType]:
    """Return the code of the package's functions that are called while something runs."""
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call" and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
            found.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return found
