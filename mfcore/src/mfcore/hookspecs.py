"""The hooks: everything that a pack can provide, and every moment it can listen to.

A plugin (a module or an object) implements any of these with ``@mfcore.hookimpl`` and
takes, by name, the arguments that it wants. In order of a pack's life:

1. registration: the registry collects what packs provide; each hook returns classes;
2. run: engines, graphs and ``fit`` tell listeners what happens. Nothing of this is
   called unless somebody listens, and a listener never changes a run: what a run hook
   returns is ignored, and one that raises is detached (``StopRun`` alone stops the run).

Arrays handed to run hooks are the run's own: look, do not write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mfcore.graph import Graph
    from mfcore.node import Array, Node
    from mfcore.run import Run
    from mfcore.session import Session

PROJECT = "mfcore"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# Registration


@hookspec
def mf_operations() -> Iterable[type[Node]]:  # type: ignore[empty-body]
    """Return the operation classes of the pack.

    Called once per registry, when the pack is loaded.
    """


@hookspec
def mf_optimizers() -> Iterable[type]:  # type: ignore[empty-body]
    """Return the optimizer classes of the pack (see ``mfcore.optimizer``).

    Called once per registry, when the pack is loaded.
    """


@hookspec
def mf_schedules() -> Iterable[type]:  # type: ignore[empty-body]
    """Return the classes of the pack whose instances are schedules, as of a learning rate.

    Each is a class of attrs, whose fields are data or schedules again and whose instances are
    called with the number of steps done (see ``mfcore.Schedule``). Only schedules of such
    classes have a place in files. Called once per registry, when the pack is loaded.
    """


@hookspec
def mf_engines() -> Iterable[type]:  # type: ignore[empty-body]
    """Return the engine classes of the pack, each with a class attribute ``name``.

    Called once per registry, when the pack is loaded.
    """


@hookspec
def mf_tracers() -> Iterable[type]:  # type: ignore[empty-body]
    """Return the tracer classes of the pack, each with a class attribute ``name``.

    A tracer's instances implement run hooks. Called once per registry, when the pack is
    loaded; the classes are instantiated by ``mfcore.tracing(name, **options)``.
    """


@hookspec
def mf_drawers() -> Iterable[type]:  # type: ignore[empty-body]
    """Return the drawer classes of the pack, which make pictures of graphs.

    Each has class attributes ``name``, the format (``"svg"``), and ``suffixes``, a tuple of
    the ends of file names that stand for it (``(".svg",)``). An instance, made without
    arguments, has ``draw(graph, run=None, **options)``, which returns the picture as text or
    bytes; ``Graph.draw`` calls it. Called once per registry, when the pack is loaded.
    """


@hookspec
def mf_commands() -> Iterable[Any]:  # type: ignore[empty-body]
    """Return the commands of the pack for the ``miniflow`` command line (click commands).

    Called when the command line starts or lists its commands.
    """


# Files


@hookspec
def mf_file_compatibility(saved: str, installed: str, names: Sequence[str]) -> str | None:
    """Return what to say of a model file that was written with another version of the pack.

    ``None`` stands for nothing: what the file uses is and does now what it was and did then.
    A text becomes a ``PackVersionWarning``. A file that can no longer be understood is refused
    by raising ``mfcore.errors.ModelFileError``. ``saved`` and ``installed`` are versions,
    ``names`` are what the file uses of the pack, sorted: ``("Linear", "Sigmoid")``. A pack
    without this hook warns where the first two numbers of the versions differ.

    Called while a file is loaded, before anything of it is built, where the versions are not
    the same. Of the pack that it is about alone.
    """


@hookspec
def mf_file_migration(
    saved: str, name: str, hyperparameters: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]] | None:
    """Return what something of the pack is now that another version wrote into a model file.

    ``name`` and ``hyperparameters`` are those of an operation, an optimizer or a schedule in
    version ``saved``. Where they are others now, the result is the present name and the present
    hyperparameters, ``("Swish", {"slope": 1.0})``; ``None`` stands for no change.

    Called while a file is loaded, for each node of the pack that it is about, where the
    versions are not the same, before the node is built.
    """


# Sorting a graph


@hookspec
def mf_sort_start(graph: Graph) -> None:
    """Fires when a graph was built, before its sort is told step by step."""


@hookspec
def mf_sort_visit(graph: Graph, node: Node, position: int) -> None:
    """Fires for each node, in order, as Kahn's algorithm takes it off its queue.

    ``position`` is the node's place in the order, from 0.
    """


@hookspec
def mf_sort_edge(graph: Graph, source: Node, target: Node, remaining: int) -> None:
    """Fires for each edge that is removed because its source was taken off the queue.

    ``remaining`` is the number of edges that still lead into ``target``; at 0 it is queued.
    """


@hookspec
def mf_sort_finish(graph: Graph) -> None:
    """Fires when all nodes of a graph have their place."""


# A run: forward through the graph, or backward


@hookspec
def mf_run_start(session: Session, run: Run, phase: str, graph: Graph) -> None:
    """Fires before the first node of a pass; ``phase`` is ``"forward"`` or ``"backward"``."""


@hookspec
def mf_run_finish(session: Session, run: Run, phase: str, graph: Graph) -> None:
    """Fires after the last node of a pass. Not called if the pass raised."""


@hookspec
def mf_forward_start(run: Run, graph: Graph, node: Node, inputs: Mapping[str, Array]) -> None:
    """Fires before an operation's ``forward``, with its inputs' values by field name."""


@hookspec
def mf_forward_finish(
    run: Run, graph: Graph, node: Node, inputs: Mapping[str, Array], value: Array
) -> None:
    """Fires after an operation's ``forward``, with its result.

    Leaves have no ``forward``: for them it fires once, with no inputs and their value.
    """


@hookspec
def mf_backward_start(
    run: Run, graph: Graph, node: Node, received: Sequence[tuple[Node | None, Array]], grad: Array
) -> None:
    """Fires when a node's gradient is complete, before its ``backward``.

    ``received`` is what each consumer sent, in the order in which it was added up
    (``None`` stands for the seed of the output); ``grad`` is the total. It fires for
    leaves too.
    """


@hookspec
def mf_backward_finish(
    run: Run, graph: Graph, node: Node, grad: Array, sent: Mapping[str, Array | None]
) -> None:
    """Fires after an operation's ``backward``.

    ``sent`` is the gradient that each input got, by field name, in the input's own shape
    and dtype; ``None`` where none was wanted or there is none.
    """


# Training


@hookspec
def mf_epoch_start(session: Session, epoch: int) -> None:
    """Fires before an epoch of ``fit``, counted from 1."""


@hookspec
def mf_step_start(session: Session, step: int) -> None:
    """Fires before a training step: forward, backward, update. Counted from 1 per session."""


@hookspec
def mf_step_finish(session: Session, step: int, loss: float) -> None:
    """Fires after a training step, when the parameters are updated."""


@hookspec
def mf_epoch_finish(session: Session, epoch: int, logs: Mapping[str, float]) -> None:
    """Fires after an epoch of ``fit``; ``logs`` holds its ``loss`` and what else was measured."""
