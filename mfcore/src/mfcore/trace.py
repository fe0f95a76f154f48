"""Tracing: plugins that listen to a ``with`` block, a session or a training."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mfcore.errors import FilterError
from mfcore.filters import PHASES, Filter, Nodes, Operations, Phases, Steps
from mfcore.plugins import Observer, active_observers, close_all
from mfcore.registry import current

FILTERS = ("nodes", "operations", "phases", "steps")
"""The options that every tracer has."""


@contextmanager
def tracing(
    tracer: str | object,
    *,
    nodes: Nodes | None = None,
    operations: Operations | None = None,
    phases: Phases = PHASES,
    steps: Steps | None = None,
    **options: Any,
) -> Iterator[Any]:
    """Let a tracer listen to all sorts, runs and training steps of a ``with`` block.

    Blocks nest: every tracer hears everything. Other threads are not affected.

    Parameters
    ----------
    tracer : str or object
        A tracer's name, as a pack provides it (``"console"``), perhaps with options
        (``"record:path=run.jsonl,every=10"``), or any object with methods marked
        ``@mfcore.hookimpl``.
    nodes : str, Node or iterable of these, optional
        Hear of these nodes only: names, patterns such as ``"linear_*"``, or nodes.
    operations : str, class or iterable of these, optional
        Hear of nodes of these classes only: ``"Linear"``, ``"mfops_nn.Linear"``, a pattern of
        such names, or a class.
    phases : str or iterable of str, optional
        Hear of these phases only: ``"sort"``, ``"forward"``, ``"backward"``, ``"training"``.
    steps : int or container of int, optional
        Hear of these training steps only, by their numbers, which each session counts from
        1; a single number stands for the first so many. Other steps, and runs outside of
        steps, run unobserved and at full speed. Sorts and epochs are heard.
    **options
        Passed to the tracer's class where a name is given.

    Yields
    ------
    object
        The tracer.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides the tracer.
    FilterError
        If a filter makes no sense.
    """
    given: dict[str, Any] = {"nodes": nodes, "operations": operations, "steps": steps}
    filters = {name: value for name, value in given.items() if value is not None}
    if phases is not PHASES:
        filters["phases"] = phases
    observer = observing(tracer, {**options, **filters})
    token = active_observers.set((*active_observers.get(), observer))
    try:
        yield observer.plugin
    finally:
        active_observers.reset(token)
        if isinstance(tracer, str):
            observer.close()


def observing(tracer: str | object, options: dict[str, Any] | None = None) -> Observer:
    """Return what listens for a tracer, made with options and filters if it is a name.

    Raises
    ------
    UnknownNameError
        If no enabled pack provides a tracer of that name.
    FilterError
        If a filter makes no sense.
    TypeError
        If options are given with an object, or the tracer has no such option.
    """
    options = {} if options is None else options
    if not isinstance(tracer, str):
        filters = {name: options.pop(name) for name in FILTERS if name in options}
        if options:
            raise TypeError("options belong to a tracer given by name")
        name = type(tracer).__qualname__
        return Observer(tracer, repr(name), Filter(**filters) if filters else None)
    name, written = parse_tracer(tracer)
    options = {**written, **options}
    cls = current().tracer(name)
    # A tracer that has a filter of that name itself knows best what to do with it.
    own = inspect.signature(cls).parameters
    filters = {key: options.pop(key) for key in FILTERS if key in options and key not in own}
    heard = Filter(**filters) if filters else None
    return Observer(cls(**options), repr(name), heard)


@contextmanager
def traced(tracers: Iterable[str | object]) -> Iterator[tuple[Any, ...]]:
    """Let several tracers listen to a ``with`` block: names, perhaps with options, or objects.

    Yields
    ------
    tuple of object
        The tracers.
    """
    listening, made = observing_all(tracers)
    token = active_observers.set((*active_observers.get(), *listening))
    try:
        yield tuple(observer.plugin for observer in listening)
    finally:
        active_observers.reset(token)
        close_all(made)


def parse_tracer(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``"record:path=run.jsonl,every=10"`` into the name and the options.

    A value is a Python literal, ``range(1, 4)``, or else text.

    Raises
    ------
    FilterError
        If an option is not of the form ``name=value``.

    Examples
    --------
    >>> parse_tracer("console:nodes=['linear_*', 'b'],steps=range(1, 4)")
    ('console', {'nodes': ['linear_*', 'b'], 'steps': range(1, 4)})
    """
    name, colon, rest = text.partition(":")
    options = {}
    for part in _split(rest) if colon else ():
        option, equals, value = part.partition("=")
        option = option.strip().replace("-", "_")
        if not equals or not option.isidentifier():
            raise FilterError(
                f"{part!r} in {text!r} is not of the form option=value: write tracers with "
                f"options as 'record:path=run.jsonl,every=10'"
            )
        options[option] = _value(value.strip())
    return name.strip(), options


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def _value(text: str) -> Any:
    if match := re.fullmatch(r"range\(\s*(-?\d+(?:\s*,\s*-?\d+){0,2})\s*,?\s*\)", text):
        numbers = [int(number) for number in match[1].split(",")]
        if len(numbers) < 3 or numbers[2]:
            return range(*numbers)
    try:
        # As on command lines elsewhere, `true` is meant where `True` is.
        return ast.literal_eval(text.capitalize() if text in ("true", "false", "none") else text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def observing_all(
    tracers: Iterable[str | object],
) -> tuple[tuple[Observer, ...], tuple[Observer, ...]]:
    """Return what listens for tracers, and of it what was made here and is to be closed."""
    if isinstance(tracers, str) or not isinstance(tracers, Iterable):
        tracers = (tracers,)
    listening: list[Observer] = []
    made: list[Observer] = []
    try:
        for tracer in tracers:
            listening.append(observing(tracer))
            if isinstance(tracer, str):
                made.append(listening[-1])
    except BaseException:
        close_all(made)
        raise
    return tuple(listening), tuple(made)
