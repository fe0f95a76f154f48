"""What an operation is: ``@operation`` turns a class into one (see ``definition.py``).

An operation is two pure functions in plain NumPy, ``forward`` and ``backward``. They are
static methods of a class whose fields are its inputs (typed ``Node``) and its
hyperparameters (all others). ``backward`` asks by parameter name for what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, dataclass_transform, overload

import attrs

from mfcore.asking import takes_many
from mfcore.errors import BackwardError, DefinitionError
from mfcore.node import Node
from mfcore.syntax import first_symbol

T = TypeVar("T", bound=type)

FORWARD_EXTRAS = frozenset({"rng", "training"})
"""What ``forward`` may ask for beside inputs and hyperparameters."""

BACKWARD_EXTRAS = frozenset({"grad", "value", "saved", "wanted", "training"})
"""What ``backward`` may ask for beside inputs and hyperparameters."""


@attrs.frozen
class OperationSpec:
    """What the core knows about an operation: the class attribute ``__operation__``.

    Attributes
    ----------
    name : str
        The class's name.
    inputs : tuple of str
        Names of the input fields, in order.
    variadic : bool
        Whether the last input field takes any number of nodes.
    hyperparameters : tuple of str
        Names of all other fields.
    forward, backward : callable
        The two functions; ``backward`` is ``None`` where there is no derivative.
    forward_asks, backward_asks : tuple of str
        The parameters of both functions, in order.
    forward_keywords, backward_keywords : frozenset of str
        Those of them that are keyword-only.
    broadcasts : frozenset of str
        Inputs whose gradient the core sums back to the input's shape.
    declared : tuple
        The NumPy functions that the operation stands for.
    shape_and_dtype : callable or None
        Says how the result of ``forward`` looks, where the operation has such a function.
    shape_asks, shape_keywords
        As those of ``forward``.
    """

    name: str
    inputs: tuple[str, ...]
    variadic: bool
    hyperparameters: tuple[str, ...]
    forward: Callable[..., Any]
    backward: Callable[..., Any] | None
    forward_asks: tuple[str, ...]
    backward_asks: tuple[str, ...]
    forward_keywords: frozenset[str]
    backward_keywords: frozenset[str]
    broadcasts: frozenset[str]
    declared: tuple[Callable[..., Any], ...]
    shape_and_dtype: Callable[..., Any] | None
    shape_asks: tuple[str, ...]
    shape_keywords: frozenset[str]
    _wanted_type: Callable[..., tuple[bool, ...]] = attrs.field(repr=False)

    @property
    def differentiable(self) -> bool:
        """Whether gradients pass: ``backward`` exists, and asks for the gradient it is given.

        A ``backward`` that does not, as those of comparisons, says that there is none to pass.
        """
        return "grad" in self.backward_asks

    @property
    def saves(self) -> bool:
        """Whether ``forward`` returns ``(value, saved)``."""
        return "saved" in self.backward_asks

    def wanted(self, flags: Iterable[bool]) -> tuple[bool, ...]:
        """Return what ``backward`` gets as ``wanted``: by position, and by name if not variadic."""
        return self._wanted_type(flags)

    def call_forward(self, given: Mapping[str, Any]) -> Any:
        """Call ``forward`` with what it asks for, by name; a variadic input is one tuple."""
        return self._call(self.forward, self.forward_asks, self.forward_keywords, given)

    def call_shape_and_dtype(self, given: Mapping[str, Any]) -> tuple[tuple[int, ...], Any]:
        """Call ``shape_and_dtype``, where there is one, with what it asks for, by name.

        Its inputs are not arrays, but have ``shape``, ``ndim`` and ``dtype``.
        """
        assert self.shape_and_dtype is not None
        shape, dtype = self._call(self.shape_and_dtype, self.shape_asks, self.shape_keywords, given)
        return tuple(shape), dtype

    def call_backward(self, given: Mapping[str, Any]) -> Any:
        """Call ``backward``, where there is one, with what it asks for, by name."""
        assert self.backward is not None
        return self._call(self.backward, self.backward_asks, self.backward_keywords, given)

    def _call(
        self,
        function: Callable[..., Any],
        asks: tuple[str, ...],
        keywords: frozenset[str],
        given: Mapping[str, Any],
    ) -> Any:
        star = self.inputs[-1] if takes_many(function) else None
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for name in asks:
            if name == star:
                positional.extend(given[name])
            elif name in keywords:
                named[name] = given[name]
            else:
                positional.append(given[name])
        return function(*positional, **named)

    def named_inputs(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return what the inputs are, by field name; those of a variadic field are one tuple."""
        if self.variadic:
            fixed = len(self.inputs) - 1
            values = (*values[:fixed], tuple(values[fixed:]))
        return dict(zip(self.inputs, values, strict=True))

    def keeps_numbers(self, constant: Iterable[bool]) -> bool:
        """Whether inputs that are Python numbers stay such, some inputs being constants.

        As in NumPy they adapt to the dtype of an array that they are broadcast against;
        where there is none they are NumPy's scalars, with shape and dtype.
        """
        return bool(self.broadcasts) and not all(constant)

    def input_names(self, count: int) -> tuple[str, ...]:
        """Names of ``count`` inputs; those of a variadic field are numbered from 0."""
        if not self.variadic:
            return self.inputs
        fixed, last = self.inputs[:-1], self.inputs[-1]
        return fixed + tuple(f"{last}[{i}]" for i in range(count - len(fixed)))


