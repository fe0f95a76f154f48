"""What NumPy's functions mean in primitives: one rule each.

A rule takes the builder and the function's own arguments, with lowered values in the place
of arrays. A function without a rule is called as it is when the program runs (``call``), which
only the numpy engine does.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from mfcore.errors import NotTraceableError
from mfcore.syntax import cast
from mfjit.builder import Builder, full_slices
from mfjit.indexing import getitem
from mfjit.ir import ELEMENTWISE, LOGICAL, Value
from mfjit.reading import Traced

Rule: TypeAlias = Callable[..., Any]

RULES: dict[Any, Rule] = {}
"""The rule of each NumPy function that is no ufunc."""

_BITWISE = {"bitwise_and": "logical_and", "bitwise_or": "logical_or",
            "bitwise_xor": "logical_xor", "invert": "logical_not"}  # fmt: skip
_REDUCED_UFUNCS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min",
                   "logical_and": "all", "logical_or": "any"}  # fmt: skip


def lower_call(
    traced: Traced, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Emit a NumPy function's call on traced values; return its result, traced.

    Raises
    ------
    NotTraceableError
        If it writes into an argument, or depends on elements.
    ValueError, TypeError
        As NumPy would, where shapes or dtypes do not fit.
    """
    if kwargs.get("out") is not None:
        raise NotTraceableError(
            f"{_name(function)} was asked to write into an array (out=); return a new one"
        )
    kwargs = {k: v for k, v in kwargs.items() if k != "out"}
    if isinstance(function, np.ufunc) and not kwargs:
        return _lower_ufunc(traced, function, args)
    rule = _rule(function)
    if rule is not None:
        try:
            result = rule(traced.builder, *_bare(args), **_bare(kwargs))
        except NoRule:
            pass
        else:
            return _wrapped(traced, result)
    return _wrapped(traced, _call(traced.builder, function, _bare(args), _bare(kwargs)))


class NoRule(Exception):
    """A rule does not cover these arguments."""


def _lower_ufunc(traced: Traced, ufunc: np.ufunc, args: tuple[Any, ...]) -> Any:
    builder, name = traced.builder, ufunc.__name__
    weak = all(isinstance(a, (bool, int, float)) or getattr(a, "weak", False) for a in args)
    if name in _BITWISE and all(_dtype_of(a) == np.bool_ for a in args):
        name = _BITWISE[name]
    if name == "fabs":
        name = "absolute"
    if name == "positive":
        return args[0]
    if name == "matmul":
        return traced.like(builder.matmul(*[builder.value(a) for a in _bare(args)]))
    if name not in ELEMENTWISE:
        return _wrapped(traced, _call(builder, ufunc, _bare(args), {}))
    operands = [a if weak or not getattr(a, "weak", False) else _Weak(a.value) for a in args]
    if any(isinstance(a, _Weak) for a in operands):
        return traced.like(_beside_weak(builder, name, operands))
    result = builder.elementwise(name, *_bare(tuple(operands)))
    return traced.like(result, weak and name not in LOGICAL and result.dtype == np.float64)


class _Weak:
    """A traced number among arrays."""

    def __init__(self, value: Value) -> None:
        self.value = value


def _beside_weak(builder: Builder, name: str, operands: Sequence[Any]) -> Value:
    """Emit an elementwise instruction of arrays and numbers that adapt to their dtype."""
    ufunc: Any = getattr(np, name)
    kinds = [float if isinstance(a, (_Weak, float)) else _dtype_of(a) for a in operands]
    resolved = ufunc.resolve_dtypes((*kinds, None))
    cast_operands = [
        builder.cast(a.value, dtype) if isinstance(a, _Weak) else a
        for a, dtype in zip(operands, resolved, strict=False)
    ]
    return builder.elementwise(name, *_bare(tuple(cast_operands)))


def _dtype_of(operand: Any) -> Any:
    if type(operand) in (int, float):
        return type(operand)
    return operand.dtype if hasattr(operand, "dtype") else np.asarray(operand).dtype


def _bare(arguments: Any) -> Any:
    """Return arguments with lowered values in place of traced ones, in containers too."""
    if isinstance(arguments, Traced):
        return arguments.value
    if isinstance(arguments, tuple):
        return tuple([_bare(a) for a in arguments])
    if isinstance(arguments, list):
        return [_bare(a) for a in arguments]
    if isinstance(arguments, Mapping):
        return {k: _bare(v) for k, v in arguments.items()}
    return arguments


