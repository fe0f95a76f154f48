"""Sums, products, quotients and powers, element by element, with NumPy's broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mfcore import Array, Node, operation
from mfcore.domain import Domain, nonzero, positive, real

if TYPE_CHECKING:
    from mfcore import NodeLike


@operation(ufunc=np.add, broadcasts=True)
class Add(Node):
    """Sum of any number of terms, ``x + y + z``.

    Parameters
    ----------
    *terms : Node
        One or more, of shapes that broadcast.

    Examples
    --------
    >>> Add.forward(1, 2, 3)
    6
    """

    terms: tuple[Node, ...]

    if TYPE_CHECKING:

        def __init__(self, *terms: NodeLike, name: str | None = None) -> None: ...

    expected_failures: ClassVar[dict[str, str]] = {
        "wanted": "it asks only how many inputs there are: their gradients cost nothing",
    }

    @staticmethod
    def forward(*terms: Array) -> Any:
        if len(terms) == 2:  # as most are, and worth the shorter way
            return terms[0] + terms[1]
        if len(terms) == 1:
            return terms[0] * 1  # a result of its own, as with more terms
        total = terms[0]
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
    def backward(grad: Array, wanted: Any) -> tuple[Any, ...]:
        return grad, -grad if wanted.y else None


@operation(ufunc=np.multiply, broadcasts=True)
class Mul(Node):
    """Product of any number of factors, ``x * y * z``.

    Parameters
    ----------
    *factors : Node
        One or more, of shapes that broadcast.

    Examples
    --------
    >>> Mul.forward(2, 3, 4)
    24
    """

    factors: tuple[Node, ...]

    if TYPE_CHECKING:

        def __init__(self, *factors: NodeLike, name: str | None = None) -> None: ...

    @staticmethod
    def forward(*factors: Array) -> Any:
        if len(factors) == 2:  # as most are, and worth the shorter way
            return factors[0] * factors[1]
        if len(factors) == 1:
            return factors[0] * 1  # a result of its own, as with more factors
        product = factors[0]
        for factor in factors[1:]:
            product = product * factor
        return product

    @staticmethod
    def backward(
        grad: Array, factors: tuple[Array, ...], wanted: tuple[bool, ...]
    ) -> tuple[Any, ...]:
        if len(factors) == 2:
            x, y = factors
            return grad * y if wanted[0] else None, grad * x if wanted[1] else None
        # Each factor's share is the product of all others: of those before it and those after.
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

    domain = Domain(y=nonzero())

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return x / y

    @staticmethod
    def backward(grad: Array, value: Array, y: Array, wanted: Any) -> tuple[Any, ...]:
        share = grad / y
        return share, -share * value if wanted.y else None


@operation(ufunc=np.power, broadcasts=True)
class Power(Node):
    """Power ``x ** y``.

    The slope in ``x`` is ``y * x ** (y - 1)``, and 0 where ``y`` is 0, at ``x = 0`` too.
    The slope in ``y`` is ``x ** y * log(x)`` where ``x`` is positive; elsewhere the power
    is a real number for single values of ``y`` only, and the slope counts as 0.

    Parameters
    ----------
    x, y : Node
        Base and exponent, of shapes that broadcast. As in NumPy, a negative base with a
        fractional exponent gives NaN, and integers have no negative integer powers.
    """

    x: Node
    y: Node

    domain = Domain(x=positive(), y=real(low=-3, high=3))

    @staticmethod
    def forward(x: Array, y: Array) -> Any:
        return x**y

    @staticmethod
    def backward(grad: Array, x: Array, y: Array, value: Array, wanted: Any) -> tuple[Any, ...]:
        of_x = of_y = None
        if wanted.x:
            # Where y is 0 the base is taken as 1: 0 ** 0 has the slope 0, not 0 * inf.
            of_x = grad * y * np.where(np.equal(y, 0), 1.0, x) ** (y - 1)
        if wanted.y:
            positive = np.greater(x, 0)
            share = grad * np.where(positive, value, 0)
            of_y = share * np.log(np.where(positive, x, 1))
        return of_x, of_y


@operation(ufunc=np.negative)
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
        return (2 * grad * x,)


@operation(ufunc=np.sqrt)
class Sqrt(Node):
    """Square root of ``x``."""

    x: Node

    domain = Domain(x=positive())

    @staticmethod
    def forward(x: Array) -> Any:
        return np.sqrt(x)

    @staticmethod
    def backward(grad: Array, value: Array) -> tuple[Any, ...]:
        return (grad / (2 * value),)