def hyperparameter(**options: Any) -> Any:
    """Declare a hyperparameter: ``attrs.field``, keyword-only.

    Only needed for what an annotation and a default cannot say, such as a validator.

    Examples
    --------
    >>> import mfcore as mf
    >>> from attrs.validators import ge
    >>> rate: float = mf.hyperparameter(default=0.5, validator=ge(0))
    """
    return attrs.field(**{"kw_only": True, **options})


@overload
def operation(cls: T, /) -> T: ...
@overload
def operation(
    *,
    ufunc: Any = None,
    function: Any = None,
    broadcasts: bool | Iterable[str] = False,
) -> Callable[[T], T]: ...
@dataclass_transform(eq_default=False, field_specifiers=(attrs.field, hyperparameter))
def operation(
    cls: Any = None,
    /,
    *,
    ufunc: Any = None,
    function: Any = None,
    broadcasts: bool | Iterable[str] = False,
) -> Any:
    """Turn a subclass of ``Node`` into an operation.

    Parameters
    ----------
    ufunc, function : callable or tuple of callables, optional
        NumPy functions that build this operation when they are called on nodes, such
        as ``np.add`` or ``np.sum``, once a pack provides it.
    broadcasts : bool or iterable of str, optional
        Whether the inputs (or which of them) are broadcast against each other. The core
        then sums gradients back to the shape of the input.

    Raises
    ------
    DefinitionError
        If the class breaks the contract, for instance where a function asks for a name
        that nothing provides.

    Examples
    --------
    >>> import mfcore as mf
    >>> @mf.operation
    ... class Cube(mf.Node):
    ...     x: mf.Node
    ...
    ...     @staticmethod
    ...     def forward(x):
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(grad, x):
    ...         return (3 * x * x * grad,)
    >>> Cube.forward(2.0), Cube.backward(1.0, 2.0)
    (8.0, (12.0,))
    """
    from mfcore.definition import define

    def decorate(cls: Any) -> Any:
        return define(cls, (*_tuple(ufunc), *_tuple(function)), broadcasts)

    return decorate if cls is None else decorate(cls)


def spec_of(operation: type[Node] | Node) -> OperationSpec:
    """Return what the core knows about an operation class or an operation node.

    Raises
    ------
    DefinitionError
        If it is no operation.
    """
    spec = operation.__operation__
    if spec is None:
        cls = operation if isinstance(operation, type) else type(operation)
        raise DefinitionError(f"{cls.__qualname__} is no operation: it lacks @operation")
    return spec