def _wrapped(traced: Traced, result: Any) -> Any:
    if isinstance(result, Value):
        return traced.like(result)
    if isinstance(result, (tuple, list)):
        return type(result)([_wrapped(traced, part) for part in result])
    return result


def _rule(function: Any) -> Rule | None:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.ufunc):
        return _method_rule(owner, function.__name__)
    if isinstance(function, np.ufunc):
        return _ufunc_with_options(function)
    return RULES.get(function)


def _method_rule(ufunc: np.ufunc, method: str) -> Rule | None:
    name = ufunc.__name__
    if method == "reduce" and name in _REDUCED_UFUNCS:
        op = _REDUCED_UFUNCS[name]

        def reduce(b: Builder, x: Any, axis: Any = 0, dtype: Any = None, **options: Any) -> Value:
            keepdims = options.pop("keepdims", False)
            if any(v not in (None, np._NoValue) for v in options.values()):
                raise NoRule
            return _reduced(b, op, x, axis, keepdims, dtype)

        return reduce
    if method == "outer" and name in ELEMENTWISE:

        def outer(b: Builder, x: Any, y: Any) -> Value:
            x, y = b.value(x), b.value(y)
            return b.elementwise(name, b.reshape(x, x.shape + (1,) * y.ndim), y)

        return outer
    return None


def _ufunc_with_options(ufunc: np.ufunc) -> Rule | None:
    def rule(b: Builder, *args: Any, dtype: Any = None, **options: Any) -> Value:
        if options.pop("where", True) is not True or ufunc.__name__ not in ELEMENTWISE:
            raise NoRule
        if dtype is not None:
            args = tuple([b.cast(b.value(a), dtype) for a in args])
        return b.elementwise(ufunc.__name__, *args)

    return rule


