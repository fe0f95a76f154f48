"""MiniFlow's front door: the classic course API, by ``from miniflow import *``.

The classic API is for learning: its nodes hold their values, and programs written for the
course run on it unchanged (see ``miniflow.classic``). Everything else is in the packs:
``import mfcore as mf`` for graphs and sessions, ``from mfops_nn import Linear, MSE`` for
operations, ``from mfoptim import SGD, fit`` for training. The command is ``miniflow``.

Examples
--------
>>> from miniflow import *
>>> x, y = Input(), Input()
>>> total = Add(x, y)
>>> graph = topological_sort({x: 10, y: 5})
>>> forward_pass(total, graph)
15
"""

from __future__ import annotations

from typing import Any

import numpy as np

from miniflow.classic import (
    MSE,
    Add,
    Input,
    Linear,
    Mul,
    Multiply,
    Node,
    Sigmoid,
    forward_and_backward,
    forward_pass,
    sgd_update,
    topological_sort,
)

__version__ = "0.1.0"

DEBUG = False
"""Set to True, here or in your program, to see every pass of the classic API."""

T_DEBUG = False
"""Set to True, here or in your program, to see every sort of the classic API."""

__all__ = [
    "Node",
    "Input",
    "Add",
    "Mul",
    "Multiply",
    "Linear",
    "Sigmoid",
    "MSE",
    "topological_sort",
    "forward_pass",
    "forward_and_backward",
    "sgd_update",
    "np",
    "DEBUG",
    "T_DEBUG",
]


def __getattr__(name: str) -> Any:
    if name == "tracing":
        from mfcore import tracing

        return tracing
    if not name.startswith("_"):
        from importlib import import_module

        for module, alias in (
            ("mfcore", "import mfcore as mf"),
            ("mfops_nn", f"from mfops_nn import {name}"),
            ("mfops_basic", f"from mfops_basic import {name}"),
            ("mfoptim", f"from mfoptim import {name}"),
        ):
            if name in getattr(import_module(module), "__all__", ()):
                raise AttributeError(
                    f"module 'miniflow' has no attribute {name!r}: "
                    f"that is in {module}, `{alias}`. miniflow itself is the classic course API"
                )
    raise AttributeError(f"module 'miniflow' has no attribute {name!r}")
