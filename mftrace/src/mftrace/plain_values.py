"""Plain values as JSON and arrays, and back: what can be read again without trusting it.

Plain are None, Python's numbers and strings, tuples, lists and dictionaries of plain values,
slices, ``...``, dtypes, NumPy scalars and numeric arrays. Nothing read back is ever executed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfcore.errors import type_name

_DEPTH = 20
_KINDS = "biufc"
_DTYPES = frozenset(
    {
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "longdouble", "complex64", "complex128"),
    }
)

_WORDS: dict[tuple[str, Any], Any] = {
    ("ellipsis", True): Ellipsis,
    **{("float", text): float(text) for text in ("nan", "inf", "-inf")},
    **{("dtype", name): np.dtype(name) for name in _DTYPES},
}
"""What a single word of its kind stands for."""


class NotPlainError(ValueError):
    """A value is not plain, or what was read stands for no plain value."""


def encode(value: Any, arrays: list[NDArray[Any]], depth: int = 0) -> Any:
    """Return a value as what JSON can hold; arrays are appended to ``arrays``.

    Raises
    ------
    NotPlainError
        If something in it is not plain.
    """
    if depth > _DEPTH:
        raise NotPlainError(f"it is nested more than {_DEPTH} deep")
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind in (tuple, list):
        return {kind.__name__: [encode(part, arrays, depth + 1) for part in value]}
    if kind is dict and all(type(key) is str for key in value):
        return {"dict": {key: encode(part, arrays, depth + 1) for key, part in value.items()}}
    if kind is slice:
        parts = (value.start, value.stop, value.step)
        return {"slice": [encode(part, arrays, depth + 1) for part in parts]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, np.dtype) and _dtype_name(value) in _DTYPES:
        return {"dtype": _dtype_name(value)}
    if kind is np.ndarray or isinstance(value, np.generic):
        array = np.asarray(value)
        if array.dtype.kind in _KINDS:
            arrays.append(array)
            return {"array" if kind is np.ndarray else "scalar": len(arrays) - 1}
    raise NotPlainError(f"{type_name(value)} is not plain")


def decode(read: Any, arrays: Sequence[NDArray[Any]], depth: int = 0) -> Any:
    """Return the value that ``encode`` was given.

    Raises
    ------
    NotPlainError
        If what was read stands for none.
    """
    if depth > _DEPTH:
        raise NotPlainError(f"it is nested more than {_DEPTH} deep")
    if read is None or type(read) in (bool, int, str):
        return read
    if type(read) is float and math.isfinite(read):
        return read
    if type(read) is dict and len(read) == 1:
        ((kind, content),) = read.items()
        if kind in ("tuple", "list", "slice") and type(content) is list:
            parts = [decode(part, arrays, depth + 1) for part in content]
            if kind != "slice":
                return parts if kind == "list" else tuple(parts)
            if len(parts) == 3:
                return slice(*parts)
        elif kind == "dict" and type(content) is dict:
            return {key: decode(part, arrays, depth + 1) for key, part in content.items()}
        elif kind in ("array", "scalar"):
            return _array(kind, content, arrays)
        elif type(content) in (str, bool) and (value := _WORDS.get((kind, content))) is not None:
            return value
    raise NotPlainError("a value in it is of no known form")


def _array(kind: str, place: Any, arrays: Sequence[NDArray[Any]]) -> Any:
    if type(place) is int and 0 <= place < len(arrays):
        array = arrays[place]
        if kind == "array":
            return array
        if array.ndim == 0:
            return array[()]
    raise NotPlainError("an array that it names is not there")


def _dtype_name(dtype: np.dtype[Any]) -> str:
    return "longdouble" if dtype == np.longdouble and dtype != np.float64 else dtype.name
