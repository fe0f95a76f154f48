"""What an operation is: ``@operation`` turns a class into one, and checks the contract.

An operation is two pure functions in plain NumPy, ``forward`` and ``backward``. They are
static methods of a class whose fields are its inputs (typed ``Node``) and its
hyperparameters (all others). ``backward`` asks by parameter name for what it needs.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform, overload

import attrs

from mfcore.annotations import annotations_of, holds_nodes, input_kind, type_validator
from mfcore.asking import asked_names, static_function, takes_many
from mfcore.errors import DefinitionError, NodeUseError
from mfcore.node import Constant, Node, as_node
from mfcore.syntax import first_symbol

T = TypeVar("T", bound=type)

FORWARD_EXTRAS = frozenset({"rng", "training"})
BACKWARD_EXTRAS = frozenset({"grad", "value", "saved", "wanted", "training"})
RESERVED = (
    FORWARD_EXTRAS
    | BACKWARD_EXTRAS
    | {"name", "inputs", "forward", "backward", "samples", "site", "qualified_name"}
    | {"shape_and_dtype"}
)


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

    def decorate(cls: Any) -> Any:
        return _build(cls, (*_tuple(ufunc), *_tuple(function)), broadcasts)

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


_NODE_FIELDS = frozenset(field.name for field in attrs.fields(Node))


def _build(cls: type, declared: tuple[Any, ...], broadcasts: bool | Iterable[str]) -> type:
    where = f"operation {cls.__qualname__}"
    if not (isinstance(cls, type) and issubclass(cls, Node)):
        raise DefinitionError(f"{where} must subclass mfcore.Node")
    fields = _Fields(where)
    built: Any = attrs.define(
        cls, eq=False, repr=False, on_setattr=attrs.setters.frozen, field_transformer=fields.read
    )
    inputs, variadic = fields.inputs, fields.variadic
    if not inputs:
        raise DefinitionError(f"{where} has no input: type at least one field as Node")
    built.__operation__ = _spec(built, fields, declared, broadcasts)
    built.inputs = property(_inputs_getter(inputs, variadic), doc=Node.inputs.__doc__)
    if variadic:
        _accept_many(built, inputs)
    if "__attrs_post_init__" in vars(built):
        _keep_site(built)
    return built  # type: ignore[no-any-return]


class _Fields:
    """The fields of a class that becomes an operation: its inputs, and its hyperparameters.

    Parameters
    ----------
    where : str
        Which class, for messages.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.inputs: list[str] = []
        self.hyperparameters: list[str] = []
        self.variadic = False

    def read(self, owner: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
        """Note the names of the fields; return the fields with what converts and checks them."""
        hints = annotations_of(owner)
        return [
            field
            if field.name in _NODE_FIELDS and field.inherited  # type: ignore[attr-defined]
            else self._field(field, hints[field.name])
            for field in fields
        ]

    def _field(self, field: attrs.Attribute[Any], hint: Any) -> attrs.Attribute[Any]:
        name, where = field.name, self.where
        if name in RESERVED or name.startswith("_"):
            raise DefinitionError(f"{where}: a field cannot be called {name!r}")
        kind = input_kind(hint)
        if kind is None and holds_nodes(hint):
            raise DefinitionError(
                f"{where}: {name} is typed {hint}; an input is typed "
                f"`Node`, and a last one that takes any number `tuple[Node, ...]`"
            )
        if kind is None:
            self.hyperparameters.append(name)
            return field.evolve(
                kw_only=True, validator=field.validator or type_validator(hint, name)
            )
        if self.variadic:
            raise DefinitionError(f"{where}: the variadic input must be the last input")
        self.variadic = kind == "variadic"
        self.inputs.append(name)
        return field.evolve(converter=_as_nodes if self.variadic else as_node)


def _spec(
    cls: type, fields: _Fields, declared: tuple[Any, ...], broadcasts: bool | Iterable[str]
) -> OperationSpec:
    """Return what the core knows about an operation, its functions checked."""
    where, inputs = fields.where, fields.inputs
    forward, backward, looks = (
        static_function(cls, name, where) for name in ("forward", "backward", "shape_and_dtype")
    )
    if forward is None:
        raise DefinitionError(f"{where} has no forward")
    provided = {*inputs, *fields.hyperparameters}
    if "result" in inputs:  # what the forward of the operation that is this input has saved
        provided.add("saved_of_result")
    many = inputs[-1] if fields.variadic else None
    forward_asks, forward_keywords = asked_names(forward, provided | FORWARD_EXTRAS, where, many)
    backward_asks, backward_keywords = (
        asked_names(backward, provided | BACKWARD_EXTRAS, where, many)
        if backward
        else ((), frozenset())
    )
    shape_asks, shape_keywords = (
        asked_names(looks, {*inputs, *fields.hyperparameters}, where, many)
        if looks
        else ((), frozenset())
    )
    summed = frozenset(inputs if broadcasts is True else broadcasts or ())
    if unknown := summed - set(inputs):
        raise DefinitionError(f"{where}: broadcasts names {sorted(unknown)}, which are no inputs")
    return OperationSpec(
        name=cls.__name__,
        inputs=tuple(inputs),
        variadic=fields.variadic,
        hyperparameters=tuple(fields.hyperparameters),
        forward=forward,
        backward=backward,
        forward_asks=forward_asks,
        backward_asks=backward_asks,
        forward_keywords=forward_keywords,
        backward_keywords=backward_keywords,
        broadcasts=summed,
        declared=declared,
        shape_and_dtype=looks,
        shape_asks=shape_asks,
        shape_keywords=shape_keywords,
        wanted_type=_wanted_type(inputs, "wanted" in backward_asks and not fields.variadic),
    )


def _wanted_type(inputs: list[str], named: bool) -> Callable[[Iterable[bool]], tuple[bool, ...]]:
    if not named:
        return tuple
    by_name: Any = namedtuple("wanted", inputs)  # type: ignore[misc]
    return by_name._make


def _inputs_getter(names: list[str], variadic: bool) -> Callable[[Any], tuple[Node, ...]]:
    if not variadic:
        get: Any = attrgetter(*names)
        return get if len(names) > 1 else lambda node: (get(node),)
    fixed = [attrgetter(name) for name in names[:-1]]
    last = attrgetter(names[-1])
    return last if not fixed else lambda node: (*(get(node) for get in fixed), *last(node))


def _accept_many(cls: Any, inputs: list[str]) -> None:
    """Let a variadic operation take its inputs one by one: ``Add(x, y, z)``."""
    attrs_init = cls.__init__
    fixed = len(inputs) - 1

    def init(self: Any, *nodes: Any, **fields: Any) -> None:
        if not fields and not fixed:  # as most are built, and worth the shorter way
            attrs_init(self, nodes)
        elif inputs[-1] in fields:
            attrs_init(self, *nodes, **fields)
        else:
            attrs_init(self, *nodes[:fixed], nodes[fixed:], **fields)

    init.__name__, init.__qualname__ = "__init__", f"{cls.__qualname__}.__init__"
    cls.__init__ = init


def _keep_site(cls: Any) -> None:
    """Let a class with an ``__attrs_post_init__`` of its own remember where it was built."""
    own = cls.__attrs_post_init__

    def post_init(self: Any) -> None:
        Node.__attrs_post_init__(self)
        own(self)
        # Again: where ``own`` calls ``super()``, that recorded a line of the operation itself.
        Node.__attrs_post_init__(self)

    cls.__attrs_post_init__ = post_init


def _as_nodes(values: Any) -> tuple[Node, ...]:
    nodes = tuple([value if isinstance(value, Node) else Constant(value) for value in values])
    if not nodes:
        raise NodeUseError("a variadic operation needs at least one input")
    return nodes
