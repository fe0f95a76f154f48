"""Every error that MiniFlow raises on purpose: one base class, one class per cause."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class MiniFlowError(Exception):
    """Base class of all errors of MiniFlow and its packs."""


# Defining operations and optimizers


class DefinitionError(MiniFlowError, TypeError):
    """A class decorated with ``@operation`` or ``@optimizer`` breaks the contract."""


# Building nodes and graphs


class NodeUseError(MiniFlowError, TypeError):
    """A node was used where Python or NumPy needs a number, or holds an unusable value."""


class UndeclaredFunctionError(MiniFlowError, TypeError):
    """A NumPy function was called on nodes, and no pack declares an operation for it."""


class NotTraceableError(MiniFlowError, TypeError):
    """An operation's function needs numbers where it is read without any.

    Functions that are read on nodes, or before a run, may use NumPy's functions and
    operators only, without Python branches on data.
    """


class GraphError(MiniFlowError, ValueError):
    """A graph cannot be built from the given outputs."""


class ShapeError(GraphError):
    """An operation cannot be applied to inputs of the shapes and dtypes that they have."""


class GraphFormatError(GraphError):
    """A graph cannot be written as JSON, or JSON does not describe one."""


class CycleError(GraphError):
    """The nodes depend on each other in a circle, so no order exists."""


class DuplicateNameError(GraphError):
    """Two nodes of one graph were given the same name."""


class UnknownNodeError(MiniFlowError, KeyError):
    """A node, or a node's name, does not belong to the graph that was asked for it."""

    def __str__(self) -> str:
        return str(self.args[0])


# Feeding


class FeedError(MiniFlowError, ValueError):
    """The feeds of a run do not fit the graph."""


class MissingFeedError(FeedError):
    """An input of the graph was given no value."""


class UnknownFeedError(FeedError):
    """A value was fed to something that is not an input of the graph."""


class FeedShapeError(FeedError):
    """A fed array has another shape than its input declares."""


class FeedDtypeError(FeedError):
    """A fed value is no numeric array, or its dtype does not fit its input."""


# Running


class ExecutionError(MiniFlowError, RuntimeError):
    """An operation failed while a graph was running."""


class EngineError(MiniFlowError, RuntimeError):
    """An engine cannot do what was asked of it."""


class ForwardError(ExecutionError):
    """An operation's ``forward`` raised, or returned something that is no array."""


class BackwardError(ExecutionError):
    """An operation's ``backward`` raised, or returned the wrong number or shapes of gradients."""


class NotDifferentiableError(MiniFlowError, TypeError):
    """A gradient was asked for that has to pass an operation without ``backward``."""


class GradientError(MiniFlowError, ValueError):
    """A gradient was asked for in a way that has no answer."""


class StopRun(MiniFlowError):
    """Raised by a tracer to stop the run on purpose.

    Any other exception of a tracer is reported and the tracer detached; this one,
    and classes derived from it, reach the caller of the run.
    """


class FilterError(MiniFlowError, ValueError):
    """A tracer was asked to listen to something that there is not."""


# Looking up packs


class RegistryError(MiniFlowError, LookupError):
    """A look-up in the registry has no single answer."""


class UnknownNameError(RegistryError):
    """No enabled pack provides the name."""


class AmbiguousNameError(RegistryError):
    """Several enabled packs provide the short name."""


class PackError(MiniFlowError, ImportError):
    """A pack could not be loaded."""


class SettingsError(MiniFlowError, ValueError):
    """The project's file cannot be read, or says something that it cannot say."""


# Files


class ModelFileError(MiniFlowError, ValueError):
    """A model file cannot be written, or is damaged, or needs what is not there."""


class ModelFileAccessError(ModelFileError, OSError):
    """A model file cannot be opened, read or written where it is."""


# Training


class DataError(MiniFlowError, ValueError):
    """The data given for training cannot be used."""


# Drawing


class DrawingError(MiniFlowError, ValueError):
    """A graph cannot be drawn as asked: nothing draws that format, or it would not fit."""


class DrawingFileError(DrawingError, OSError):
    """A picture cannot be written where it should go."""


# Warnings


class MiniFlowWarning(UserWarning):
    """Base class of all warnings of MiniFlow and its packs."""


class DetachedTracerWarning(MiniFlowWarning):
    """A tracer raised an exception and listens no longer."""


class QuarantineWarning(MiniFlowWarning):
    """An explicitly registered plugin, or an installed pack, was quarantined."""


class ObservedEngineWarning(MiniFlowWarning):
    """An engine that cannot be observed node by node leaves observed runs to another."""


class PackVersionWarning(MiniFlowWarning):
    """A model file was written with another version of a pack."""


class DivergenceWarning(MiniFlowWarning):
    """Training stopped because its loss was no longer finite."""


def type_name(value: Any) -> str:
    """Return the name of a value's type as a reader would write it, for messages."""
    cls = type(value)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Return names as a message lists them: the first of them, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
