"""Model files: a graph, its arrays and what it needs, in one safetensors file.

The format of the file is in ``safetensors.py``, that of the graph in ``graph_json.py``, and
what training needs to go on in ``saved_optimizer.py``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
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
)
from mfcore.graph import Graph
from mfcore.graph_json import MOST_ELEMENTS, decoded_graph, encoded_graph, outputs_by_name
from mfcore.json_values import Decoder, Encoder
from mfcore.needed_packs import PACKS, check_packs, needed_packs, origin
from mfcore.node import Array, Node, Parameter
from mfcore.random_states import generator_in
from mfcore.safetensors import Tensors, check_text, encoded, opened, parsed, read_header
from mfcore.saved_optimizer import (
    SavedOptimizer,
    decoded_optimizer,
    decoded_random_state,
    encoded_optimizer,
    encoded_random_state,
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
    _saved: SavedOptimizer | None = attrs.field(default=None, repr=False)
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
        saved = self._saved
        if chosen is None and saved is None:
            return session
        if chosen is None:
            assert saved is not None
            raise ModelFileError(
                f"a hyperparameter of the saved {saved.name} has no place in a file, such as a "
                f"schedule that is a plain function: give an optimizer like it, "
                f"`model.session(optimizer=...)`"
            )
        name = Encoder().optimizer(type(chosen))
        if saved is None:
            raise ModelFileError(
                f"{name} cannot go on: no state was loaded: `mf.load(path, optimizer_state=True)`"
            )
        if name != saved.name:
            raise ModelFileError(f"{name} cannot go on: the state is that of {saved.name}")
        try:
            session.restore(
                session.parameters, chosen, saved.states, updates=self.steps, steps=self.steps
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
        metadata[_OPTIMIZER] = _json(encoded_optimizer(graph, session, with_optimizer))
        packs |= {name: origin(pack) for name, pack in with_optimizer.packs.items()}
        assert session is not None
        metadata[_RANDOM] = _json(encoded_random_state(session))
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
    decoder.migrations = check_packs(packs)
    graph = decoded_graph(description, decoder, most_elements)
    outputs = dict(zip(description["outputs"], graph.outputs, strict=True))
    versions = {name: pack.version for name, pack in packs.items()}
    if optimizer is None:
        return Model(graph, outputs, versions)
    saved, random = decoded_optimizer(optimizer, graph, decoder), None
    if _RANDOM in metadata:  # files of an earlier mfcore do not say it
        random = decoded_random_state(parsed(metadata[_RANDOM], "its random state"))
    return Model(graph, outputs, versions, saved.optimizer, saved.steps, saved, random)


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
