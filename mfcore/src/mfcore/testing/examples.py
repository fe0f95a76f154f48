"""Examples drawn from an operation's domain, for the checks that are quick; the smallest counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mfcore.domain import domains_of
from mfcore.testing.calls import call_forward
from mfcore.testing.derivatives import broadcasting, gradients
from mfcore.testing.drawn_samples import draw_sample
from mfcore.testing.functions import dtypes, gradient_form, linearity, result
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.purity import determinism
from mfcore.testing.samples import Sample
from mfcore.testing.search import drawn_by, has_hypothesis, try_each
from mfcore.testing.subject import Subject

EXAMPLES = 25

QUICK: dict[str, Callable[[Subject], int]] = {
    "result": result,
    "gradient form": gradient_form,
    "gradients": partial(gradients, directions=1),
    "linearity": linearity,
    "broadcasting": broadcasting,
    "dtypes": dtypes,
    "determinism": determinism,
}
"""The checks that examples are put to."""


def examples(subject: Subject) -> tuple[int, str]:
    """Checks that are quick hold on whatever the operation's domain allows."""
    if not domains_of(subject.operation):
        raise NotApplicable("it declares no domain to draw examples from")
    cases = 0

    def test(sample: Sample) -> None:
        nonlocal cases
        cases += _examine(subject, sample)

    try:
        try_each(lambda choices: draw_sample(subject.operation, choices), test, EXAMPLES)
    except CheckError as error:
        raise CheckError(str(error)) from None
    return cases, f"{EXAMPLES} examples, drawn {drawn_by()}"


def _told(sample: Sample) -> str:
    which = "the smallest example found" if has_hypothesis() else "the first of the examples"
    return f"{which}: {sample.values()}"


def _examine(subject: Subject, sample: Sample) -> int:
    """Put one example to the checks; return how many applied."""
    try:
        value = np.asarray(call_forward(subject.operation, sample).value)
    except Exception as error:
        raise CheckError(
            f"forward refuses what its domain allows: {type(error).__name__}: {error}; "
            f"{_told(sample)}"
        ) from error
    if value.dtype.kind == "f" and not np.all(np.isfinite(value)):
        raise CheckError(f"the result is not finite where its domain allows it; {_told(sample)}")
    cases = 0
    one = Subject(subject.operation, (sample,))
    for name, check in QUICK.items():
        if name in subject.expected:
            continue
        try:
            check(one)
        except NotApplicable:
            continue
        except Exception as error:
            kind = "" if isinstance(error, CheckError) else f"{type(error).__name__}: "
            raise CheckError(f"{name}: {kind}{error}; {_told(sample)}") from error
        cases += 1
    return cases
