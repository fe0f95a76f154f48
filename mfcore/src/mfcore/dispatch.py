"""NumPy on nodes: from a NumPy function to the operation that a pack declares for it."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.errors import UndeclaredFunctionError
from mfcore.registry import current

if TYPE_CHECKING:
    from mfcore.node import Node


_ABSENT = object()


def call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
) -> Node:
    """Build the operation declared for a NumPy function, applied to ``args``.

    The function's first parameters become the operation's inputs, the rest its
    hyperparameters of the same name.

    Parameters
    ----------
    function : callable
        A ufunc, another function of NumPy, or ``operator.getitem``.
    args, kwargs
        What it was called with; a node is among it.

    Raises
    ------
    UndeclaredFunctionError
        If no enabled pack declares the function, or its operation lacks an argument.
    """
    if function is operator.getitem:
        function, args, kwargs = _indexing(*args)
    cls = current().operation_for(function)
    if cls is None:
        raise undeclared(function_name(function))
    if isinstance(function, np.ufunc):
        if kwargs:
            _refuse(function, kwargs)
        return cls(*args)
    return _construct(cls, function, args, dict(kwargs or {}))


def _indexing(x: Any, index: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Return what ``x[index]`` stands for; an index that is a node takes along axis 0."""
    from mfcore.node import Node

    if isinstance(index, Node):
        return np.take, (x, index), {"axis": 0}
    if isinstance(index, tuple) and any(isinstance(part, Node) for part in index):
        raise UndeclaredFunctionError(
            "a node cannot be one part of an index: use `np.take(node, indices, axis=...)`"
        )
    return operator.getitem, (x,), {"index": index}


def undeclared(name: str) -> UndeclaredFunctionError:
    """Return the error for a function that nobody declared."""
    problems = current().problems()
    return UndeclaredFunctionError(
        f"{name} was called on a node, but no enabled pack declares an operation for it "
        f"(`miniflow ops` lists what there is)" + (f"\n{problems}" if problems else "")
    )


def function_name(function: Callable[..., Any]) -> str:
    """Return a function's name as users write it: ``np.linalg.norm``."""
    name: str = getattr(function, "__name__", repr(function))
    if isinstance(function, np.ufunc):
        return f"np.{name}"
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return f"np.{owner.__name__}.{name}"
    module = getattr(function, "__module__", None) or ""
    if module == "_operator":
        return f"operator.{name}"
    return f"{module}.{name}".replace("numpy", "np", 1)


def _construct(
    cls: type[Node], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Node:
    from mfcore.operation import spec_of

    spec = spec_of(cls)
    parameters = _parameters(function)
    if parameters is not None:
        if len(args) > len(parameters):
            raise TypeError(f"{function_name(function)} takes at most {len(parameters)} arguments")
        named = dict(zip(parameters, args, strict=False))
        for key, value in kwargs.items():
            if key in named:
                raise TypeError(f"{function_name(function)} got {key!r} twice")
            named[key] = value
        count = len(spec.inputs)
        inputs = [named.pop(name) for name in list(parameters)[:count] if name in named]
        kwargs = {k: v for k, v in named.items() if v is not parameters.get(k, _ABSENT)}
    else:
        inputs, kwargs = list(args), dict(kwargs)
    _refuse(function, {k: v for k, v in kwargs.items() if k not in spec.hyperparameters})
    if spec.variadic and inputs and not hasattr(inputs[-1], "__operation__"):
        inputs[-1:] = list(inputs[-1])
    if len(inputs) < len(spec.inputs):
        raise UndeclaredFunctionError(
            f"{function_name(function)} on nodes needs {', '.join(spec.inputs)}"
        )
    return cls(*inputs, **kwargs)


def _refuse(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    if kwargs:
        names = ", ".join(f"{name}=" for name in kwargs)
        raise UndeclaredFunctionError(
            f"{function_name(function)} on nodes does not support {names.rstrip()}"
        )


@functools.cache
def _parameters(function: Callable[..., Any]) -> Mapping[str, Any] | None:
    """Names and defaults of a function's parameters, where Python can tell them."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return {name: parameter.default for name, parameter in signature.parameters.items()}
