"""What this pack raises beyond the core's own errors."""

from __future__ import annotations

from mfcore.errors import MiniFlowError


class HyperparameterError(MiniFlowError, ValueError):
    """A hyperparameter of an optimizer, a schedule or a callback is out of its range."""


class FitError(MiniFlowError, ValueError):
    """``fit`` was asked for something that cannot be done."""


class MissingPackageError(MiniFlowError, ImportError):
    """An optional package is needed and not installed."""
