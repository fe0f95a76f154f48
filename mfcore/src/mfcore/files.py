"""Model files: a graph, its arrays and what it needs, in one safetensors file.

The format of the file is in ``safetensors.py``, that of the graph in ``graph_json.py``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs

from mfcore import __version__
from mfcore.atomic_file import write_parts
from mfcore.errors import (
    ExecutionError,
    GraphFormatError,
    ModelFileAccessError,
    ModelFileError,
    type_name,
)
from mfcore.graph import Graph
from mfcore.graph_json import MOST_ELEMENTS, decoded_graph, encoded_graph, outputs_by_name
from mfcore.json_values import Decoder, Encoder
from mfcore.needed_packs import PACKS, check_packs, needed_packs, origin
from mfcore.node import Array, Node, Parameter
from mfcore.optimizer import OptimizerState, optimizer_spec
from mfcore.random_states import generator_in, random_state
from mfcore.safetensors import (
    Tensors,
    brief,
    check_text,
    encoded,
    is_size,
    opened,
    parsed,
    read_header,
)
from mfcore.session import Session

if TYPE_CHECKING:
    import numpy as np

    from mfcore.engine import Engine

_GRAPH, _OPTIMIZER, _RANDOM = "miniflow.graph", "miniflow.optimizer", "miniflow.random"
_RESERVED = "__metadata__"


@attrs.frozen(eq=False)
class Model:
    """What ``mf.load`` returns.

    Attributes
    ----------
    graph : Graph
        The graph; its parameters hold the trained values.
    outputs : dict of str to Node
        The outputs that were saved, by name.
    packs : dict of str to str
        The packs that the file needs, and the versions that it was written with.
    optimizer : optimizer or None
        The optimizer whose state was asked for; ``None`` also where a hyperparameter of it has
        no place in a file, such as a schedule that is a plain function: then give ``session``
        one like it.
    steps : int
        Training steps done by it.
    """

    graph: Graph
    outputs: dict[str, Node]
    packs: dict[str, str]
    optimizer: Any = None
    steps: int = 0
    _optimizer_name: str = attrs.field(default="", repr=False)
    _states: tuple[OptimizerState, ...] = attrs.field(default=(), repr=False)
    _random: dict[str, Any] | None = attrs.field(default=None, repr=False)

    def __getitem__(self, name: str) -> Node:
        """Return the output of a name, or else the node of that name in the graph.

        Raises
        ------
        UnknownNodeError
            If there is none.
        """
        return self.outputs[name] if name in self.outputs else self.graph[name]

    @property
    def parameters(self) -> dict[str, Array]:
        """The trained values by the parameters' names, read-only."""
        return {self.graph.name(node): node.value for node in self.graph.parameters}

    def session(
        self,
        *,
        engine: str | Engine | None = None,
        seed: int | np.random.Generator | None = None,
        optimizer: Any = None,
    ) -> Session:
        """Return a new session with the trained values.

        Parameters
        ----------
        engine : str or Engine, optional
            As for ``Session``.
        seed : int or numpy.random.Generator, optional
            As for ``Session``; by default random numbers go on where those of the saved
            session stood, if the state was asked for.
        optimizer : optimizer, optional
            One that takes over the saved state; by default ``model.optimizer``, if the
            state was asked for.

        Returns
        -------
        Session
            Steps with that optimizer go on where the saved session stood.

        Raises
        ------
        ModelFileError
            If the optimizer is of another class than the saved one, or no state was loaded; or
            none is given although the saved one has no place in a file.
        """
        if seed is None and self._random is not None:
            seed = generator_in(self._random)
        session = Session(self.graph, engine=engine, seed=seed)
        chosen = self.optimizer if optimizer is None else optimizer
        if chosen is None:
            if self._optimizer_name:
                raise ModelFileError(
                    f"a hyperparameter of the saved {self._optimizer_name} has no place in a "
                    f"file, such as a schedule that is a plain function: give an optimizer like "
                    f"it, `model.session(optimizer=...)`"
                )
            return session
        name = Encoder().optimizer(type(chosen))
        if name != self._optimizer_name:
            there = (
                f"the state is that of {self._optimizer_name}"
                if self._optimizer_name
                else ("no state was loaded: `mf.load(path, optimizer_state=True)`")
            )
            raise ModelFileError(f"{name} cannot go on: {there}")
        try:
            session.restore(
                session.parameters, chosen, self._states, updates=self.steps, steps=self.steps
            )
        except ExecutionError as error:
            raise ModelFileError(f"{name} cannot go on: {error}") from error
        return session


