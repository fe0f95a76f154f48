"""Gradients by central differences, as an oracle that knows nothing of backpropagation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def assert_gradients(
    function: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    gradients: Sequence[Any],
    weights: np.ndarray,
    *,
    wrt: Sequence[int],
    step: float = 1e-6,
    tolerance: float = 2e-6,
) -> None:
    """Compare gradients of ``sum(weights * function(*inputs))`` with central differences.

    Each input is moved along random directions: a gradient that is wrong in any element
    disagrees with almost every direction.
    """
    rng = np.random.default_rng(0)
    for k in wrt:
        for _ in range(3):
            direction = rng.normal(size=np.shape(inputs[k]))
            moved = [list(inputs), list(inputs)]
            moved[0][k] = inputs[k] + step * direction
            moved[1][k] = inputs[k] - step * direction
            above, below = (float(np.sum(weights * function(*values))) for values in moved)
            measured = (above - below) / (2 * step)
            claimed = float(np.sum(np.asarray(gradients[k]) * direction))
            scale = max(1.0, abs(measured), abs(claimed))
            assert abs(measured - claimed) <= tolerance * scale, (
                f"input {k}: backward says {claimed}, differences say {measured}"
            )
