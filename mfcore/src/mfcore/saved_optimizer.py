"""What training needs to go on, to and from plain JSON: the optimizer, its state, random numbers.

Nothing that is read is believed: optimizers are looked up in the registry, and a state is of
the sizes that its optimizer keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from mfcore.errors import GraphFormatError, ModelFileError, type_name
from mfcore.graph import Graph
from mfcore.json_values import LONGEST_MESSAGE, Decoder, Encoder
from mfcore.node import Parameter
from mfcore.optimizer import OptimizerState, optimizer_spec
from mfcore.random_states import generator_in, random_state
from mfcore.safetensors import brief, is_size
from mfcore.session import Session


@attrs.frozen(eq=False)
class SavedOptimizer:
    """An optimizer that was at work.

    Attributes
    ----------
    name : str
        Its qualified name.
    optimizer : optimizer or None
        The optimizer; ``None`` where a hyperparameter of it had no place in a file.
    steps : int
        Training steps done by it.
    states : tuple of tuple
        What it remembers of each parameter, in the graph's order.
    """

    name: str
    optimizer: Any
    steps: int
    states: tuple[OptimizerState, ...]


def encoded_optimizer(graph: Graph, session: Session | None, encoder: Encoder) -> dict[str, Any]:
    """Return the optimizer of a session and its state of a graph's parameters.

    Raises
    ------
    ModelFileError
        If there is none, or the state has no place in a file.
    """
    updates = None if session is None else session.optimizer_state()
    if session is None or updates is None:
        raise ModelFileError("there is no state of an optimizer: no session that has trained")
    optimizer = updates.optimizer
    by_node = dict(zip(session.graph.parameters, updates.states, strict=True))
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


def encoded_random_state(session: Session) -> dict[str, Any]:
    """Return where a session's random numbers stand.

    Raises
    ------
    ModelFileError
        If its generator is none of NumPy's.
    """
    state = random_state(session.rng)
    try:
        generator_in(state)
    except ValueError as error:
        raise ModelFileError(f"the session's random numbers cannot be saved: {error}") from None
    return state


def decoded_optimizer(entry: Any, graph: Graph, decoder: Decoder) -> SavedOptimizer:
    """Return the optimizer of a file, whatever that says of it.

    Raises
    ------
    ModelFileError, GraphFormatError
        If it is none, or its state does not belong to the graph's parameters.
    """
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
    if given is not None and not isinstance(given, dict):
        raise ModelFileError(f"{brief(given)} are no hyperparameters")
    name, values = decoder.migrated(
        name, {key: decoder.value(value) for key, value in (given or {}).items()}
    )
    cls = decoder.optimizer(name)
    optimizer = None
    if given is not None:
        if values.keys() - set(optimizer_spec(cls).hyperparameters):
            raise ModelFileError(f"{name} has no such hyperparameters as {brief(values)}")
        try:
            optimizer = cls(**values)
            expected = [
                optimizer_spec(cls).initial_state(optimizer, node.value)
                for node in graph.parameters
            ]
        except Exception as error:  # a converter or validator of any pack
            raise ModelFileError(
                f"{name}: {type_name(error)}: {str(error)[:LONGEST_MESSAGE]}"
            ) from error
    decoded = tuple([decoder.value(state) for state in states])
    if optimizer is not None:
        for node, state, first in zip(graph.parameters, decoded, expected, strict=True):
            _check_state(graph, name, node, state, first)
    return SavedOptimizer(name, optimizer, steps, decoded)


def decoded_random_state(state: Any) -> dict[str, Any]:
    """Return where random numbers stood.

    Raises
    ------
    ModelFileError
        If it is no state of any of NumPy's generators.
    """
    try:
        generator_in(state)
    except ValueError as error:
        raise ModelFileError(f"its random state cannot be used: {error}") from None
    return state  # type: ignore[no-any-return]


def _check_state(graph: Graph, name: str, node: Parameter, state: Any, first: Any) -> None:
    if not isinstance(state, tuple) or _kinds(state) != _kinds(first):
        raise ModelFileError(
            f"the state of {graph.name(node)} is {brief(state)}; {name} keeps {_kinds(first)}"
        )


def _kinds(state: Sequence[Any]) -> list[Any]:
    return [(getattr(x, "shape", ()), str(getattr(x, "dtype", type_name(x)))) for x in state]
