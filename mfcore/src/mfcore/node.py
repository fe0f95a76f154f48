"""What a vertex of a computation graph is: ``Node`` and its three leaves.

A node is one vertex: an ``Input`` (fed at each run), a ``Parameter`` (trained), a
``Constant``, or an operation applied to other nodes (see ``operation.py``). Nodes are
immutable, hold no results, and compare by identity. NumPy functions and operators on
nodes build further nodes (see ``dispatch.py``).
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Never, TypeAlias

import attrs
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mfcore import dispatch
from mfcore.errors import DefinitionError, NodeUseError
from mfcore.inference import Known, infer, known_leaf, known_number
from mfcore.site import instructions, internal, line_of
from mfcore.syntax import NumpySyntax
from mfcore.values import as_constant_value, as_dtype, as_parameter_value, as_shape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

    from mfcore.operation import OperationSpec

Array: TypeAlias = NDArray[Any]
"""A NumPy array of any dtype, or the NumPy scalar that stands for a 0-d one."""

NodeLike: TypeAlias = "Node | ArrayLike"
"""What can stand where a node is expected: a node, or a value for a ``Constant``."""

_set = object.__setattr__


def _valid_name(_node: Any, _attribute: Any, name: Any) -> None:
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise NodeUseError(f"a node's name must be a non-empty string, not {name!r}")


@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.frozen)
class Node(NumpySyntax["Node"]):
    """One vertex of a computation graph.

    Parameters
    ----------
    name : str, optional
        A name of your choice, unique in every graph that the node is part of. Nodes
        without one are named per graph, in order: ``linear_1``, ``linear_2``.
    """

    name: str | None = attrs.field(default=None, kw_only=True, validator=_valid_name)
    # Where the node was built, and what is known of its value before a run.
    _code: CodeType | tuple[str, int] = attrs.field(init=False)
    _instruction: int = attrs.field(init=False)
    _known: Known | None = attrs.field(init=False)

    # What an operation is, put there by ``@operation``; leaves have none.
    __operation__: ClassVar[OperationSpec | None] = None

    def __init_subclass__(cls) -> None:
        # A class that changes an operation is none until it is decorated itself: else it
        # would run with the functions of the class it is derived from.
        cls.__operation__ = None

    def __attrs_post_init__(self) -> None:
        if self.__operation__ is None and not isinstance(self, (Input, Parameter, Constant)):
            raise DefinitionError(
                f"{type(self).__qualname__} is no operation: decorate the class with @operation"
            )
        # The user's line is found now, cheaply, and turned into a file and number on demand.
        frame = sys._getframe(1)
        code = frame.f_code
        while internal[code.co_filename] and frame.f_back is not None:
            frame = frame.f_back
            code = frame.f_code
        _set(self, "_code", code)
        _set(self, "_instruction", instructions.setdefault(frame.f_lasti, frame.f_lasti))
        _set(self, "_known", self._inferred())

    def _inferred(self) -> Known | None:
        sources = self.inputs
        # Most often one look is enough: nothing is known of an undeclared input.
        return None if sources[0]._known is None else infer(self, sources)

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The nodes that this node reads, in order; empty for a leaf."""
        return ()

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """What the shape will be in any run: ``None`` for an axis of any size.

        ``None`` altogether where it is not known. A field of an operation that is called
        ``shape`` is that field; ``shape_of`` tells of every node.
        """
        return None if self._known is None else self._known.shape

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """What the dtype will be in any run; ``None`` where it is not known."""
        return None if self._known is None else self._known.dtype

    @property
    def ndim(self) -> int | None:
        """Number of axes; ``None`` where it is not known."""
        return None if self._known is None else len(self._known.shape)

    @property
    def size(self) -> int | None:
        """Number of elements; ``None`` where it is not known."""
        known = self._known
        if known is None or None in known.shape:
            return None
        return math.prod(known.shape)  # type: ignore[arg-type]

    @property
    def site(self) -> tuple[str, int]:
        """File and line number of the code that built the node: nearest outside the core."""
        if isinstance(self._code, tuple):
            return self._code
        return line_of(self._code, self._instruction)

    @classmethod
    def qualified_name(cls) -> str:
        """The operation's name with its pack in front: ``mfops_nn.Linear``."""
        return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"

    def __reduce__(self) -> tuple[Any, ...]:
        names = [field.name for field in attrs.fields(type(self)) if field.name != "_known"]
        fields = {name: getattr(self, name) for name in names}
        # The place of birth goes along as file and line: code objects cannot be pickled.
        return _restored, (type(self), {**fields, "_code": self.site})

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<{self.qualified_name()}{name}>"

    def _repr_html_(self) -> str:
        """Return what notebooks show."""
        from mfcore.html import node_html

        return node_html(self)

    # NumPy's syntax: what NumPy is asked to do with nodes becomes a node.

    _numpy = staticmethod(dispatch.call)  # this way a call less than as a method

    def _apply(
        self, operation: Any, inputs: tuple[Any, ...], hyperparameters: Mapping[str, Any]
    ) -> Node:
        return operation(*inputs, **hyperparameters)  # type: ignore[no-any-return]

    def _length(self) -> int | None:
        shape = shape_of(self)
        return shape[0] if shape else None

    def _refuse(self, use: str) -> Never:
        raise NodeUseError(_REFUSALS[use].format(node=describe(self)))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Node:
        if ufunc in _LOGICAL and any(getattr(x, "dtype", None) == np.bool_ for x in args):
            # `bools & node` reaches NumPy first; it means what `node & bools` means.
            ufunc = _LOGICAL[ufunc]
        return super().__array_ufunc__(ufunc, method, *args, **kwargs)

    # Nodes compare by identity; `np.equal(x, y)` compares values.
    __eq__ = object.__eq__
    __ne__ = object.__ne__
    __hash__ = object.__hash__

    def __and__(self, other: NodeLike) -> Node:
        return dispatch.call(np.logical_and, (self, other))

    def __rand__(self, other: NodeLike) -> Node:
        return dispatch.call(np.logical_and, (other, self))

    def __or__(self, other: NodeLike) -> Node:
        return dispatch.call(np.logical_or, (self, other))

    def __ror__(self, other: NodeLike) -> Node:
        return dispatch.call(np.logical_or, (other, self))

    def __xor__(self, other: NodeLike) -> Node:
        return dispatch.call(np.logical_xor, (self, other))

    def __rxor__(self, other: NodeLike) -> Node:
        return dispatch.call(np.logical_xor, (other, self))

    def __invert__(self) -> Node:
        return dispatch.call(np.logical_not, (self,))

    def dot(self, other: NodeLike) -> Node:
        """Matrix product, as ``node @ other``."""
        return dispatch.call(np.matmul, (self, other))


