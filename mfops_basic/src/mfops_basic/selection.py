"""Choices: maximum, minimum, where, comparisons and logic, element by element.

Comparisons and logic give bools. Their results are constant between the steps, so no
gradient passes through them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import Array, Node, operation
from mfcore.domain import Domain, bools, real


def _of_chosen(grad: Array, x_chosen: Array, y_chosen: Array, wanted: Any) -> tuple[Any, ...]:
    """Return the gradients of x and y, given where each of them alone is the result.

    Where neither is (they are equal, or one is NaN) each gets half.
    """
    half = grad / 2
    return (
        np.where(x_chosen, grad, np.where(y_chosen, 0, half)) if wanted.x else None,
        np.where(y_chosen, grad, np.where(x_chosen, 0, half)) if wanted.y else None,
    )


@operation(ufunc=np.maximum, broadcasts=True)
class Maximum(Node):
    """The larger of ``x`` and ``y``; where neither is, each gets half of the gradient."""

    x: Node
    y: Node

    domain = Domain(x=real(apart_from="y"))

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.maximum(x, y)

    @staticmethod
    def backward(grad: Array, x: Array, y: Array, wanted: Any) -> tuple[Any, ...]:
        return _of_chosen(grad, np.greater(x, y), np.less(x, y), wanted)


@operation(ufunc=np.minimum, broadcasts=True)
class Minimum(Node):
    """The smaller of ``x`` and ``y``; where neither is, each gets half of the gradient."""

    x: Node
    y: Node

    domain = Domain(x=real(apart_from="y"))

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.minimum(x, y)

    @staticmethod
    def backward(grad: Array, x: Array, y: Array, wanted: Any) -> tuple[Any, ...]:
        return _of_chosen(grad, np.less(x, y), np.greater(x, y), wanted)


@operation(function=np.where, broadcasts=True)
class Where(Node):
    """``x`` where the condition holds, else ``y``; gradient passes to the one chosen.

    Parameters
    ----------
    condition : Node
        Bools, or numbers of which 0 is false. It gets no gradient.
    x, y : Node
        The values to choose from; all three broadcast against each other.

    Examples
    --------
    >>> import numpy as np
    >>> Where.forward(np.array([True, False]), np.array([1.0, 2.0]), 0.0)
    array([1., 0.])
    """

    condition: Node
    x: Node
    y: Node

    domain = Domain(condition=bools())

    @staticmethod
    def forward(condition: Array, x: Array, y: Array) -> Any:
        return np.where(condition, x, y)[()]

    @staticmethod
    def backward(grad: Array, condition: Array, wanted: Any) -> tuple[Any, ...]:
        return (
            None,
            np.where(condition, grad, 0) if wanted.x else None,
            np.where(condition, 0, grad) if wanted.y else None,
        )


@operation(ufunc=np.less, broadcasts=True)
class Less(Node):
    """``x < y``."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.less(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.less_equal, broadcasts=True)
class LessEqual(Node):
    """``x <= y``."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.less_equal(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.greater, broadcasts=True)
class Greater(Node):
    """``x > y``."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.greater(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.greater_equal, broadcasts=True)
class GreaterEqual(Node):
    """``x >= y``."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.greater_equal(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.equal, broadcasts=True)
class Equal(Node):
    """``x == y`` (on nodes ``==`` compares identity; write ``np.equal(x, y)``)."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.equal(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.not_equal, broadcasts=True)
class NotEqual(Node):
    """``x != y`` (on nodes ``!=`` compares identity; write ``np.not_equal(x, y)``)."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.not_equal(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.logical_and, broadcasts=True)
class LogicalAnd(Node):
    """Whether both ``x`` and ``y`` are true."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.logical_and(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.logical_or, broadcasts=True)
class LogicalOr(Node):
    """Whether ``x`` or ``y`` or both are true."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.logical_or(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.logical_xor, broadcasts=True)
class LogicalXor(Node):
    """Whether exactly one of ``x`` and ``y`` is true."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return np.logical_xor(x, y)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return None, None


@operation(ufunc=np.logical_not)
class LogicalNot(Node):
    """Whether ``x`` is false."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.logical_not(x)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return (None,)