def apply(operation: type[Node], /, *inputs: Any, **hyperparameters: Any) -> Any:
    """Apply an operation to nodes, to arrays, or to whatever the inputs are.

    For writing operations with other operations: on arrays ``forward`` is called, on
    nodes a node is built, so that what uses ``apply`` reads on both, and on everything
    else that has NumPy's syntax.

    Parameters
    ----------
    operation : operation class
        One whose ``forward`` asks only for inputs and hyperparameters.
    *inputs : array or Node
        Its inputs.
    **hyperparameters
        Its hyperparameters; left out ones take their default.
    """
    if (symbol := first_symbol(inputs)) is not None:
        return symbol._apply(operation, inputs, hyperparameters)
    return read_forward(operation, inputs, hyperparameters)


def read_forward(
    operation: type[Node], inputs: tuple[Any, ...], hyperparameters: Mapping[str, Any]
) -> Any:
    """Call an operation's ``forward`` on whatever the inputs are; return the value alone.

    Parameters
    ----------
    operation : operation class
        One whose ``forward`` asks only for inputs and hyperparameters.
    inputs : tuple
        Its inputs, those of a variadic field one by one.
    hyperparameters : mapping
        Its hyperparameters by name; left out ones take their default.

    Raises
    ------
    DefinitionError
        If it asks for what only a run has.
    TypeError
        If a hyperparameter is unknown or lacks a value.
    """
    spec = spec_of(operation)
    given = given_to(operation, spec.forward_asks, inputs, hyperparameters)
    result = spec.call_forward(given)
    return result[0] if spec.saves else result


def given_to(
    operation: type[Node],
    asks: Iterable[str],
    inputs: tuple[Any, ...],
    hyperparameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Return by name what a function of an operation asks for, outside of a run.

    Raises
    ------
    DefinitionError
        If it asks for what only a run has.
    TypeError
        If a hyperparameter is unknown or lacks a value.
    """
    spec = spec_of(operation)
    if missing := [n for n in asks if n in FORWARD_EXTRAS]:
        raise DefinitionError(f"{spec.name} asks for {missing[0]}: apply it in a graph only")
    if unknown := hyperparameters.keys() - set(spec.hyperparameters):
        raise TypeError(f"{spec.name} has no hyperparameter {', '.join(sorted(unknown))}")
    given = {**hyperparameters, **spec.named_inputs(inputs)}
    for name in asks:
        if name not in given:
            given[name] = _default(operation, name)
    return given


def counted(returned: Any, count: int, whose: Callable[[], str] | None = None) -> Sequence[Any]:
    """Return the gradients that a ``backward`` returned as a sequence, one for each input.

    Parameters
    ----------
    returned : object
        What it returned: a tuple, a list, or a single gradient.
    count : int
        How many inputs there are.
    whose : callable, optional
        Describes the node, for the message.

    Raises
    ------
    BackwardError
        If there are more or fewer than there are inputs.
    """
    gradients: Sequence[Any] = returned if isinstance(returned, (tuple, list)) else (returned,)
    if len(gradients) != count:
        of = f" of {whose()}" if whose is not None else ""
        raise BackwardError(
            f"backward{of} returned {len(gradients)} gradients for {count} inputs: it must "
            f"return one for each, None where there is none"
        )
    return gradients


def _default(operation: type[Node], name: str) -> Any:
    """Return the default of a hyperparameter.

    Raises
    ------
    TypeError
        If it has none.
    """
    default: Any = attrs.fields_dict(operation)[name].default
    if default is attrs.NOTHING:
        raise TypeError(f"{operation.__name__} needs its hyperparameter {name}=")
    return default.factory() if hasattr(default, "factory") else default


def _tuple(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