_REFUSALS = {
    "array": (
        "{node} is a node, not an array: it has no value before a run. Run it with "
        "`Session(node).run(feeds)[node]`, or use NumPy functions and operators on it, which "
        "build further nodes"
    ),
    "truth": (
        "the truth of {node} is unknown until a run. To choose between two values use "
        "`np.where(condition, x, y)`; to combine conditions use `np.logical_and`, "
        "`np.logical_or` and `np.logical_not`, not `and`, `or`, `not`"
    ),
    "number": (
        "{node} is a node, not a number: it has no value before a run. Run it with "
        "`Session(node).run(feeds)[node]`"
    ),
    "length": "the length of {node} is unknown until a run",
    "iteration": (
        "{node} cannot be iterated: its length is unknown until a run. Take its parts by "
        "index, `node[0]`, `node[1:]`"
    ),
    "membership": (
        "whether {node} contains a value is unknown until a run. Compare with "
        "`np.equal(node, value)`, or take its parts by index"
    ),
}

_LOGICAL = {
    np.bitwise_and: np.logical_and,
    np.bitwise_or: np.logical_or,
    np.bitwise_xor: np.logical_xor,
}


def _restored(cls: type[Node], fields: dict[str, Any]) -> Node:
    """Return the node that ``Node.__reduce__`` took apart."""
    node = cls.__new__(cls)
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        _set(node, name, value)
    _set(node, "_known", node._inferred())
    return node


