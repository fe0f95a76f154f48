"""A graph as a plain Python function, for inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mfcore.engine import Engine, Program, find_engine
from mfcore.errors import FeedError, GraphError, MissingFeedError
from mfcore.feeding import Feeding
from mfcore.graph import Graph
from mfcore.node import Array, Input, Node, describe
from mfcore.run import read_only

if TYPE_CHECKING:
    from mfcore.session import Session


def function(
    inputs: Input | Sequence[Input],
    outputs: Node | Sequence[Node],
    *,
    session: Session | None = None,
    engine: str | Engine | None = None,
) -> Callable[..., Any]:
    """Return a graph as a function of arrays.

    The function keeps nothing between its calls: it may be called from several threads, and
    from within itself, with batches of any size. Operations are told that nothing is being
    trained.

    Parameters
    ----------
    inputs : Input or sequence of Input
        The function's arguments, in order.
    outputs : Node or sequence of Node
        What it returns: an array for a node, a tuple for a sequence.
    session : Session, optional
        Whose present parameters to use, copied; by default their initial values.
    engine : str or Engine, optional
        As for ``Session``.

    Raises
    ------
    GraphError
        If an argument is no input, or one that the outputs need is missing.

    Examples
    --------
    >>> import numpy as np
    >>> import mfcore as mf
    >>> x, w = mf.Input("x"), mf.Parameter(2.0)
    >>> double = mf.function(x, x * w)
    >>> double(np.array([1.0, 2.0]))
    array([2., 4.])
    """
    single = isinstance(outputs, Node)
    asked = (inputs,) if isinstance(inputs, Node) else tuple(inputs)
    wanted: tuple[Node, ...] = (outputs,) if isinstance(outputs, Node) else tuple(outputs)
    graph = Graph(*wanted)
    for node in asked:
        if not isinstance(node, Input):
            what = describe(node) if isinstance(node, Node) else repr(node)
            raise GraphError(f"the arguments of a function are inputs, not {what}")
    if len(set(asked)) != len(asked):
        raise GraphError("an input is given twice")
    if missing := [node for node in graph.inputs if node not in asked]:
        names = ", ".join(graph.describe(node) for node in missing[:12])
        raise GraphError(f"the outputs need {names}: add to the function's inputs")
    values = [node.value if session is None else session[node] for node in graph.parameters]
    chosen = engine if isinstance(engine, Engine) else find_engine(engine)
    places = [asked.index(node) for node in graph.inputs]
    return chosen.compile(graph).function(places, len(asked), values, single)


class GraphFunction:
    """A graph as a function, on any engine: a run of its own for each call."""

    def __init__(
        self,
        program: Program,
        places: Sequence[int],
        count: int,
        values: Sequence[Array],
        single: bool,
    ) -> None:
        self.program = program
        graph = program.graph
        self.count = count
        self.single = single
        self._places = places
        self._parameters = [
            (graph.position(node), value)
            for node, value in zip(graph.parameters, values, strict=True)
        ]
        self._outputs = [graph.position(node) for node in graph.outputs]
        self._feed = Feeding(graph, [graph.position(node) for node in graph.inputs])

    def __repr__(self) -> str:
        inputs = ", ".join(self.program.graph.name(node) for node in self.program.graph.inputs)
        return f"<function of {inputs} on {self.program.graph!r}>"

    def __call__(self, *arrays: Any) -> Any:
        """Return the outputs for these inputs.

        Raises
        ------
        FeedError
            If an array does not fit its input, or their number is wrong.
        ForwardError
            If an operation raises.
        """
        if len(arrays) != self.count:
            error = MissingFeedError if len(arrays) < self.count else FeedError
            raise error(f"the function takes {self.count} arrays, {len(arrays)} were given")
        program = self.program
        memory = program.new_memory(None, False)
        graph = program.graph
        given = [arrays[place] for place in self._places]
        self._feed(memory, dict(zip(graph.inputs, given, strict=True)))
        for position, value in self._parameters:
            memory[position] = value
        program.forward(memory)
        outputs = tuple([self._own(memory[i], given) for i in self._outputs])
        return outputs[0] if self.single else outputs

    def _own(self, value: Any, given: Sequence[Any]) -> Any:
        """Return an output that shares no memory with what was given, nor with a parameter."""
        if not isinstance(value, np.ndarray):
            return read_only(value)
        others = [*given, *[parameter for _, parameter in self._parameters]]
        if value.flags.writeable and not any(np.may_share_memory(value, x) for x in others):
            return value
        return value.copy()
