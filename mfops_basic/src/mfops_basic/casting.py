"""Dtypes: the same elements as other numbers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mfcore import Array, Node, errors, hyperparameter, operation
from mfcore.syntax import cast


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """Return a dtype argument as a dtype.

    Raises
    ------
    NodeUseError
        If it is none of floats, integers or bools.
    """
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise errors.NodeUseError(f"{dtype!r} is no dtype: {error}") from None
    if result.kind not in "biuf":
        raise errors.NodeUseError(f"a dtype of floats, integers or bools, not {result}")
    return result


@operation(function=cast)
class Cast(Node):
    """The same elements in another dtype, ``x.astype(dtype)``.

    Parameters
    ----------
    x : Node
        Of any shape.
    dtype : dtype
        Dtype of the result. Gradients pass where it is one of floats; integers and bools
        are constant between their steps.

    Examples
    --------
    >>> import numpy as np
    >>> Cast.forward(np.array([1.5, -1.5]), np.dtype(int))
    array([ 1, -1])
    """

    x: Node
    dtype: np.dtype[Any] = hyperparameter(converter=as_dtype)

    expected_failures: ClassVar[dict[str, str]] = {
        "dtypes": "the dtype of the result is what it is asked for",
    }

    @staticmethod
    def forward(x: Array, dtype: np.dtype[Any]) -> Any:
        return x.astype(dtype)

    @staticmethod
    def backward(grad: Array, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        return (grad if dtype.kind == "f" else None,)