def shape_of(node: Node) -> tuple[int | None, ...] | None:
    """Return the shape that a node will have in any run, as far as it is known.

    As ``node.shape``, but also for operations that have a field of that name.

    Parameters
    ----------
    node : Node
        Any node.

    Returns
    -------
    tuple of int or None, or None
        ``None`` within the tuple for an axis of any size, ``None`` if nothing is known.
    """
    return None if node._known is None else node._known.shape


def dtype_of(node: Node) -> np.dtype[Any] | None:
    """Return the dtype that a node will have in any run, ``None`` if it is not known.

    As ``node.dtype``, but also for operations that have a field of that name.
    """
    return None if node._known is None else node._known.dtype


def describe(node: Node, name: str | None = None) -> str:
    """Return a node's name, operation, provider and place of birth, for messages."""
    file, line = node.site
    label = name or node.name
    kind = node.qualified_name()
    return (
        f"{label} ({kind}, built at {file}:{line})" if label else f"{kind} (built at {file}:{line})"
    )


@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.frozen)
class Input(Node):
    """A value fed anew at each run.

    Parameters
    ----------
    name : str, optional
        Name of the input.
    shape : tuple of int or None, optional
        Declared shape; ``None`` for an axis of any size: ``(None, 13)`` is a batch of
        rows. Undeclared: any shape.
    dtype : dtype, optional
        Declared dtype; fed values are cast to it where NumPy's ``same_kind`` rule allows.
    """

    name: str | None = attrs.field(default=None, validator=_valid_name)
    shape: tuple[int | None, ...] | None = attrs.field(
        default=None, kw_only=True, converter=as_shape
    )
    dtype: np.dtype[Any] | None = attrs.field(default=None, kw_only=True, converter=as_dtype)

    def _inferred(self) -> Known | None:
        return None if self.shape is None else known_leaf(self.shape, self.dtype)

    def cast(self, array: Array) -> Array | None:
        """Return an array in the declared dtype, ``None`` where that would lose information."""
        if self.dtype is None or array.dtype == self.dtype:
            return array
        if not np.can_cast(array.dtype, self.dtype, "same_kind"):
            return None
        return array.astype(self.dtype)


@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.frozen)
class Parameter(Node):
    """A trained value. The node keeps the initial value; each session trains a copy.

    Parameters
    ----------
    value : array_like of float
        Initial value, copied. Integers become float64.
    name : str, optional
        Name of the parameter.
    """

    value: Array = attrs.field(converter=as_parameter_value)
    name: str | None = attrs.field(default=None, validator=_valid_name)

    def _inferred(self) -> Known | None:
        return known_leaf(self.value.shape, self.value.dtype)


@attrs.define(eq=False, repr=False, on_setattr=attrs.setters.frozen)
class Constant(Node):
    """A value that never changes.

    Parameters
    ----------
    value : array_like or Python number
        Arrays are copied. A Python number stays one, so that, as in NumPy,
        ``node * 2.0`` keeps the dtype of ``node``.
    name : str, optional
        Name of the constant.
    """

    value: Array | float | int | bool = attrs.field(converter=as_constant_value)
    name: str | None = attrs.field(default=None, validator=_valid_name)

    def _inferred(self) -> Known | None:
        value = self.value
        if isinstance(value, (bool, int, float)):
            return known_number(type(value))
        return known_leaf(value.shape, value.dtype, constant=True)


def as_node(value: Any) -> Node:
    """Return ``value`` if it is a node, else a ``Constant`` that holds it."""
    return value if isinstance(value, Node) else Constant(value)
