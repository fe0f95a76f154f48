"""Arrays of which only shape and dtype are known: what plain NumPy code gives for them.

An operation's ``forward`` called on ``Abstract`` values says which shape and dtype its
result will have, or raises what NumPy would raise, and no element is computed.
"""

from __future__ import annotations

import math
import operator
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Never

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from mfcore.errors import NotTraceableError
from mfcore.selection import check_bounds, selected_shape
from mfcore.syntax import NumpySyntax, cast

_PYTHON_NUMBERS = (int, float)


class DtypeMismatchError(TypeError):
    """NumPy has no loop for operands of these dtypes."""


class Abstract(NumpySyntax["Abstract"]):
    """An array known by shape and dtype.

    Parameters
    ----------
    shape : tuple of int
        Lengths of its axes.
    dtype : dtype
        Kind of its elements.

    Examples
    --------
    >>> import numpy as np
    >>> X, W = Abstract((5, 3), np.dtype("f4")), Abstract((3, 2), np.dtype("f8"))
    >>> np.tanh(X @ W + 1)
    Abstract(float64[5, 2])
    """

    __slots__ = ("dtype", "shape")

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"Abstract({self.dtype}{list(self.shape)})"

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    def _numpy(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if isinstance(function, np.ufunc) and function.signature is None:
            return _of_ufunc(function, args, kwargs)
        if isinstance(getattr(function, "__self__", None), np.ufunc) and function.__name__ == "at":
            return _at(*args)
        rule = _RULES.get(function, _of_dummies)
        return rule(function, args, kwargs)

    def _apply(
        self, operation: Any, inputs: tuple[Any, ...], hyperparameters: Mapping[str, Any]
    ) -> Any:
        from mfcore.operation import given_to, read_forward, spec_of

        spec = spec_of(operation)
        if spec.shape_and_dtype is not None:
            looks = tuple(map(abstract, inputs))
            given = given_to(operation, spec.shape_asks, looks, hyperparameters)
            return said_to_be(spec.call_shape_and_dtype(given))
        result = read_forward(operation, inputs, hyperparameters)
        return abstract(result) if isinstance(result, np.ndarray) else result


def abstract(value: Any) -> Abstract:
    """Return what is known of an array, a number or an ``Abstract`` before a run."""
    if isinstance(value, Abstract):
        return value
    array = np.asarray(value)
    return Abstract(array.shape, array.dtype)


_MOST_AXES = 64
"""Of NumPy's arrays."""


def said_to_be(looks: tuple[tuple[int, ...], Any]) -> Abstract:
    """Return what an operation says of its result, a shape and a dtype.

    Raises
    ------
    ValueError
        If the shape is none.
    """
    shape, dtype = looks
    if len(shape) > _MOST_AXES:
        raise ValueError(f"an array has at most {_MOST_AXES} axes, not {len(shape)}")
    if any(operator.index(n) < 0 for n in shape):
        raise ValueError(f"negative dimensions are not allowed, as in {shape}")
    return Abstract(tuple(map(operator.index, shape)), np.dtype(dtype))


class AbstractGenerator:
    """Stands for a random generator: draws have a shape and a dtype, but no elements."""

    def __getattr__(self, name: str) -> Callable[..., Abstract]:
        if name not in _SIZE_POSITIONS:
            raise NotTraceableError(f"rng.{name} is not known before a run")
        draw = getattr(np.random.default_rng(0), name)

        def call(*args: Any, **kwargs: Any) -> Abstract:
            place, given = _SIZE_POSITIONS[name], list(args)
            size = given.pop(place) if len(given) > place else kwargs.pop("size", None)
            options = {key: _element(value) for key, value in kwargs.items()}
            one = draw(*(_element(x) for x in given), **options, size=1)
            if size is None:
                size = np.broadcast_shapes(*(abstract(x).shape for x in given))
            shape = size if isinstance(size, tuple) else (size,)
            return Abstract(tuple(operator.index(n) for n in shape), one.dtype)

        return call


_SIZE_POSITIONS = {
    **dict.fromkeys(("random", "standard_normal", "standard_exponential"), 0),
    **dict.fromkeys(("exponential", "poisson", "geometric", "rayleigh", "standard_t"), 1),
    **dict.fromkeys(("normal", "uniform", "integers", "binomial", "laplace", "gumbel"), 2),
    **dict.fromkeys(("logistic", "lognormal", "gamma", "beta"), 2),
}
"""Where the methods of a generator take ``size``."""


def _element(value: Any) -> Any:
    return np.ones((), value.dtype)[()] if isinstance(value, (Abstract, np.ndarray)) else value


# What NumPy's functions give


def _of_ufunc(ufunc: np.ufunc, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply a ufunc that works element by element: broadcast shapes, resolve dtypes."""
    count = ufunc.nin
    shapes: list[tuple[int, ...]] = []
    kinds: list[Any] = []
    for value in args[:count]:
        if type(value) in _PYTHON_NUMBERS:
            kinds.append(type(value))  # weak: adapts to the dtypes beside it
            continue
        known = abstract(value)
        shapes.append(known.shape)
        kinds.append(known.dtype)
    outputs = [x for x in (*args[count:], *_tuple(kwargs.get("out"))) if x is not None]
    masked = kwargs.get("where", True)
    if masked is not True:
        shapes.append(abstract(masked).shape)
    shape = np.broadcast_shapes(*shapes)
    try:
        dtypes = ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout))[count:]
    except TypeError as error:
        raise DtypeMismatchError(str(error)) from None
    if kwargs.get("dtype") is not None:
        dtypes = (np.dtype(kwargs["dtype"]),) * ufunc.nout
    if outputs:
        for output in outputs:
            if np.broadcast_shapes(abstract(output).shape, shape) != abstract(output).shape:
                raise ValueError(
                    f"non-broadcastable output operand with shape {abstract(output).shape} "
                    f"doesn't match the broadcast shape {shape}"
                )
        results = tuple(abstract(output) for output in outputs)
    else:
        results = tuple(Abstract(shape, dtype) for dtype in dtypes)
    return results[0] if ufunc.nout == 1 else results


def _matmul(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if len(args) != 2 or kwargs:
        return _of_dummies(function, args, kwargs)
    x, y = (abstract(value) for value in args)
    if function is np.dot and not (x.ndim and y.ndim):
        return _of_ufunc(np.multiply, (x, y), {})
    # Of length one along the axes that products are not summed over, arrays tell all errors.
    if not (x.ndim and y.ndim) or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        np.matmul(_tiny(x, x.ndim - 1), _tiny(y, max(y.ndim - 2, 0)))
    dtype = np.matmul.resolve_dtypes((x.dtype, y.dtype, None))[2]
    columns = y.shape[-1:] if y.ndim > 1 else ()
    if function is np.dot:  # each row of the one with each column of the other
        return Abstract((*x.shape[:-1], *y.shape[:-2], *columns), dtype)
    batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return Abstract((*batch, *x.shape[-2:-1], *columns), dtype)


def _tiny(value: Abstract, kept: int) -> Any:
    """Return zeros of the value's dtype and of length one along all axes but one."""
    shape = tuple(n if axis == kept else 1 for axis, n in enumerate(value.shape))
    return _zeros(Abstract(shape, value.dtype))


def _reduction(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply a reduction: its dtype from one element, its shape from the axes it takes."""
    first, others = args[0] if args else kwargs.get("a"), args[1:]
    if not isinstance(first, Abstract) or not first.size or "where" in kwargs:
        return _of_dummies(function, args, kwargs)
    named = {name: value for name, value in kwargs.items() if name != "a"}
    one = _quietly(function, (np.zeros((1,) * first.ndim, first.dtype), *others), named)
    axis = others[0] if others else named.get("axis")
    axes = range(first.ndim) if axis is None else {a % first.ndim for a in _tuple(axis)}
    if one.ndim == first.ndim:
        shape = tuple(1 if a in axes else n for a, n in enumerate(first.shape))
    else:
        shape = tuple(n for a, n in enumerate(first.shape) if a not in axes)
    return Abstract(shape, one.dtype)


def _elementwise(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply a function that works element by element but is no ufunc."""
    values = [x for x in (*args, *kwargs.values()) if isinstance(x, (Abstract, np.ndarray, list))]
    shape = np.broadcast_shapes(*(abstract(x).shape for x in values))
    if function is np.where and len(args) != 3:
        raise NotTraceableError("np.where with a condition only depends on the elements")
    one = function(
        *(_one_element(x) for x in args), **{k: _one_element(v) for k, v in kwargs.items()}
    )
    return Abstract(shape, np.asarray(one).dtype)


def _one_element(value: Any) -> Any:
    if isinstance(value, (Abstract, np.ndarray, list)):
        return np.zeros((), abstract(value).dtype)
    return value


def _join(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply ``np.concatenate`` or ``np.stack``: its dtype from one element of each part."""
    parts = [abstract(x) for x in args[0]]
    axis = args[1] if len(args) > 1 else kwargs.get("axis", 0)
    ndim = parts[0].ndim + (function is np.stack)
    if not isinstance(axis, int) or not -ndim <= axis < ndim:
        return _of_dummies(function, args, kwargs)
    axis %= ndim
    shapes = [x.shape for x in parts]
    others = [s if function is np.stack else (*s[:axis], *s[axis + 1 :]) for s in shapes]
    if len({*others}) > 1 or "out" in kwargs:
        return _of_dummies(function, args, kwargs)
    one = function([np.zeros((1,) * x.ndim, x.dtype) for x in parts], *args[1:], **kwargs)
    length = len(parts) if function is np.stack else sum(s[axis] for s in shapes)
    return Abstract((*others[0][:axis], length, *others[0][axis:]), one.dtype)


def _pad(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    x = args[0]
    mode = args[2] if len(args) > 2 else kwargs.get("mode", "constant")
    if mode != "constant" or not isinstance(x, Abstract):
        return _of_dummies(function, args, kwargs)
    one = _quietly(function, (np.zeros((1,) * x.ndim, x.dtype), *args[1:]), dict(kwargs))
    return Abstract(tuple(n - 1 + m for n, m in zip(x.shape, one.shape, strict=True)), one.dtype)


def _cast(_function: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Any:
    return Abstract(args[0].shape, np.dtype(args[1]))


def _like(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply ``np.zeros_like`` and its kin."""
    shape = kwargs.get("shape")
    one = function(*(_one_element(x) for x in args), **{**kwargs, "shape": ()})
    first = abstract(args[0])
    return Abstract(first.shape if shape is None else _tuple(shape), one.dtype)


def _attribute(function: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Any:
    return getattr(args[0], function.__name__)


def _result_type(_function: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Any:
    return np.result_type(*(x.dtype if isinstance(x, Abstract) else x for x in args))


def _getitem(function: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> Any:
    x = abstract(args[0])
    parts = args[1] if isinstance(args[1], tuple) else (args[1],)
    if not any(isinstance(part, (Abstract, np.ndarray, list)) for part in parts):
        return _of_dummies(function, args, {})  # a view
    return Abstract(selected_shape(x.shape, parts), x.dtype)


def _take(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Apply ``np.take``: its result is never made, for it may be as large as both together."""
    given = {**dict(zip(("a", "indices", "axis"), args, strict=False)), **kwargs}
    if given.keys() - {"a", "indices", "axis"}:
        return _of_dummies(function, args, kwargs)
    x, indices, axis = abstract(given["a"]), given["indices"], given.get("axis")
    shape = (x.size,) if axis is None else x.shape
    at = normalize_axis_index(0 if axis is None else axis, len(shape))
    if not np.can_cast(abstract(indices).dtype, np.intp):
        raise TypeError(f"indices are integers, not of dtype {abstract(indices).dtype}")
    check_bounds(indices, shape[at], at)
    return Abstract((*shape[:at], *abstract(indices).shape, *shape[at + 1 :]), x.dtype)


def _counted(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if any(isinstance(x, Abstract) for x in (*args[1:], *kwargs.values())):
        _data_dependent(function, args, kwargs)
    return _of_dummies(function, args, kwargs)


def _at(target: Any, index: Any, operand: Any = 0) -> None:
    """Apply ``np.add.at`` and its kin, which change elements of their first argument only."""
    selected = abstract(_getitem(operator.getitem, (abstract(target), index), {})).shape
    if np.broadcast_shapes(selected, abstract(operand).shape) != selected:
        raise ValueError(f"operands of shape {abstract(operand).shape} do not fit {selected}")


def _data_dependent(function: Any, _args: Any, _kwargs: Any) -> Never:
    raise NotTraceableError(
        f"the result of np.{getattr(function, '__name__', function)} depends on the elements in "
        f"its shape, or is a Python value"
    )


def _of_dummies(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a function on zeros that take no memory, and see what its result is like."""
    try:
        result = _quietly(function, _dummies(args), _dummies(dict(kwargs)))
    except np.linalg.LinAlgError:  # of zeros; what the identity does not suit, no matrix does
        args, kwargs = _dummies(args, _identity), _dummies(dict(kwargs), _identity)
        result = _quietly(function, args, kwargs)
    return _known(function, result)


_warnings_changed = threading.RLock()
"""Which warnings are shown is a setting of the process."""


def _quietly(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a function whose warnings would be about elements that mean nothing."""
    with _warnings_changed, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


def _zeros(value: Abstract) -> Any:
    return np.broadcast_to(np.zeros((), value.dtype), value.shape)


def _identity(value: Abstract) -> Any:
    if value.ndim < 2:
        return _zeros(value)
    return np.broadcast_to(np.eye(*value.shape[-2:], dtype=value.dtype), value.shape)


def _dummies(value: Any, dummy: Callable[[Abstract], Any] = _zeros) -> Any:
    if isinstance(value, Abstract):
        return dummy(value)
    if isinstance(value, (tuple, list)):
        return rebuilt(value, [_dummies(part, dummy) for part in value])
    if isinstance(value, dict):
        return {key: _dummies(part, dummy) for key, part in value.items()}
    return value


def rebuilt(original: Any, parts: list[Any]) -> Any:
    """Return parts as a list or tuple of the original's kind; named tuples are tuples too."""
    make = getattr(type(original), "_make", type(original))
    return make(parts)


def _known(function: Any, result: Any) -> Any:
    if isinstance(result, (np.ndarray, np.generic)):
        return Abstract(result.shape, result.dtype)
    if isinstance(result, (tuple, list)):
        return rebuilt(result, [_known(function, part) for part in result])
    if result is None:
        return None
    return _data_dependent(function, (), {})


def _tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


_RULES: dict[Any, Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Any]] = {
    cast: _cast,
    operator.getitem: _getitem,
    np.matmul: _matmul,
    np.dot: _matmul,
    np.result_type: _result_type,
    np.concatenate: _join,
    np.stack: _join,
    np.pad: _pad,
    np.take: _take,
    np.repeat: _counted,
    np.delete: _counted,
    **dict.fromkeys((np.shape, np.ndim, np.size), _attribute),
    **dict.fromkeys((np.sum, np.prod, np.mean, np.std, np.var, np.any, np.all), _reduction),
    **dict.fromkeys((np.max, np.min, np.amax, np.amin, np.argmax, np.argmin), _reduction),
    **dict.fromkeys((np.nansum, np.nanmean, np.nanmax, np.nanmin), _reduction),
    **dict.fromkeys((np.where, np.clip, np.round, np.nan_to_num, np.copy), _elementwise),
    **dict.fromkeys((np.zeros_like, np.ones_like, np.empty_like, np.full_like), _like),
    **dict.fromkeys((np.nonzero, np.flatnonzero, np.argwhere, np.unique), _data_dependent),
    **dict.fromkeys((np.compress, np.extract, np.bincount, np.array_equal), _data_dependent),
    **dict.fromkeys((np.allclose, np.trim_zeros, np.union1d, np.intersect1d), _data_dependent),
    **dict.fromkeys((np.setdiff1d, np.setxor1d, np.count_nonzero), _data_dependent),
}
"""What functions give for abstract values; all others are called on dummies."""
