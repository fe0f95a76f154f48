"""Strategies for hypothesis: samples of an operation, and arrays of what an input may hold.

They need hypothesis, ``pip install "mfcore[testing]"``; a pack itself does not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from mfcore.domain import Values, domains_of
from mfcore.node import Array, Node
from mfcore.testing.drawn_samples import Choices, Redraw, draw_array, draw_sample
from mfcore.testing.outcome import CheckError
from mfcore.testing.samples import Sample, samples_of
from mfcore.testing.search import NOTHING_FITS

_FAR = 3 << 200
"""Where choices begin: hypothesis mixes in numbers that occur in the modules that happen to be
loaded, and there are none so far from zero. So the same samples are drawn whatever is loaded."""


class _Drawn:
    """The choices of hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def below(self, count: int) -> int:
        """Return a number from 0 to ``count - 1``."""
        return self._draw(_numbers(count)) - _FAR if count > 1 else 0

    def bytes(self, count: int) -> bytes:
        """Return so many bytes."""
        return self._draw(_bytes(count)) if count else b""


@cache
def _numbers(count: int) -> st.SearchStrategy[int]:
    return st.integers(_FAR, _FAR + count - 1)


@cache
def _bytes(count: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=count, max_size=count)


@st.composite
def chosen(draw: st.DrawFn, function: Callable[[Choices], Any]) -> Any:
    """Return whatever a function of choices returns."""
    try:
        return function(_Drawn(draw))
    except Redraw:
        reject()


def samples(operation: type[Node]) -> st.SearchStrategy[Sample]:
    """Return samples of an operation: of its domain, or those it gives, if it declares none.

    Examples
    --------
    >>> import mfcore as mf
    >>> import numpy as np
    >>> from hypothesis import given
    >>> from mfcore.domain import Domain, positive
    >>> @mf.operation
    ... class Root(mf.Node):
    ...     x: mf.Node
    ...     domain = Domain(x=positive())
    ...
    ...     @staticmethod
    ...     def forward(x):
    ...         return np.sqrt(x)
    >>> @given(samples(Root))
    ... def test_it_is_the_inverse_of_the_square(sample):
    ...     (x,) = sample.inputs
    ...     np.testing.assert_allclose(Root.forward(x) ** 2, x)
    >>> test_it_is_the_inverse_of_the_square()
    """
    if not domains_of(operation):
        return st.sampled_from(samples_of(operation))
    return chosen(lambda choices: draw_sample(operation, choices))


def arrays(values: Values, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Return float64, integer or bool arrays of a shape that hold what an input may.

    Parameters
    ----------
    values : Values
        Such as ``positive()`` or ``integers(0, 5)``, of ``mfcore.domain``; its own shape and
        bounds that are names are not for arrays alone.
    shape : tuple of int
        Of the arrays.
    """
    return chosen(lambda choices: draw_array(values, shape, choices))


def try_each(function: Callable[[Choices], Any], test: Callable[[Any], None], count: int) -> None:
    """Run a test on examples, the same each time; raise what it raises for the smallest."""

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(chosen(function))
    def each(example: Any) -> None:
        test(example)

    try:
        each()
    except Unsatisfiable:
        raise CheckError(NOTHING_FITS) from None
