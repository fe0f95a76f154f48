"""MiniFlow pack: optimizers, learning-rate schedules and ``fit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcore.lazy import lazy_names

if TYPE_CHECKING:
    from mfoptim.adam import AdaGrad, Adam, RMSProp
    from mfoptim.callbacks import Callback, EarlyStopping, StopTraining
    from mfoptim.errors import FitError, HyperparameterError, MissingPackageError
    from mfoptim.fit import fit
    from mfoptim.history import History, Stopped
    from mfoptim.schedule import CosineDecay, ExponentialDecay, StepDecay, Warmup
    from mfoptim.sgd import SGD, sgd_update

__version__ = "0.1.0"

OPTIMIZERS = ("SGD", "Adam", "RMSProp", "AdaGrad")
"""Names of all optimizers of the pack."""

__all__ = [
    "AdaGrad",
    "Adam",
    "Callback",
    "CosineDecay",
    "EarlyStopping",
    "ExponentialDecay",
    "FitError",
    "History",
    "HyperparameterError",
    "MissingPackageError",
    "RMSProp",
    "SGD",
    "StepDecay",
    "StopTraining",
    "Stopped",
    "Warmup",
    "fit",
    "sgd_update",
]

lazy_names(
    __name__,
    {
        "mfoptim.adam": ["AdaGrad", "Adam", "RMSProp"],
        "mfoptim.callbacks": ["Callback", "EarlyStopping", "StopTraining"],
        "mfoptim.errors": ["FitError", "HyperparameterError", "MissingPackageError"],
        "mfoptim.fit": ["fit"],
        "mfoptim.history": ["History", "Stopped"],
        "mfoptim.schedule": ["CosineDecay", "ExponentialDecay", "StepDecay", "Warmup"],
        "mfoptim.sgd": ["SGD", "sgd_update"],
    },
)
