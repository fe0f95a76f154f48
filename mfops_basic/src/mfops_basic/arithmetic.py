"""Sums, products, quotients and powers, element by element, with NumPy's broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore import Array, Node, operation

if TYPE_CHECKING:
    from mfcore import NodeLike


@operation(ufunc=np.add, broadcasts=True)
class Add(Node):
    """Sum of any number of terms, ``x + y + z``."""

    terms: tuple[Node, ...]

    if TYPE_CHECKING:

        def __init__(self, *terms: NodeLike, name: str | None = None) -> None: ...

    @staticmethod
    def forward(*terms: Array) -> Any:
        total = +terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    @staticmethod
    def backward(grad: Array, wanted: tuple[bool, ...]) -> tuple[Any, ...]:
        return (grad,) * len(wanted)


@operation(ufunc=np.subtract, broadcasts=True)
class Subtract(Node):
    """Difference ``x - y``."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return x - y

    @staticmethod
    def backward(grad: Array) -> tuple[Any, ...]:
        return grad, -grad


@operation(ufunc=np.multiply, broadcasts=True)
class Mul(Node):
    """Product of any number of factors, ``x * y * z``."""

    factors: tuple[Node, ...]

    if TYPE_CHECKING:

        def __init__(self, *factors: NodeLike, name: str | None = None) -> None: ...

    @staticmethod
    def forward(*factors: Array) -> Any:
        product = +factors[0]
        for factor in factors[1:]:
            product = product * factor
        return product

    @staticmethod
    def backward(grad: Array, factors: tuple[Array, ...]) -> tuple[Any, ...]:
        # Each factor's share is the product of all others: of those before it and those after.
        if len(factors) == 2:
            return grad * factors[1], grad * factors[0]
        before = [grad]
        for factor in factors[:-1]:
            before.append(before[-1] * factor)
        gradients = [before[-1]]
        after = factors[-1]
        for share, factor in zip(before[-2::-1], factors[-2::-1], strict=False):
            gradients.append(share * after)
            after = after * factor
        return tuple(gradients[::-1])


@operation(ufunc=np.divide, broadcasts=True)
class Divide(Node):
    """Quotient ``x / y``."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return x / y

    @staticmethod
    def backward(grad: Array, value: Array, y: Array, wanted: Any) -> tuple[Any, ...]:
        share = grad / y
        return share, -share * value if wanted.y else None


@operation(ufunc=np.power, broadcasts=True)
class Power(Node):
    """Power ``x ** y``. The gradient of ``y`` counts as 0 where ``x`` is not positive."""

    x: Node
    y: Node

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return x**y

    @staticmethod
    def backward(grad: Array, x: Array, y: Array, value: Array, wanted: Any) -> tuple[Any, ...]:
        # Where y is 0 the exponent stays 0, so that 0 ** 0 has the slope 0 and not 0 * inf.
        of_x = grad * y * x ** (y - np.not_equal(y, 0)) if wanted.x else None
        if not wanted.y:
            return of_x, None
        positive = np.greater(x, 0)
        return of_x, np.where(positive, grad * value * np.log(np.where(positive, x, 1)), 0)


@operation(ufunc=(np.negative,))
class Negative(Node):
    """Negative ``-x``."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return -x

    @staticmethod
    def backward(grad: Array) -> tuple[Any, ...]:
        return (-grad,)


@operation(ufunc=np.square)
class Square(Node):
    """Square ``x * x``."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.square(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (grad * (2 * x),)


@operation(ufunc=np.sqrt)
class Sqrt(Node):
    """Square root of ``x``."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.sqrt(x)

    @staticmethod
    def backward(grad: Array, value: Array) -> tuple[Any, ...]:
        return (grad / (2 * value),)
