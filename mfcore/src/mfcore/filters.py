"""What of a run a listener hears: filters by node, operation, phase and training step."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

from mfcore.errors import FilterError, type_name
from mfcore.node import Node

if TYPE_CHECKING:
    from mfcore.graph import Graph

PHASES = ("sort", "forward", "backward", "training")
"""What can be heard, in the order in which it happens."""

Nodes: TypeAlias = "str | Node | Iterable[str | Node]"
Operations: TypeAlias = "str | type[Node] | Iterable[str | type[Node]]"
Phases: TypeAlias = str | Iterable[str]
Steps: TypeAlias = int | Container[int]

_PHASES_OF = {"sort": ("sort",), "run": ("forward", "backward"), "training": ("training",)}
_PASSES = ("mf_run_start", "mf_run_finish")
_STEPS = ("mf_step_start", "mf_step_finish")


class Filter:
    """Which events a listener hears.

    Parameters
    ----------
    nodes : str, Node or iterable of these, optional
        Names of nodes, patterns such as ``"linear_*"``, or nodes themselves.
    operations : str, class or iterable of these, optional
        Names of classes, ``"Linear"`` or ``"mfops_nn.Linear"``, patterns of both, or classes.
        Leaves have names too: ``"Parameter"``.
    phases : str or iterable of str, optional
        Of ``"sort"``, ``"forward"``, ``"backward"`` and ``"training"``.
    steps : int or container of int, optional
        Numbers of training steps, counted from 1 by each session; a single number stands
        for the first so many. Runs outside of training steps are not heard then; sorts and
        epochs are.

    Raises
    ------
    FilterError
        If an argument is none of these.
    """

    def __init__(
        self,
        *,
        nodes: Nodes | None = None,
        operations: Operations | None = None,
        phases: Phases = PHASES,
        steps: Steps | None = None,
    ) -> None:
        self._phases = valid_phases(phases)
        self._steps = None if steps is None else valid_steps(steps)
        self._nodes = None if nodes is None else _valid_nodes(nodes)
        self._operations = None if operations is None else _valid_operations(operations)
        self._graph: Graph | None = None
        self._heard: dict[Node, bool] = {}

    def wants(self, kind: str, step: int | None) -> bool:
        """Whether anything of a kind of events is heard, in a training step or outside of one."""
        if self._phases.isdisjoint(_PHASES_OF[kind]):
            return False
        if self._steps is None or kind == "sort" or (kind == "training" and step is None):
            return True
        return step is not None and step in self._steps

    def passes(self, hook: str, arguments: Mapping[str, Any]) -> bool:
        """Whether one event is heard, in a step that is."""
        if hook in _PASSES:
            return arguments["phase"] in self._phases
        if hook in _STEPS or hook.startswith("mf_epoch"):
            return "training" in self._phases
        phase = hook.split("_")[1]
        if phase not in self._phases:
            return False
        node = arguments.get("node", arguments.get("source"))
        return node is None or self._hears(arguments["graph"], node)

    def _hears(self, graph: Graph, node: Node) -> bool:
        if graph is not self._graph:
            self._graph, self._heard = graph, {}
        heard = self._heard.get(node)
        if heard is None:
            heard = self._heard[node] = self._matches(graph, node)
        return heard

    def _matches(self, graph: Graph, node: Node) -> bool:
        if self._nodes is not None:
            name = graph.name(node)
            if not any(
                node is wanted if isinstance(wanted, Node) else fnmatchcase(name, wanted)
                for wanted in self._nodes
            ):
                return False
        return self._operations is None or is_one_of(node, self._operations)


def is_one_of(node: Node, operations: Iterable[Any]) -> bool:
    """Whether a node's class is one of those named: classes, names, or patterns of names."""
    cls = type(node)
    return any(
        fnmatchcase(cls.__name__, wanted) or fnmatchcase(cls.qualified_name(), wanted)
        if isinstance(wanted, str)
        else issubclass(cls, wanted)
        for wanted in operations
    )


def valid_phases(phases: object) -> frozenset[str]:
    """Return phases as a set.

    Raises
    ------
    FilterError
        If there is no phase of such a name.
    """
    chosen = _several(phases)
    if unknown := [repr(phase) for phase in chosen if phase not in PHASES]:
        raise FilterError(f"there is no phase {', '.join(unknown)}; phases are {', '.join(PHASES)}")
    return frozenset(chosen)


def valid_steps(steps: object) -> Container[int]:
    """Return steps as a container of their numbers; a number stands for the first so many.

    Raises
    ------
    FilterError
        If it is neither.
    """
    if isinstance(steps, Container) and not isinstance(steps, (str, bytes)):
        return steps
    if isinstance(steps, int) and not isinstance(steps, bool) and steps >= 0:
        return range(1, steps + 1)
    raise FilterError(
        f"steps must be a number of steps, or a collection of step numbers such as "
        f"range(1, 4), not {steps!r}"
    )


def _valid_nodes(nodes: object) -> tuple[str | Node, ...]:
    chosen = _several(nodes)
    for wanted in chosen:
        if not isinstance(wanted, (str, Node)):
            raise FilterError(
                f"nodes must be names, patterns such as 'linear_*', or nodes, not "
                f"{type_name(wanted)} {wanted!r}"
            )
    return chosen


def _valid_operations(operations: object) -> tuple[str | type[Node], ...]:
    chosen = _several(operations)
    for wanted in chosen:
        if not isinstance(wanted, str) and not (
            isinstance(wanted, type) and issubclass(wanted, Node)
        ):
            raise FilterError(
                f"operations must be names such as 'Linear' or 'mfops_nn.Linear', or classes, "
                f"not {type_name(wanted)} {wanted!r}"
            )
    return chosen


def _several(value: Any) -> tuple[Any, ...]:
    """Return the elements of a collection; all else stands for itself."""
    if isinstance(value, (str, Node, type)) or not isinstance(value, Iterable):
        return (value,)
    return tuple(value)
