"""A graph to and from plain JSON: what model files hold, and what programs may write.

Nothing that is read is believed: names are looked up in the registry and nowhere else,
nodes read only nodes before them, and nothing is allocated that the text, or the file, is
not large enough for. The schema stands in ``docs/files.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mfcore.errors import GraphFormatError, MiniFlowError, ShapeError, type_name
from mfcore.graph import Graph, collector_paused
from mfcore.inference import bounded_inference
from mfcore.json_values import LONGEST_MESSAGE, Decoder, Encoder
from mfcore.node import Array, Constant, Input, Node, Parameter
from mfcore.operation import spec_of
from mfcore.safetensors import MOST_AXES, brief

SCHEMA = 1
"""The version of the schema; what a later version adds, this one refuses to guess."""

_LEAVES: Mapping[str, type[Node]] = {
    "mfcore.Input": Input,
    "mfcore.Parameter": Parameter,
    "mfcore.Constant": Constant,
}
_KEYS = {
    "mfcore.Input": {"operation", "name", "shape", "dtype"},
    "mfcore.Parameter": {"operation", "name", "value"},
    "mfcore.Constant": {"operation", "name", "value"},
}
_OPERATION_KEYS = {"operation", "name", "inputs", "hyperparameters"}

_LARGEST_NUMBER, _LARGEST_SIZE, _LARGEST_PRODUCT = 2**10, 2**14, 2**20
"""Of single hyperparameters, of those in tuples, of a tuple's product.

