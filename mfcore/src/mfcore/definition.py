"""Turning a class into an operation: its fields are told apart, its functions are checked."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import attrs

from mfcore.annotations import annotations_of, holds_nodes, input_kind, type_validator
from mfcore.asking import asked_names, static_function
from mfcore.errors import DefinitionError, NodeUseError
from mfcore.node import Constant, Node, as_node
from mfcore.operation import BACKWARD_EXTRAS, FORWARD_EXTRAS, OperationSpec

RESERVED = (
    FORWARD_EXTRAS
    | BACKWARD_EXTRAS
    | {"name", "inputs", "forward", "backward", "samples", "site", "qualified_name"}
    | {"shape_and_dtype"}
)
"""What no field can be called."""

_NODE_FIELDS = frozenset(field.name for field in attrs.fields(Node))


def define(cls: type, declared: tuple[Any, ...], broadcasts: bool | Iterable[str]) -> type:
    """Return a class as an operation; ``mfcore.operation`` says what it has to be.

    Parameters
    ----------
    cls : type
        A subclass of ``Node`` with fields, ``forward`` and perhaps ``backward``.
    declared : tuple of callable
        The NumPy functions that it stands for.
    broadcasts : bool or iterable of str
        Whether its inputs, or which of them, are broadcast against each other.

    Raises
    ------
    DefinitionError
        If the class breaks the contract.
    """
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
    """Return what the core is to know about an operation, its functions checked."""
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

    def asked(function: Any, names: Iterable[str]) -> tuple[tuple[str, ...], frozenset[str]]:
        return asked_names(function, names, where, many) if function else ((), frozenset())

    forward_asks, forward_keywords = asked(forward, provided | FORWARD_EXTRAS)
    backward_asks, backward_keywords = asked(backward, provided | BACKWARD_EXTRAS)
    shape_asks, shape_keywords = asked(looks, {*inputs, *fields.hyperparameters})
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
