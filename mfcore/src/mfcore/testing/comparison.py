"""Two results compared: the same bits, near enough, or where they differ most."""

from __future__ import annotations

from typing import Any

import numpy as np


def same(one: Any, other: Any) -> bool:
    """Whether two results are the same bits."""
    if isinstance(one, (tuple, list)):
        return (
            isinstance(other, (tuple, list))
            and len(one) == len(other)
            and all(same(a, b) for a, b in zip(one, other, strict=True))
        )
    if isinstance(one, (np.ndarray, np.generic)):
        return (
            isinstance(other, (np.ndarray, np.generic))
            and one.dtype == other.dtype
            and one.shape == other.shape
            and one.tobytes() == other.tobytes()
        )
    return bool(one == other)


def close(one: Any, other: Any, rtol: float = 1e-12, atol: float = 1e-14) -> bool:
    """Whether two results have one shape and nearly the same numbers; or both are ``None``."""
    if one is None or other is None:
        return one is other
    return np.shape(one) == np.shape(other) and bool(
        np.allclose(one, other, rtol=rtol, atol=atol, equal_nan=True)
    )


def difference(name: str, found: Any, expected: Any) -> str:
    """Return where two results differ most, with both numbers.

    Examples
    --------
    >>> difference("y", np.array([1.0, 2.0]), np.array([1.0, 2.5]))
    'most of all at y[1]: 2, not 2.5'
    """
    if found is None or expected is None:
        return f"{name} is {found}, not {expected}"
    if np.shape(found) != np.shape(expected):
        return f"{name} has the shape {np.shape(found)}, not {np.shape(expected)}"
    kinds = np.asarray(found).dtype, np.asarray(expected).dtype
    if kinds[0] != kinds[1]:
        return f"{name} is {kinds[0]}, not {kinds[1]}"
    mine, its = (np.asarray(x, dtype=np.float64) for x in (found, expected))
    off = np.nan_to_num(np.abs(mine - its), nan=np.inf)
    off = np.where(np.isnan(mine) & np.isnan(its) | (mine == its), 0.0, off)
    worst = np.unravel_index(int(np.argmax(off)), off.shape)
    place = tuple(int(i) for i in worst)
    at = f"{name}{list(place)}" if place else name
    return f"most of all at {at}: {mine[place]:.8g}, not {its[place]:.8g}"
