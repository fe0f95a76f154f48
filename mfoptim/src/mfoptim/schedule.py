"""Learning rates that change: objects called with the number of steps done, from 0.

Any function of the step is a schedule; these are the usual ones.
"""

from __future__ import annotations

from math import cos, pi

import attrs

from mfcore import Schedule
from mfoptim.hyperparameter import count_from, not_negative, plain_number, positive, rate


@attrs.frozen
class ExponentialDecay:
    """``start * factor ** (step / every)``: smooth, by ``factor`` in each ``every`` steps.

    Parameters
    ----------
    start : float
        The first rate.
    factor : float
        What the rate is multiplied with; above 0.
    every : int
        Number of steps in which that happens.

    Examples
    --------
    >>> decay = ExponentialDecay(0.1, factor=0.25, every=100)
    >>> decay(0), decay(50), decay(100)
    (0.1, 0.05, 0.025)
    """

    start: float = attrs.field(converter=plain_number, validator=not_negative)
    factor: float = attrs.field(converter=plain_number, validator=positive)
    every: int = attrs.field(converter=plain_number, validator=count_from(1))

    def __call__(self, step: int) -> float:
        """Return the rate after ``step`` steps."""
        return float(self.start * self.factor ** (step / self.every))


@attrs.frozen
class StepDecay:
    """``start * factor ** (step // every)``: in stairs, one each ``every`` steps.

    Parameters
    ----------
    start : float
        The first rate.
    factor : float
        What the rate is multiplied with at each stair; above 0.
    every : int
        Number of steps on a stair.

    Examples
    --------
    >>> decay = StepDecay(1.0, factor=0.5, every=10)
    >>> decay(9), decay(10), decay(20)
    (1.0, 0.5, 0.25)
    """

    start: float = attrs.field(converter=plain_number, validator=not_negative)
    factor: float = attrs.field(converter=plain_number, validator=positive)
    every: int = attrs.field(converter=plain_number, validator=count_from(1))

    def __call__(self, step: int) -> float:
        """Return the rate after ``step`` steps."""
        return float(self.start * self.factor ** (step // self.every))


@attrs.frozen
class CosineDecay:
    """Half a cosine from ``start`` down to ``end``, which then stays.

    ``end + (start - end) * (1 + cos(pi * step / steps)) / 2``: Loshchilov and Hutter
    (2017, "SGDR"), equation 5, without restarts.

    Parameters
    ----------
    start : float
        The first rate.
    steps : int
        Number of steps until ``end`` is reached.
    end : float, optional
        The last rate.

    Examples
    --------
    >>> decay = CosineDecay(1.0, steps=100)
    >>> decay(0), round(decay(50), 12), decay(100), decay(1000)
    (1.0, 0.5, 0.0, 0.0)
    """

    start: float = attrs.field(converter=plain_number, validator=not_negative)
    steps: int = attrs.field(converter=plain_number, validator=count_from(1))
    end: float = attrs.field(default=0.0, converter=plain_number, validator=not_negative)

    def __call__(self, step: int) -> float:
        """Return the rate after ``step`` steps."""
        done = min(step / self.steps, 1.0)
        return float(self.end + (self.start - self.end) * (1 + cos(pi * done)) / 2)


@attrs.frozen
class Warmup:
    """Rise in a straight line for some steps, then follow a rate or another schedule.

    The rates are ``1/steps, 2/steps, ...`` of the first rate of ``then``, so that none is
    zero (Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2). A schedule begins
    at its own step 0 when the rise is over.

    Parameters
    ----------
    then : float or schedule
        What follows.
    steps : int
        Length of the rise.

    Examples
    --------
    >>> rate = Warmup(0.5, steps=5)
    >>> rate(0), rate(4), rate(1000)
    (0.1, 0.5, 0.5)
    """

    then: float | Schedule = attrs.field(converter=plain_number, validator=rate)
    steps: int = attrs.field(converter=plain_number, validator=count_from(1))

    def __call__(self, step: int) -> float:
        """Return the rate after ``step`` steps."""
        share = min((step + 1) / self.steps, 1.0)
        after = max(step - self.steps, 0)
        return float(share * (self.then(after) if callable(self.then) else self.then))