Beyond them the shape of an operation that does not say its result's is not inferred: to do
it, some make arrays of such sizes, or loop over them. A single number may stand for two, as a
window's size does.
"""

MOST_ELEMENTS = 2**22
"""Of the inputs on which such an operation is read: of larger ones large axes are unknown to it."""

_MOST_CASES = 20_000
"""Of shapes that are tried for all nodes of a graph, before what does not fit is left to runs."""

_PROBED = 23
"""The largest size that is tried for an axis of any size."""


def graph_to_dict(outputs: Node | Iterable[Node] | Mapping[str, Node] | Graph) -> dict[str, Any]:
    """Return a graph as plain JSON: dictionaries, lists, strings and numbers.

    Parameters
    ----------
    outputs : Node, iterable of Node, mapping of str to Node, or Graph
        The outputs of the graph; a mapping names them, else they go by their names in it.

    Returns
    -------
    dict
        By the schema in ``docs/files.md``. Parameters and constants are in it, element by
        element; ``mf.save`` writes arrays more compactly.

    Raises
    ------
    GraphFormatError
        If something of the graph has no place in JSON: an operation that no enabled pack
        provides, or a hyperparameter that is neither data nor an operation.

    Examples
    --------
    >>> import mfcore as mf
    >>> x = mf.Input("x")
    >>> graph_to_dict({"double": x * 2})["nodes"][2]
    {'operation': 'mfops_basic.Mul', 'inputs': [0, 1]}
    """
    graph, names = outputs_by_name(outputs)
    return encoded_graph(graph, names, Encoder())


def graph_from_dict(description: Mapping[str, Any]) -> Graph:
    """Build the graph that plain JSON describes.

    Parameters
    ----------
    description : mapping
        By the schema in ``docs/files.md``; operations may go by short names.

    Returns
    -------
    Graph
        Its outputs are in the order of ``description["outputs"]``.

    Raises
    ------
    GraphFormatError
        If the description breaks the schema, or names what no enabled pack provides.

    Examples
    --------
    >>> import mfcore as mf
    >>> graph = graph_from_dict({
    ...     "schema": 1,
    ...     "nodes": [
    ...         {"operation": "mfcore.Input", "name": "x", "shape": [None, 2]},
    ...         {"operation": "mfops_basic.Sum", "inputs": [0], "hyperparameters": {"axis": 1}},
    ...     ],
    ...     "outputs": {"total": 1},
    ... })
    >>> mf.Session(graph).run({"x": [[1.0, 2.0]]})[graph.outputs[0]]
    array([3.])
    """
    return decoded_graph(description, Decoder(short_names=True))


def outputs_by_name(
    outputs: Node | Iterable[Node] | Mapping[str, Node] | Graph,
) -> tuple[Graph, dict[str, Node]]:
    """Return the graph of outputs, and the outputs by name.

    Raises
    ------
    GraphFormatError
        If a name is no string.
    GraphError
        If they are no outputs of a graph.
    """
    if isinstance(outputs, Mapping):
        for name in outputs:
            if not isinstance(name, str) or not name.strip():
                raise GraphFormatError(f"an output's name must be a non-empty string, not {name!r}")
        return Graph(*outputs.values()), dict(outputs)
    graph = outputs if isinstance(outputs, Graph) else Graph(outputs)  # type: ignore[arg-type]
    return graph, {graph.name(node): node for node in graph.outputs}


def encoded_graph(
    graph: Graph,
    names: Mapping[str, Node],
    encoder: Encoder,
    value_of: Callable[[Parameter], Array] | None = None,
) -> dict[str, Any]:
    """Return the description of a graph; see ``graph_to_dict``.

    Parameters
    ----------
    graph : Graph
        The graph.
    names : mapping of str to Node
        Its outputs.
    encoder : Encoder
        Says how arrays are written, and takes note of the packs that are needed.
    value_of : callable, optional
        Returns the value to write for a parameter, by default its initial one.
    """
    nodes = []
    for node, sources in zip(graph.nodes, graph.sources, strict=True):
        try:
            entry: dict[str, Any] = {"operation": encoder.operation(type(node))}
            if node.name is not None:
                entry["name"] = node.name
            label = graph.name(node)
            if isinstance(node, Input):
                entry |= _input_entry(node)
            elif isinstance(node, Parameter):
                value = node.value if value_of is None else value_of(node)
                entry["value"] = encoder.array(value, label)
            elif isinstance(node, Constant):
                entry["value"] = encoder.value(node.value, label)
            else:
                entry["inputs"] = list(sources)
                if given := _hyperparameters(node, label, encoder):
                    entry["hyperparameters"] = given
        except GraphFormatError as error:
            raise GraphFormatError(f"{graph.describe(node)}: {error}") from None
        nodes.append(entry)
    return {
        "schema": SCHEMA,
        "nodes": nodes,
        "outputs": {name: graph.position(node) for name, node in names.items()},
    }


def _input_entry(node: Input) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if node.shape is not None:
        entry["shape"] = list(node.shape)
    if node.dtype is not None:
        entry["dtype"] = node.dtype.name
    return entry


def _hyperparameters(node: Node, label: str, encoder: Encoder) -> dict[str, Any]:
    given = {}
    for name in spec_of(node).hyperparameters:
        try:
            given[name] = encoder.value(getattr(node, name), f"{label}.{name}")
        except GraphFormatError as error:
            raise GraphFormatError(f"hyperparameter {name}: {error}") from None
    return given


def decoded_graph(description: Any, decoder: Decoder, most_elements: int = MOST_ELEMENTS) -> Graph:
    """Return the graph of a description; see ``graph_from_dict``.

    Parameters
    ----------
    description : object
        What was read, whatever it is.
    decoder : Decoder
        Reads values, and looks names up.
    most_elements : int, optional
        Of arrays that may be made to infer shapes.

    Raises
    ------
    GraphFormatError
        If the description breaks the schema, or a node cannot be built.
    """
    _check_keys(description, {"schema", "nodes", "outputs"}, {"schema", "nodes", "outputs"})
    schema = description["schema"]
    if type(schema) is not int or schema != SCHEMA:
        raise GraphFormatError(
            f"it is written in schema {brief(schema)}; this version of mfcore reads {SCHEMA}"
        )
    entries, outputs = description["nodes"], description["outputs"]
    if not isinstance(entries, (list, tuple)) or not isinstance(outputs, Mapping) or not outputs:
        raise GraphFormatError("nodes must be a list, and outputs positions by name, at least one")
    built: list[Node] = []
    with collector_paused(), bounded_inference(_MOST_CASES):
        for position, entry in enumerate(entries):
            built.append(_node(position, entry, built, decoder, most_elements))
    for name, place in outputs.items():
        if not isinstance(name, str) or not name.strip() or not _is_position(place, len(built)):
            raise GraphFormatError(f"output {brief(name)}: {brief(place)} is no node's position")
    try:
        graph = Graph(*(built[place] for place in outputs.values()))
    except MiniFlowError as error:
        raise GraphFormatError(str(error)[:LONGEST_MESSAGE]) from None
    if len(graph) < len(built):
        unused = next(i for i, node in enumerate(built) if node not in graph)
        raise GraphFormatError(f"node {unused} is needed by no output")
    return graph


def _node(
    position: int, entry: Any, built: list[Node], decoder: Decoder, most_elements: int
) -> Node:
    """Build one node, whatever the description says of it, or say why it cannot be."""
    label = f"node {position}"
    try:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("operation"), str):
            raise GraphFormatError("it must be an object with the name of an operation")
        operation = entry["operation"]
        label += f" ({operation[:80]})"
        name = entry.get("name")
        if name is not None and not isinstance(name, str):
            raise GraphFormatError(f"name must be a string, not {type_name(name)}")
        if operation in _LEAVES:
            return _leaf(operation, entry, name, decoder)
        return _application(operation, entry, name, built, decoder, most_elements)
    except GraphFormatError as error:
        raise GraphFormatError(f"{label}: {error}") from error.__cause__
    except Exception as error:  # a converter or validator of any pack
        said = str(error)[:LONGEST_MESSAGE]
        raise GraphFormatError(f"{label}: {type_name(error)}: {said}") from error


def _leaf(operation: str, entry: Mapping[str, Any], name: Any, decoder: Decoder) -> Node:
    allowed = _KEYS[operation]
    _check_keys(entry, allowed, allowed & {"operation", "value"})
    if operation == "mfcore.Input":
        shape = entry.get("shape")
        if shape is not None and not isinstance(shape, (list, tuple)):
            raise GraphFormatError("shape must be a list of sizes and null")
        if shape is not None and len(shape) > MOST_AXES:
            raise GraphFormatError(f"an array has at most {MOST_AXES} axes, not {len(shape)}")
        dtype = None if entry.get("dtype") is None else decoder.dtype(entry["dtype"])
        return Input(name, shape=None if shape is None else tuple(shape), dtype=dtype)
    if operation == "mfcore.Parameter":
        value = decoder.value(entry["value"])
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise GraphFormatError(f"the value must be an array of floats, not {type_name(value)}")
        return Parameter(value, name)
    value = decoder.value(entry["value"])
    if not isinstance(value, (np.ndarray, bool, int, float)):
        raise GraphFormatError(f"the value must be an array or a number, not {type_name(value)}")
    return Constant(value, name)


def _application(
    operation: str,
    entry: Mapping[str, Any],
    name: Any,
    built: list[Node],
    decoder: Decoder,
    most_elements: int,
) -> Node:
    _check_keys(entry, _OPERATION_KEYS, {"operation", "inputs"})
    given = entry.get("hyperparameters", {})
    if not isinstance(given, Mapping):
        raise GraphFormatError("hyperparameters must be an object")
    operation, values = decoder.migrated(
        operation, {key: decoder.value(value) for key, value in given.items()}
    )
    cls: Any = decoder.operation(operation)
    spec = spec_of(cls)
    places = entry["inputs"]
    if not isinstance(places, (list, tuple)):
        raise GraphFormatError("inputs must be a list of positions of nodes")
    for place in places:
        if not _is_position(place, len(built)):
            there = f"from 0 to {len(built) - 1}" if built else "and there is none"
            raise GraphFormatError(
                f"its input {brief(place)} is no position of a node before it, {there}"
            )
    needed = len(spec.inputs)
    if len(places) < needed if spec.variadic else len(places) != needed:
        raise GraphFormatError(f"it has {len(places)} inputs; it needs {', '.join(spec.inputs)}")
    if unknown := [key for key in values if key not in spec.hyperparameters]:
        known = ", ".join(spec.hyperparameters) or "none"
        raise GraphFormatError(f"it has no hyperparameter {brief(unknown[0])}; it has {known}")
    inputs = [built[place] for place in places]
    # The core's own know it from their inputs; to say it makes nothing.
    if spec.shape_and_dtype is not None or cls.__module__.startswith("mfcore."):
        return cls(*inputs, **values, name=name)  # type: ignore[no-any-return]
    if any(map(_is_large, values.values())):
        return _built_on([Input() for _ in inputs], cls, inputs, values, name)
    stand_ins = [_stand_in(node, most_elements) for node in inputs]
    try:
        return _built_on(stand_ins, cls, inputs, values, name)
    except ShapeError:
        if stand_ins == inputs:
            raise
        return _built_on([Input() for _ in inputs], cls, inputs, values, name)


def _stand_in(node: Node, most_elements: int) -> Node:
    """Return a node to infer shapes with: of a large one an input with axes of any size."""
    known = node._known
    if known is None or math.prod(n for n in known.shape if n) <= most_elements:
        return node
    shape = list(known.shape)
    for axis in sorted(range(len(shape)), key=lambda axis: shape[axis] or 0, reverse=True):
        if (shape[axis] or 0) > _PROBED and _tried(shape) > most_elements:
            shape[axis] = None
    return (
        Input(shape=tuple(shape), dtype=known.dtype) if _tried(shape) <= most_elements else Input()
    )


def _tried(shape: Sequence[int | None]) -> int:
    return math.prod(n or _PROBED for n in shape)


def _built_on(
    stand_ins: list[Node], cls: Any, inputs: list[Node], values: Mapping[str, Any], name: Any
) -> Node:
    """Build a node on stand-ins for its inputs, which it then gets."""
    node: Node = cls(*stand_ins, **values, name=name)
    if stand_ins == inputs:
        return node
    own: dict[Any, Node] = dict(zip(stand_ins, inputs, strict=True))
    for field in spec_of(cls).inputs:
        held = getattr(node, field)
        object.__setattr__(
            node, field, tuple(own[x] for x in held) if type(held) is tuple else own[held]
        )
    return node


def _is_large(value: Any) -> bool:
    if type(value) is int:
        return abs(value) > _LARGEST_NUMBER
    if not isinstance(value, (tuple, list)):
        return False
    sizes = [abs(n) for n in value if type(n) is int and n]
    return (
        max(sizes, default=0) > _LARGEST_SIZE
        or math.prod(sizes) > _LARGEST_PRODUCT
        or any(_is_large(part) for part in value if type(part) is not int)
    )


def _is_position(place: Any, count: int) -> bool:
    return type(place) is int and 0 <= place < count


def _check_keys(entry: Any, allowed: set[str], needed: set[str]) -> None:
    if not isinstance(entry, Mapping):
        raise GraphFormatError(f"a graph is described by an object, not {type_name(entry)}")
    if missing := sorted(needed - entry.keys()):
        raise GraphFormatError(f"it lacks {', '.join(missing)}")
    if unknown := [key for key in entry if key not in allowed]:
        raise GraphFormatError(
            f"it has {brief(unknown[0])}, which the schema does not know; it knows "
            f"{', '.join(sorted(allowed))}"
        )
