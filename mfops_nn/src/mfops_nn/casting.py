"""Integers as floats, where the arithmetic of integers would wrap around."""

from __future__ import annotations

from typing import Any

from mfcore import Array


def floating(x: Array) -> Any:
    """Return ``x`` itself if it holds floats, else as float64.

    ``-x`` and ``x - y`` of unsigned or small integers wrap around, and bools have neither.
    """
    return x if x.dtype.kind == "f" else x * 1.0
