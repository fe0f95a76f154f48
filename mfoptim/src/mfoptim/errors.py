"""What this pack raises beyond the core's own errors."""

from __future__ import annotations

from mfcore.errors import MiniFlowError, MiniFlowWarning


class HyperparameterError(MiniFlowError, ValueError):
    """A hyperparameter of an optimizer, a schedule or a callback is out of its range."""


class FitError(MiniFlowError, ValueError):
    """``fit`` was asked for something that cannot be done."""


class MissingPackageError(MiniFlowError, ImportError):
    """An optional package is needed and not installed."""


class CheckpointError(MiniFlowError, ValueError):
    """A checkpoint cannot be read, or belongs to another training."""


class CheckpointWarning(MiniFlowWarning):
    """A checkpoint is damaged, and an older one was taken."""