def save(
    path: str | os.PathLike[str],
    outputs: Node | Iterable[Node] | Mapping[str, Node] | Graph,
    session: Session | None = None,
    *,
    optimizer_state: bool = False,
) -> None:
    """Save a graph with its arrays into one file; it is written whole or not at all.

    Parameters
    ----------
    path : path
        The file, by custom ``*.safetensors``.
    outputs : Node, iterable of Node, mapping of str to Node, or Graph
        What the model computes; a mapping names the outputs, else they go by their names
        in their graph.
    session : Session, optional
        Whose trained values to save. Without one the parameters' initial values are saved.
    optimizer_state : bool, optional
        Whether to save what the session's optimizer remembers, and where its random numbers
        stand, to go on training later.

    Raises
    ------
    ModelFileError
        If something of the graph has no place in a file, or the session has no value for
        one of its parameters, or no optimizer, or random numbers by a generator that is none
        of NumPy's. ``ModelFileAccessError`` if the file cannot
        be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import mfcore as mf
    >>> x, W = mf.Input("x"), mf.Parameter([2.0, 3.0], name="W")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     mf.save(path, {"y": x * W})
    ...     model = mf.load(path)
    >>> model.session().run({"x": 2.0})[model["y"]]
    array([4., 6.])
    """
    with _naming("save", path):
        write_parts(path, _contents(outputs, session, optimizer_state))


def load(path: str | os.PathLike[str], *, optimizer_state: bool = False) -> Model:
    """Load what ``mf.save`` has saved, without believing the file anything.

    Operations are found in the registry in use, and nothing of the file is executed. A pack
    that is missing is named, with the command that installs it. One of another version than
    the file was written with is used by the pack's own rule, ``mf_file_compatibility``; by
    default with a warning, unless both versions begin with the same two numbers, as 1.4.0 and
    1.4.7 do.

    Parameters
    ----------
    path : path
        The file.
    optimizer_state : bool, optional
        Whether to load what the optimizer remembered too, and where random numbers stood; its
        pack is needed only then.

    Returns
    -------
    Model
        The graph, its outputs by name, and sessions with the trained values.

    Raises
    ------
    ModelFileError
        If the file is damaged or none of ours, needs a pack that is not there, is refused by
        a pack of another version, or has no state of an optimizer although it was asked for.
        ``ModelFileAccessError`` if it
        cannot be read.

    Warns
    -----
    PackVersionWarning
        If a pack has another version than the file was written with, and its rule says so.
    """
    with _naming("load", path), opened(path) as file:
        header = read_header(file)
        # Reading the arrays takes as much as inferring shapes with arrays of their size.
        stored = sum(math.prod(tensor.shape) for tensor in header.tensors.values())
        decoder = Decoder(Tensors(file, header))
        return _model(header.metadata, decoder, max(MOST_ELEMENTS, stored), optimizer_state)


# Writing


def _contents(
    outputs: Any, session: Session | None, optimizer_state: bool
) -> Iterable[bytes | memoryview]:
    graph, names = outputs_by_name(outputs)
    tensors: dict[str, Array] = {}

    def store(array: Array, label: str) -> str:
        while label in tensors or label == _RESERVED:
            label += "_"
        tensors[label] = array
        return label

    encoder = Encoder(store)
    description = encoded_graph(graph, names, encoder, _values_of(graph, session))
    metadata = {"format": "miniflow", _GRAPH: _json(description)}
    packs = {"mfcore": {"distribution": "mfcore", "version": __version__}}
    packs |= {name: origin(pack) for name, pack in sorted(encoder.packs.items())}
    if optimizer_state:
        with_optimizer = Encoder(store)
        metadata[_OPTIMIZER] = _json(_optimizer_entry(graph, session, with_optimizer))
        packs |= {name: origin(pack) for name, pack in with_optimizer.packs.items()}
        metadata[_RANDOM] = _json(_random_entry(session))
    metadata[PACKS] = _json(packs)
    return encoded(tensors, metadata)


def _values_of(graph: Graph, session: Session | None) -> Callable[[Parameter], Array] | None:
    if session is None:
        return None
    values = session.parameters
    if strange := [node for node in graph.parameters if node not in values]:
        raise ModelFileError(
            f"the session has no value for {graph.describe(strange[0])}: it is no parameter of "
            f"the graph that the session runs"
        )
    return values.__getitem__


def _optimizer_entry(graph: Graph, session: Session | None, encoder: Encoder) -> dict[str, Any]:
    updates = None if session is None else session.optimizer_state()
    if session is None or updates is None:
        raise ModelFileError("there is no state of an optimizer: no session that has trained")
    optimizer, by_node = (
        updates.optimizer,
        dict(zip(session.graph.parameters, updates.states, strict=True)),
    )
    try:
        hyperparameters: Any = {
            name: encoder.value(getattr(optimizer, name), f"optimizer.{name}")
            for name in optimizer_spec(optimizer).hyperparameters
        }
    except GraphFormatError:  # a schedule: any function may be one
        hyperparameters = None
    return {
        "optimizer": encoder.optimizer(type(optimizer)),
        "hyperparameters": hyperparameters,
        "steps": updates.steps,
        "states": [
            encoder.value(tuple(by_node[node]), f"optimizer.{graph.name(node)}")
            for node in graph.parameters
        ],
    }