def _call(b: Builder, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Emit a call of the function as it is; its result's shape is found on arrays of ones."""
    values: list[Value] = []

    def slot(argument: Any) -> Any:
        if isinstance(argument, Value):
            values.append(argument)
            return Slot(len(values) - 1)
        if isinstance(argument, (tuple, list)):
            return type(argument)([slot(a) for a in argument])
        return argument

    arguments = (slot(args), {k: slot(v) for k, v in kwargs.items()})
    return emit_call(b, function, arguments, values)


class Slot:
    """The place of a lowered value among the arguments of a ``call``."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


def filled(arguments: Any, arrays: Sequence[Any]) -> Any:
    """Return the arguments of a ``call`` with arrays in their places."""
    if isinstance(arguments, Slot):
        return arrays[arguments.index]
    if isinstance(arguments, (tuple, list)):
        return type(arguments)([filled(a, arrays) for a in arguments])
    if isinstance(arguments, dict):
        return {k: filled(v, arrays) for k, v in arguments.items()}
    return arguments


def emit_call(b: Builder, function: Any, arguments: Any, values: Sequence[Value]) -> Any:
    """Emit a ``call``; return its value, or a tuple of ``item`` values.

    Raises
    ------
    NotTraceableError
        If the function cannot be called on arrays of ones, so that its result is unknown.
    """
    # A copy each: what writes into its argument is found out by the caller's own checks.
    ones = [np.ones(value.shape, value.dtype)[()] for value in values]
    args, kwargs = filled(arguments, ones)
    try:
        with np.errstate(all="ignore"):
            result = function(*args, **kwargs)
    except Exception as error:
        raise NotTraceableError(
            f"{_name(function)} has no rule for engines, and the shape of its result could "
            f"not be found by calling it: {error}"
        ) from error
    how = {"function": function, "arguments": arguments}
    if not isinstance(result, (tuple, list)):
        array = np.asarray(result)
        return b.call(values, array.shape, array.dtype, **how)
    whole = b.call(values, (), np.float64, **how)
    return tuple(
        [
            Value("item", (whole,), {"index": i}, part.shape, part.dtype, b.origin)
            for i, part in enumerate(map(np.asarray, result))
        ]
    )


def _name(function: Any) -> str:
    owner = getattr(function, "__self__", None)
    prefix = f"{owner.__name__}." if isinstance(owner, np.ufunc) else ""
    module = (getattr(function, "__module__", "") or "").replace("numpy", "np", 1)
    name = getattr(function, "__name__", repr(function))
    return f"np.{prefix}{name}" if prefix or isinstance(function, np.ufunc) else f"{module}.{name}"


# Rules


def _for(*functions: Any) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        for function in functions:
            RULES[function] = rule
        return rule

    return add


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return an axis argument as axes from 0; all of them for ``None``.

    Raises
    ------
    ValueError
        If an axis is out of range.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = [operator.index(a) for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of bounds for array of dimension {ndim}")
    return tuple([a % ndim for a in axes])


def _given(value: Any) -> bool:
    return value is not None and value is not np._NoValue


def _reduced(b: Builder, op: str, x: Any, axis: Any, keepdims: Any, dtype: Any = None) -> Value:
    x = b.value(x)
    axes = axes_of(axis, x.ndim)
    result = b.reduce(op, x, axes, dtype if _given(dtype) else None)
    if _given(keepdims) and keepdims:
        return b.reshape(result, [1 if a in axes else n for a, n in enumerate(x.shape)])
    return result


def _reduction(op: str) -> Rule:
    def rule(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
             keepdims: Any = None, initial: Any = None, where: Any = None) -> Value:  # fmt: skip
        if _given(initial) or (_given(where) and where is not True):
            raise NoRule
        return _reduced(b, op, a, axis, keepdims, dtype)

    return rule


def _extreme(op: str) -> Rule:
    def rule(b: Builder, a: Any, axis: Any = None, out: Any = None, keepdims: Any = None,
             initial: Any = None, where: Any = None) -> Value:  # fmt: skip
        if _given(initial) or (_given(where) and where is not True):
            raise NoRule
        return _reduced(b, op, a, axis, keepdims)

    return rule


def _argument(op: str) -> Rule:
    def rule(b: Builder, a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = None) -> Any:
        x = b.value(a)
        if axis is None:
            flat = b.reduce(op, b.reshape(x, (-1,)), (0,))
            return b.reshape(flat, (1,) * x.ndim) if _given(keepdims) and keepdims else flat
        return _reduced(b, op, x, axis, keepdims)

    return rule


_for(np.sum)(_reduction("sum"))
_for(np.prod)(_reduction("prod"))
for _functions, _op in (((np.max, np.amax), "max"), ((np.min, np.amin), "min"),
                        ((np.any,), "any"), ((np.all,), "all")):  # fmt: skip
    _for(*_functions)(_extreme(_op))
_for(np.argmax)(_argument("argmax"))
_for(np.argmin)(_argument("argmin"))


def _count(x: Value, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axes)


@_for(np.mean)
def _mean(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None,
          keepdims: Any = None, *, where: Any = None) -> Value:  # fmt: skip
    if _given(where) and where is not True:
        raise NoRule
    x = b.value(a)
    if x.dtype.kind != "f":
        x = b.cast(x, np.float64)
    total = _reduced(b, "sum", x, axis, keepdims, dtype)
    return b.elementwise("divide", total, _count(x, axes_of(axis, x.ndim)))


def _deviations(b: Builder, x: Value, axis: Any) -> Value:
    return b.elementwise("subtract", x, _mean(b, x, axis, keepdims=True))


@_for(np.var)
def _var(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0,
         keepdims: Any = None, **options: Any) -> Value:  # fmt: skip
    if any(_given(v) and v is not True for v in options.values()) or _given(dtype):
        raise NoRule
    x = b.value(a)
    squares = b.elementwise("square", _deviations(b, x, axis))
    total = _reduced(b, "sum", squares, axis, keepdims)
    return b.elementwise("divide", total, max(_count(x, axes_of(axis, x.ndim)) - ddof, 0))


@_for(np.std)
def _std(b: Builder, a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0,
         keepdims: Any = None, **options: Any) -> Value:  # fmt: skip
    return b.elementwise("sqrt", _var(b, a, axis, dtype, out, ddof, keepdims, **options))


@_for(np.where)
def _where(b: Builder, condition: Any, *xy: Any) -> Value:
    if len(xy) != 2:
        raise NotTraceableError("np.where with a condition only depends on elements")
    return b.elementwise("where", condition, *xy)


@_for(np.clip)
def _clip(b: Builder, a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *,
          min: Any = None, max: Any = None, **_options: Any) -> Value:  # fmt: skip
    result = a
    low = a_min if _given(a_min) else min
    high = a_max if _given(a_max) else max
    if _given(low):
        result = b.elementwise("maximum", result, low)
    if _given(high):
        result = b.elementwise("minimum", result, high)
    return b.value(result)


@_for(cast)
def _cast(b: Builder, x: Any, dtype: Any) -> Value:
    return b.cast(b.value(x), dtype)


@_for(np.dot)
def _dot(b: Builder, a: Any, b_: Any, out: Any = None) -> Value:
    x, y = b.value(a), b.value(b_)
    if not x.ndim or not y.ndim:
        return b.elementwise("multiply", x, y)
    if y.ndim > 2:
        raise NoRule
    return b.matmul(x, y)


@_for(np.vdot)
def _vdot(b: Builder, a: Any, b_: Any) -> Value:
    return b.matmul(b.reshape(b.value(a), (-1,)), b.reshape(b.value(b_), (-1,)))


@_for(np.outer)
def _outer(b: Builder, a: Any, b_: Any, out: Any = None) -> Value:
    x, y = b.value(a), b.value(b_)
    return b.elementwise("multiply", b.reshape(x, (-1, 1)), b.reshape(y, (1, -1)))


@_for(np.tensordot)
def _tensordot(b: Builder, a: Any, b_: Any, axes: Any = 2) -> Value:
    x, y = b.value(a), b.value(b_)
    if isinstance(axes, int):
        left, right = tuple(range(x.ndim - axes, x.ndim)), tuple(range(axes))
    else:
        left, right = axes_of(axes[0], x.ndim), axes_of(axes[1], y.ndim)
    if len(left) != len(right) or any(
        x.shape[i] != y.shape[j] for i, j in zip(left, right, strict=True)
    ):
        raise ValueError(f"tensordot: shapes {x.shape} and {y.shape} do not fit over {axes}")
    rows = [i for i in range(x.ndim) if i not in left]
    columns = [j for j in range(y.ndim) if j not in right]
    inner = math.prod(x.shape[i] for i in left)
    shape = [x.shape[i] for i in rows] + [y.shape[j] for j in columns]
    count = math.prod(x.shape[i] for i in rows)
    flat_x = b.reshape(b.transpose(x, [*rows, *left]), (count, inner))
    columns_count = math.prod(y.shape[j] for j in columns)
    flat_y = b.reshape(b.transpose(y, [*right, *columns]), (inner, columns_count))
    return b.reshape(b.matmul(flat_x, flat_y), shape)


@_for(np.einsum)
def _einsum(b: Builder, *operands: Any, **options: Any) -> Value:
    if not isinstance(operands[0], str) or options.get("out") is not None:
        raise NoRule
    return einsum(b, operands[0].replace(" ", ""), [b.value(x) for x in operands[1:]])


def einsum(b: Builder, subscripts: str, values: Sequence[Value]) -> Value:
    """Emit Einstein's sum, from left to right: a product of matrices for each pair."""
    if "." in subscripts:
        raise NoRule
    left, arrow, output = subscripts.partition("->")
    terms = left.split(",")
    if len(terms) != len(values) or any(
        len(set(term)) != len(term) or len(term) != x.ndim
        for term, x in zip(terms, values, strict=False)
    ):
        raise NoRule  # diagonals, or what NumPy has to complain about
    if not arrow:
        letters = left.replace(",", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    term, x = terms[0], values[0]
    for i, (other, y) in enumerate(zip(terms[1:], values[1:], strict=True)):
        wanted = set(output).union(*terms[i + 2 :])
        term, x = _contracted(b, term, x, other, y, wanted)
    axes = [i for i, c in enumerate(term) if c not in output]
    x = b.reduce("sum", x, axes, x.dtype) if axes else x
    term = "".join(c for c in term if c in output)
    return b.transpose(x, [term.index(c) for c in output])


def _contracted(
    b: Builder, term: str, x: Value, other: str, y: Value, wanted: set[str]
) -> tuple[str, Value]:
    """Multiply two operands, and sum over what nobody wants any more."""
    for letters, mine in ((term, other), (other, term)):
        alone = [i for i, c in enumerate(letters) if c not in wanted and c not in mine]
        if alone and letters is term:
            x, term = b.reduce("sum", x, alone, x.dtype), _without(term, alone)
        elif alone:
            y, other = b.reduce("sum", y, alone, y.dtype), _without(other, alone)
    shared = [c for c in term if c in other]
    batch = [c for c in shared if c in wanted]
    summed = [c for c in shared if c not in wanted]
    rows = [c for c in term if c not in other]
    columns = [c for c in other if c not in term]
    sizes = dict(zip(term, x.shape, strict=True)) | dict(zip(other, y.shape, strict=True))
    left = b.transpose(x, [term.index(c) for c in batch + rows + summed])
    right = b.transpose(y, [other.index(c) for c in batch + summed + columns])
    lengths = [math.prod(sizes[c] for c in part) for part in (rows, summed, columns)]
    outer = [sizes[c] for c in batch]
    if not summed:
        product = b.elementwise(
            "multiply",
            b.reshape(left, [*outer, lengths[0], 1]),
            b.reshape(right, [*outer, 1, lengths[2]]),
        )
    else:
        product = b.matmul(
            b.reshape(left, [*outer, lengths[0], lengths[1]]),
            b.reshape(right, [*outer, lengths[1], lengths[2]]),
        )
    result = "".join(batch + rows + columns)
    return result, b.reshape(product, [sizes[c] for c in result])


def _without(term: str, axes: Sequence[int]) -> str:
    return "".join(c for i, c in enumerate(term) if i not in axes)


@_for(np.reshape)
def _reshape(b: Builder, a: Any, shape: Any = None, order: str = "C", **options: Any) -> Value:
    if order != "C" or shape is None:
        raise NoRule
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return b.reshape(b.value(a), [operator.index(size) for size in sizes])


@_for(np.ravel)
def _ravel(b: Builder, a: Any, order: str = "C") -> Value:
    if order != "C":
        raise NoRule
    return b.reshape(b.value(a), (-1,))


@_for(np.transpose, np.permute_dims)
def _transpose(b: Builder, a: Any, axes: Any = None) -> Value:
    x = b.value(a)
    return b.transpose(x, None if axes is None else axes_of(axes, x.ndim))


@_for(np.matrix_transpose)
def _matrix_transpose(b: Builder, x: Any) -> Value:
    y = b.value(x)
    return b.transpose(y, [*range(y.ndim - 2), y.ndim - 1, y.ndim - 2])


@_for(np.swapaxes)
def _swapaxes(b: Builder, a: Any, axis1: int, axis2: int) -> Value:
    x = b.value(a)
    i, j = axes_of((axis1, axis2), x.ndim)
    order = list(range(x.ndim))
    order[i], order[j] = order[j], order[i]
    return b.transpose(x, order)


@_for(np.moveaxis)
def _moveaxis(b: Builder, a: Any, source: Any, destination: Any) -> Value:
    x = b.value(a)
    moved, target = axes_of(source, x.ndim), axes_of(destination, x.ndim)
    order = [i for i in range(x.ndim) if i not in moved]
    for place, axis in sorted(zip(target, moved, strict=True)):
        order.insert(place, axis)
    return b.transpose(x, order)


@_for(np.expand_dims)
def _expand_dims(b: Builder, a: Any, axis: Any) -> Value:
    x = b.value(a)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    places = axes_of(axis, x.ndim + count)
    sizes = iter(x.shape)
    shape = [1 if i in places else next(sizes) for i in range(x.ndim + count)]
    return b.reshape(x, shape)


@_for(np.squeeze)
def _squeeze(b: Builder, a: Any, axis: Any = None) -> Value:
    x = b.value(a)
    if axis is None:
        return b.reshape(x, [n for n in x.shape if n != 1])
    axes = axes_of(axis, x.ndim)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"cannot squeeze axes {axes} of shape {x.shape}: not of length one")
    return b.reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


@_for(np.broadcast_to)
def _broadcast_to(b: Builder, array: Any, shape: Any, subok: bool = False) -> Value:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    return b.broadcast_to(b.value(array), [operator.index(size) for size in sizes])


@_for(np.concatenate)
def _concatenate(b: Builder, arrays: Any, axis: Any = 0, **options: Any) -> Value:
    if any(_given(v) for k, v in options.items() if k != "casting"):
        raise NoRule
    parts = [b.value(x) for x in arrays]
    if axis is None:
        return b.concatenate([b.reshape(x, (-1,)) for x in parts], 0)
    return b.concatenate(parts, axes_of(axis, parts[0].ndim)[0])


@_for(np.stack)
def _stack(b: Builder, arrays: Any, axis: int = 0, **options: Any) -> Value:
    if any(_given(v) for k, v in options.items() if k != "casting"):
        raise NoRule
    parts = [_expand_dims(b, x, axis) for x in arrays]
    return b.concatenate(parts, axes_of(axis, parts[0].ndim)[0])


@_for(np.take)
def _take(
    b: Builder, a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise"
) -> Value:
    x, chosen = b.value(a), b.value(indices)
    if mode != "raise" or chosen.dtype.kind not in "iu":
        raise NoRule
    if axis is None:
        return b.take(b.reshape(x, (-1,)), chosen, 0)
    return b.take(x, chosen, axes_of(axis, x.ndim)[0])


@_for(operator.getitem)
def _getitem(b: Builder, x: Any, index: Any) -> Value:
    result = getitem(b, b.value(x), index)
    if result is None:
        raise NoRule
    return result


@_for(np.zeros_like, np.ones_like, np.full_like)
def _full_like(b: Builder, a: Any, fill_value: Any, dtype: Any = None, **options: Any) -> Value:
    shape = options.get("shape")
    x = b.value(a)
    kind = np.dtype(dtype) if dtype is not None else x.dtype
    value = b.cast(b.value(fill_value), kind)
    return b.broadcast_to(value, x.shape if shape is None else shape)


_for(np.zeros_like)(lambda b, a, dtype=None, **o: _full_like(b, a, 0, dtype, **o))
_for(np.ones_like)(lambda b, a, dtype=None, **o: _full_like(b, a, 1, dtype, **o))
_for(np.copy)(lambda b, a, *_args, **_options: b.value(a))
_for(np.shape)(lambda b, a: b.value(a).shape)
_for(np.ndim)(lambda b, a: b.value(a).ndim)
_for(np.size)(lambda b, a, axis=None: b.value(a).size if axis is None else b.value(a).shape[axis])
_for(np.result_type)(lambda b, *xs: np.result_type(*[getattr(x, "dtype", x) for x in xs]))


@_for(np.flip)
def _flip(b: Builder, m: Any, axis: Any = None) -> Value:
    x = b.value(m)
    axes = axes_of(axis, x.ndim)
    slices = [
        (size - 1, -1, -1) if i in axes and size else part
        for i, (size, part) in enumerate(zip(x.shape, full_slices(x.shape), strict=True))
    ]
    return b.slice(x, tuple(slices))


@_for(np.diff)
def _diff(b: Builder, a: Any, n: int = 1, axis: int = -1, **options: Any) -> Value:
    if options or n != 1:
        raise NoRule
    x = b.value(a)
    place = axes_of(axis, x.ndim)[0]
    size = x.shape[place]

    def part(start: int, stop: int) -> Value:
        return b.slice(
            x,
            tuple((start, stop, 1) if i == place else (0, k, 1) for i, k in enumerate(x.shape)),
        )

    return b.elementwise("subtract", part(1, size), part(0, max(size - 1, 0)))


@_for(np.pad)
def _pad(b: Builder, array: Any, pad_width: Any, mode: Any = "constant", **options: Any) -> Value:
    x = b.value(array)
    if mode != "constant" or options.get("constant_values", 0) != 0:
        raise NoRule
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    shape = tuple(n + before + after for n, (before, after) in zip(x.shape, widths, strict=True))
    slices = tuple((w[0], w[0] + n, 1) for n, w in zip(x.shape, widths, strict=True))
    return b.place(x, slices, shape)


@_for(np.repeat)
def _repeat(b: Builder, a: Any, repeats: Any, axis: Any = None) -> Value:
    x = b.value(a)
    if not isinstance(repeats, (int, np.integer)):
        raise NoRule
    if axis is None:
        x, axis = b.reshape(x, (-1,)), 0
    repeats, place = int(repeats), axes_of(axis, x.ndim)[0]
    before, size, after = x.shape[:place], x.shape[place], x.shape[place + 1 :]
    spread = b.broadcast_to(
        b.reshape(x, (*before, size, 1, *after)), (*before, size, repeats, *after)
    )
    return b.reshape(spread, (*before, size * repeats, *after))


def _triangle(function: Any) -> Rule:
    def rule(b: Builder, m: Any, k: int = 0) -> Value:
        x = b.value(m)
        mask = function(np.ones(x.shape[-2:], np.bool_), k)
        return b.elementwise("where", mask, x, b.literal(0, x.dtype))

    return rule


_for(np.triu)(_triangle(np.triu))
_for(np.tril)(_triangle(np.tril))


@_for(np.round, np.around)
def _round(b: Builder, a: Any, decimals: int = 0, _out: Any = None) -> Value:
    if decimals != 0:
        raise NoRule
    return b.elementwise("rint", a)


@cache
def parameters(function: Any) -> tuple[str, ...]:
    """Return the names of a function's parameters."""
    return tuple(inspect.signature(function).parameters)
