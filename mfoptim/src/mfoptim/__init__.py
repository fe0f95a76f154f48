"""MiniFlow pack: optimizers, learning-rate schedules and ``fit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcore.lazy import lazy_names

if TYPE_CHECKING:
    from mfoptim.adam import AdaGrad, Adam, RMSProp
    from mfoptim.callbacks import Callback, EarlyStopping, StopTraining
    from mfoptim.checkpoint import Checkpoint
    from mfoptim.errors import (
        CheckpointError,
        CheckpointWarning,
        FitError,
        HyperparameterError,
        MissingPackageError,
    )
    from mfoptim.fit import fit
    from mfoptim.history import History, Stopped
    from mfoptim.saved_training import SavedTraining, read_checkpoint
    from mfoptim.schedule import CosineDecay, ExponentialDecay, StepDecay, Warmup
    from mfoptim.sgd import SGD, sgd_update

__version__ = "0.1.0"

OPTIMIZERS = ("SGD", "Adam", "RMSProp", "AdaGrad")
"""Names of all optimizers of the pack."""

SCHEDULES = ("CosineDecay", "ExponentialDecay", "StepDecay", "Warmup")
"""Names of all schedules of the pack."""

__all__ = [
    "AdaGrad",
    "Adam",
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "CheckpointWarning",
    "CosineDecay",
    "EarlyStopping",
    "ExponentialDecay",
    "FitError",
    "History",
    "HyperparameterError",
    "MissingPackageError",
    "RMSProp",
    "SGD",
    "SavedTraining",
    "StepDecay",
    "StopTraining",
    "Stopped",
    "Warmup",
    "fit",
    "read_checkpoint",
    "sgd_update",
]

lazy_names(
    __name__,
    {
        "mfoptim.adam": ["AdaGrad", "Adam", "RMSProp"],
        "mfoptim.callbacks": ["Callback", "EarlyStopping", "StopTraining"],
        "mfoptim.checkpoint": ["Checkpoint"],
        "mfoptim.errors": [
            "CheckpointError",
            "CheckpointWarning",
            "FitError",
            "HyperparameterError",
            "MissingPackageError",
        ],
        "mfoptim.fit": ["fit"],
        "mfoptim.history": ["History", "Stopped"],
        "mfoptim.saved_training": ["SavedTraining", "read_checkpoint"],
        "mfoptim.schedule": ["CosineDecay", "ExponentialDecay", "StepDecay", "Warmup"],
        "mfoptim.sgd": ["SGD", "sgd_update"],
    },
)
