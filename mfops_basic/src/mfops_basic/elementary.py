"""Elementary functions of one variable, element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore import Array, Node, operation
from mfcore.domain import Domain, nonzero, positive, real


@operation(ufunc=np.exp)
class Exp(Node):
    """Exponential ``e ** x``."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.exp(x)

    @staticmethod
    def backward(grad: Array, value: Array) -> tuple[Any, ...]:
        return (grad * value,)


@operation(ufunc=np.expm1)
class Expm1(Node):
    """``e ** x - 1``, accurate near 0."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.expm1(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        # Not value + 1, which rounds to 0 where x is far below 0.
        return (grad * np.exp(x),)


@operation(ufunc=np.log)
class Log(Node):
    """Natural logarithm of ``x``."""

    x: Node

    domain = Domain(x=positive())

    @staticmethod
    def forward(x: Array) -> Any:
        return np.log(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (grad / x,)


@operation(ufunc=np.log1p)
class Log1p(Node):
    """Natural logarithm of ``1 + x``, accurate near 0."""

    x: Node

    domain = Domain(x=real(low=-1))

    @staticmethod
    def forward(x: Array) -> Any:
        return np.log1p(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (grad / (1.0 + x),)


@operation(ufunc=np.sin)
class Sin(Node):
    """Sine of ``x`` in radians."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.sin(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (grad * np.cos(x),)


@operation(ufunc=np.cos)
class Cos(Node):
    """Cosine of ``x`` in radians."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.cos(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (-grad * np.sin(x),)


@operation(ufunc=np.tanh)
class Tanh(Node):
    """Hyperbolic tangent of ``x``."""

    x: Node

    @staticmethod
    def forward(x: Array) -> Any:
        return np.tanh(x)

    @staticmethod
    def backward(grad: Array, value: Array) -> tuple[Any, ...]:
        return (grad * (1 - value * value),)


@operation(ufunc=(np.absolute, np.fabs))
class Abs(Node):
    """Absolute value of ``x``; its slope at 0 counts as 0."""

    x: Node

    domain = Domain(x=nonzero())

    @staticmethod
    def forward(x: Array) -> Any:
        return np.absolute(x)

    @staticmethod
    def backward(grad: Array, x: Array) -> tuple[Any, ...]:
        return (grad * np.sign(x),)


@operation(ufunc=np.sign)
class Sign(Node):
    """Sign of ``x``: -1, 0 or 1. It is constant between its steps: no gradient passes."""

    x: Node

    domain = Domain(x=nonzero())

    @staticmethod
    def forward(x: Array) -> Any:
        return np.sign(x)

    @staticmethod
    def backward() -> tuple[Any, ...]:
        return (None,)
