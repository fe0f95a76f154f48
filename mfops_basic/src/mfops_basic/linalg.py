"""Matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import Array, Node, operation
from mfcore.domain import Domain, real


@operation(ufunc=np.matmul, broadcasts=True)
class MatMul(Node):
    """Matrix product ``x @ y``, as NumPy's: batched over leading axes, 1-D operands as vectors.

    Parameters
    ----------
    x : Node
        ``(..., n, k)`` or ``(k,)``.
    y : Node
        ``(..., k, m)`` or ``(k,)``.

    Examples
    --------
    >>> import numpy as np
    >>> MatMul.forward(np.ones((5, 1, 2, 3)), np.ones((4, 3, 2))).shape
    (5, 4, 2, 2)
    """

    x: Node
    y: Node

    domain = (
        Domain(x=real("..., n, k"), y=real("..., k, m")),
        Domain(x=real("k"), y=real("..., k, m")),
        Domain(x=real("..., n, k"), y=real("k")),
        Domain(x=real("k"), y=real("k")),
    )

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.matmul(x, y)

    @staticmethod
    def backward(grad: Array, x: Array, y: Array, wanted: Any) -> tuple[Any, ...]:
        if x.ndim == 1 and y.ndim == 1:
            return grad * y, grad * x
        if x.ndim == 1:
            rows = np.expand_dims(grad, -2)  # (..., 1, m)
            return (
                np.squeeze(np.matmul(rows, np.swapaxes(y, -1, -2)), -2) if wanted.x else None,
                np.expand_dims(x, -1) * rows if wanted.y else None,
            )
        if y.ndim == 1:
            columns = np.expand_dims(grad, -1)  # (..., n, 1)
            return (
                columns * y if wanted.x else None,
                np.squeeze(np.matmul(np.swapaxes(x, -1, -2), columns), -1) if wanted.y else None,
            )
        return (
            np.matmul(grad, np.swapaxes(y, -1, -2)) if wanted.x else None,
            np.matmul(np.swapaxes(x, -1, -2), grad) if wanted.y else None,
        )
