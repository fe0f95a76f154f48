"""Matrix products by BLAS from compiled code: by the library that NumPy itself calls, if found.

It is loaded already, its threads are those of NumPy, and unlike numba's way through SciPy it
costs no import. Its address is made known to LLVM under a name of ours.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from importlib.util import find_spec
from typing import Any

import numpy as np

SYMBOLS = {"float64": "mfjit_cblas_dgemm", "float32": "mfjit_cblas_sgemm"}
"""What compiled code calls by dtype: CBLAS with 64-bit integers."""

_NAMES = ("scipy_cblas_{}64_", "cblas_{}64_", "cblas_{}_64", "cblas_{}$NEWLAPACK$ILP64")
"""How builds of BLAS with 64-bit integers call a function."""


@functools.cache
def provider() -> str | None:
    """Return whose BLAS compiled code can call: ``numpy``, ``scipy``, or nobody's."""
    if all(_addresses().values()):
        return "numpy"
    return None if find_spec("scipy") is None else "scipy"


def prepare() -> None:
    """Make the addresses known to LLVM, before code that calls them is loaded."""
    import llvmlite.binding as llvm  # type: ignore[import-untyped, unused-ignore]

    for dtype, address in _addresses().items():
        if address is None:
            raise ImportError("the BLAS of NumPy that this program was compiled for is not there")
        llvm.add_symbol(SYMBOLS[dtype], address)


@functools.cache
def _addresses() -> dict[str, int | None]:
    try:
        module = importlib.import_module("numpy._core._multiarray_umath")
        library: Any = ctypes.CDLL(str(module.__file__))
    except (ImportError, OSError):
        return dict.fromkeys(SYMBOLS)
    return {
        dtype: _address(library, "dgemm" if dtype == "float64" else "sgemm") for dtype in SYMBOLS
    }


def _address(library: Any, function: str) -> int | None:
    for name in _NAMES:
        found = getattr(library, name.format(function), None)
        if found is not None and np.intp(0).itemsize == 8:
            return ctypes.cast(found, ctypes.c_void_p).value
    return None
