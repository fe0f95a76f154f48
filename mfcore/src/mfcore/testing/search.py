"""Searching for samples: in the domain that an operation declares, or among anything."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from mfcore.node import Node
from mfcore.operation import spec_of
from mfcore.testing.drawn_samples import Choices, Redraw, Seeded, draw_sample
from mfcore.testing.outcome import WITHOUT_HYPOTHESIS, CheckError
from mfcore.testing.samples import (
    ENOUGH,
    KINDS,
    WIDE_ATTEMPTS,
    Sample,
    refusal,
    settings_of,
)

DRAWN = 15
"""So many are drawn from a domain, to keep those of most different shapes."""


def has_hypothesis() -> bool:
    """Whether hypothesis is installed."""
    return find_spec("hypothesis") is not None


def drawn_by() -> str:
    """Return who draws, in words for a report."""
    return "by hypothesis" if has_hypothesis() else WITHOUT_HYPOTHESIS


def try_each(function: Callable[[Choices], Any], test: Callable[[Any], None], count: int) -> None:
    """Run a test on examples, the same each time.

    Parameters
    ----------
    function : callable
        Returns an example, given who chooses.
    test : callable
        Takes an example. Of those for which it raises, hypothesis finds the smallest.
    count : int
        The number of examples.

    Raises
    ------
    CheckError
        If nothing can be drawn; and whatever the test raises.
    """
    if has_hypothesis():
        from mfcore.testing import strategies

        strategies.try_each(function, test, count)
        return
    choices, tried = Seeded(), 0
    for _ in range(10 * count):
        try:
            example = function(choices)
        except Redraw:
            continue
        test(example)
        tried += 1
        if tried == count:
            return
    if not tried:
        raise CheckError(NOTHING_FITS)


NOTHING_FITS = "its domain leaves nothing that fits together"


def from_domain(operation: type[Node]) -> tuple[list[Sample], str]:
    """Return samples of the domain that an operation declares, of different shapes.

    Raises
    ------
    CheckError
        If it refuses all of them, or there are none.
    """
    drawn: list[Sample] = []
    try_each(lambda choices: draw_sample(operation, choices), drawn.append, DRAWN)
    accepted = [sample for sample in drawn if not refusal(operation, sample)]
    if not accepted:
        raise CheckError(f"it refuses what its domain allows: {refusal(operation, drawn[0])}")
    return _most_different(accepted), f"drawn from its domain {drawn_by()}"


def _most_different(samples: list[Sample]) -> list[Sample]:
    """Return those of different shapes and hyperparameters, of each kind the one that says most."""
    best: dict[str, Sample] = {}
    for sample in samples:
        kind = str(sample)
        if kind not in best or _variety(sample) > _variety(best[kind]):
            best[kind] = sample
    ranked = sorted(best.values(), key=_variety, reverse=True)
    # Large ones tell most, and the smallest one is a case of its own.
    return ranked if len(ranked) <= ENOUGH else [*ranked[: ENOUGH - 1], ranked[-1]]


def _variety(sample: Sample) -> int:
    return sum(np.unique(x).size for x in sample.inputs)


def from_anything(operation: type[Node]) -> tuple[list[Sample], str]:
    """Return samples of whatever shapes and numbers an operation accepts; perhaps none."""
    settings = settings_of(operation)
    if not settings:
        return [], ""
    found: dict[str, Sample] = {}

    def test(sample: Sample) -> None:
        if len(found) < ENOUGH and str(sample) not in found and not refusal(operation, sample):
            found[str(sample)] = sample

    try_each(lambda choices: _anything(operation, settings, choices), test, WIDE_ATTEMPTS)
    return list(found.values()), f"found among any shapes {drawn_by()}"


def _anything(operation: type[Node], settings: list[dict[str, Any]], choices: Choices) -> Sample:
    """Return any application: axes are often of sizes that occurred before, so that some fit."""
    spec = spec_of(operation)
    kinds = list(KINDS.values())
    sizes = [1 + choices.below(4)]
    inputs = []
    for _ in range(len(spec.inputs) + (choices.below(2) if spec.variadic else 0)):
        shape = []
        for _ in range(choices.below(5)):
            known = choices.below(len(sizes) + 2)
            if known >= len(sizes):
                sizes.append(1 + choices.below(6))
                known = -1
            shape.append(sizes[known])
        rng = np.random.default_rng(choices.below(1000))
        inputs.append(kinds[choices.below(len(kinds))](rng, tuple(shape)))
    return Sample(tuple(inputs), settings[choices.below(len(settings))])