def _random_entry(session: Session | None) -> dict[str, Any]:
    assert session is not None
    state = random_state(session.rng)
    try:
        generator_in(state)
    except ValueError as error:
        raise ModelFileError(f"the session's random numbers cannot be saved: {error}") from None
    return state


def _json(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    try:
        check_text(text, value)
    except UnicodeError as error:
        raise ModelFileError(f"a name, or other text, has no place in a file: {error}") from None
    return text


# Reading


def _model(
    metadata: Mapping[str, str], decoder: Decoder, most_elements: int, optimizer_state: bool
) -> Model:
    if _GRAPH not in metadata:
        raise ModelFileError(f"no model of MiniFlow: its metadata have no {_GRAPH!r}")
    description = parsed(metadata[_GRAPH], "its graph")
    optimizer = None
    if optimizer_state:
        if _OPTIMIZER not in metadata:
            raise ModelFileError("it was saved without the state of an optimizer")
        optimizer = parsed(metadata[_OPTIMIZER], "its optimizer")
    packs = needed_packs(metadata, _names(description, optimizer))
    check_packs(packs)
    graph = decoded_graph(description, decoder, most_elements)
    outputs = dict(zip(description["outputs"], graph.outputs, strict=True))
    versions = {name: pack.version for name, pack in packs.items()}
    if optimizer is None:
        return Model(graph, outputs, versions)
    return Model(
        graph, outputs, versions, *_optimizer(optimizer, graph, decoder), _random(metadata)
    )


def _names(*contents: Any) -> Iterator[str]:
    """Yield the qualified names in what a file holds, whatever that is."""
    left = list(contents)
    while left:
        content = left.pop()
        if isinstance(content, list):
            left += content
        elif isinstance(content, dict):
            left += content.values()
            for kind in ("operation", "optimizer", "schedule"):
                if isinstance(content.get(kind), str):
                    yield content[kind]


def _random(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return where random numbers stood; files of an earlier mfcore do not say it."""
    if _RANDOM not in metadata:
        return None
    state = parsed(metadata[_RANDOM], "its random state")
    try:
        generator_in(state)
    except ValueError as error:
        raise ModelFileError(f"its random state cannot be used: {error}") from None
    return state  # type: ignore[no-any-return]


def _optimizer(
    entry: Any, graph: Graph, decoder: Decoder
) -> tuple[Any, int, str, tuple[OptimizerState, ...]]:
    """Return the optimizer, its steps, its name, and its state of each parameter."""
    keys = {"optimizer", "hyperparameters", "steps", "states"}
    if not isinstance(entry, dict) or entry.keys() != keys:
        raise ModelFileError(f"its optimizer must have {', '.join(sorted(keys))}")
    name, given, steps, states = (
        entry[key] for key in ("optimizer", "hyperparameters", "steps", "states")
    )
    if not is_size(steps) or not isinstance(states, list):
        raise ModelFileError("its optimizer must have a number of steps, and a list of states")
    if len(states) != len(graph.parameters):
        raise ModelFileError(
            f"it has the optimizer's state of {len(states)} parameters, and "
            f"{len(graph.parameters)} parameters"
        )
    cls = decoder.optimizer(name)
    optimizer = None
    if given is not None:
        if not isinstance(given, dict) or given.keys() - set(optimizer_spec(cls).hyperparameters):
            raise ModelFileError(f"{name} has no such hyperparameters as {brief(given)}")
        values = {key: decoder.value(value) for key, value in given.items()}
        try:
            optimizer = cls(**values)
            expected = [
                optimizer_spec(cls).initial_state(optimizer, node.value)
                for node in graph.parameters
            ]
        except Exception as error:  # a converter or validator of any pack
            raise ModelFileError(f"{name}: {type_name(error)}: {error}") from error
    decoded = tuple([decoder.value(state) for state in states])
    if optimizer is not None:
        for node, state, first in zip(graph.parameters, decoded, expected, strict=True):
            _check_state(graph, name, node, state, first)
    return optimizer, steps, name, decoded


def _check_state(graph: Graph, name: str, node: Parameter, state: Any, first: Any) -> None:
    if not isinstance(state, tuple) or _kinds(state) != _kinds(first):
        raise ModelFileError(
            f"the state of {graph.name(node)} is {brief(state)}; {name} keeps {_kinds(first)}"
        )


def _kinds(state: Sequence[Any]) -> list[Any]:
    return [(getattr(x, "shape", ()), str(getattr(x, "dtype", type_name(x)))) for x in state]


@contextmanager
def _naming(verb: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Let every error say which file it is about."""
    file = os.fspath(path)
    try:
        yield
    except OSError as error:
        advice = ""
        if verb == "save" and not os.path.isdir(os.path.dirname(file) or "."):
            advice = "; create its folder first"
        raise ModelFileAccessError(
            f"cannot {verb} {file!r}: {error.strerror or error}{advice}"
        ) from error
    except (ModelFileError, GraphFormatError) as error:
        raise ModelFileError(f"cannot {verb} {file!r}: {error}") from error
