"""MiniFlow's core: computation graphs on NumPy, made of plugins.

Names are imported when they are first used, so that ``import mfcore`` costs nothing.

PYTEST_DONT_REWRITE: who imports mfcore before pytest starts is not warned of it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mfcore.engine import Engine as Engine
    from mfcore.engine import Program as Program
    from mfcore.files import Model as Model
    from mfcore.files import load as load
    from mfcore.files import save as save
    from mfcore.function import function as function
    from mfcore.gradient import gradient as gradient
    from mfcore.gradient import hvp as hvp
    from mfcore.gradient import jacobian as jacobian
    from mfcore.graph import Graph as Graph
    from mfcore.graph_json import graph_from_dict as graph_from_dict
    from mfcore.graph_json import graph_to_dict as graph_to_dict
    from mfcore.hookspecs import hookimpl as hookimpl
    from mfcore.node import Array as Array
    from mfcore.node import Constant as Constant
    from mfcore.node import Input as Input
    from mfcore.node import Node as Node
    from mfcore.node import NodeLike as NodeLike
    from mfcore.node import Parameter as Parameter
    from mfcore.node import dtype_of as dtype_of
    from mfcore.node import shape_of as shape_of
    from mfcore.operation import apply as apply
    from mfcore.operation import hyperparameter as hyperparameter
    from mfcore.operation import operation as operation
    from mfcore.operation import spec_of as spec_of
    from mfcore.optimizer import Schedule as Schedule
    from mfcore.optimizer import optimizer as optimizer
    from mfcore.registry import Registry as Registry
    from mfcore.run import Gradients as Gradients
    from mfcore.run import Run as Run
    from mfcore.session import Session as Session
    from mfcore.trace import tracing as tracing

_MODULES = {
    "Array": "node",
    "Constant": "node",
    "Engine": "engine",
    "Gradients": "run",
    "Graph": "graph",
    "Input": "node",
    "Model": "files",
    "Node": "node",
    "NodeLike": "node",
    "Parameter": "node",
    "Program": "engine",
    "Registry": "registry",
    "Run": "run",
    "Schedule": "optimizer",
    "Session": "session",
    "apply": "operation",
    "dtype_of": "node",
    "function": "function",
    "gradient": "gradient",
    "graph_from_dict": "graph_json",
    "graph_to_dict": "graph_json",
    "hookimpl": "hookspecs",
    "hvp": "gradient",
    "hyperparameter": "operation",
    "jacobian": "gradient",
    "load": "files",
    "operation": "operation",
    "optimizer": "optimizer",
    "save": "files",
    "shape_of": "node",
    "spec_of": "operation",
    "tracing": "trace",
}

__all__ = [  # noqa: PLE0604 - the names are strings, from the table above
    "__version__",
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        value = getattr(import_module(f"mfcore.{_MODULES[name]}"), name)
        globals()[name] = value
        return value
    if name in ("errors", "registry", "hookspecs"):
        return import_module(f"mfcore.{name}")
    raise AttributeError(f"module 'mfcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps ``mfcore.operation``, ``mfcore.optimizer`` and ``mfcore.gradient`` what users mean.

    Python sets a package's attribute whenever it imports a submodule; of a submodule
    that shares its name with a public object, the object is kept.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _MODULES:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
