"""What a training is made of, as text: two of the same fingerprint take the same steps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from platform import machine
from typing import Any

import attrs
import numpy as np

from mfcore import Array, Constant, Engine, Graph, Input, Node, Parameter
from mfcore.optimizer import optimizer_spec
from mfcore.registry import current

LISTED_NODES = 2000
"""Of larger graphs the nodes beyond these are one entry, so that files stay small."""


def of_graph(graph: Graph, cost: Node) -> dict[str, str]:
    """Return an entry for each node: operation, inputs, hyperparameters, shapes, constants."""
    names = [graph.name(node) for node in graph.nodes]
    entries = {"cost": names[graph.position(cost)]}
    entries["parameters"] = ", ".join(graph.name(node) for node in graph.parameters)
    rest = hashlib.sha256()
    for i, (node, name) in enumerate(zip(graph.nodes, names, strict=True)):
        said = _node(node, [names[source] for source in graph.sources[i]])
        if i < LISTED_NODES:
            entries[f"node {name}"] = said
        else:
            rest.update(f"{name} {said}\n".encode())
    if len(names) > LISTED_NODES:
        entries["further nodes"] = f"{len(names) - LISTED_NODES}, {rest.hexdigest()}"
    return entries


def of_data(graph: Graph, arrays: Mapping[Input, Array], what: str) -> dict[str, str]:
    """Return an entry for each input: shape, dtype and digest of its array."""
    return {f"{what} {graph.name(node)}": described(array) for node, array in arrays.items()}


def of_optimizer(optimizer: Any) -> dict[str, str]:
    """Return one entry: the class and its hyperparameters."""
    names = optimizer_spec(optimizer).hyperparameters
    return {"optimizer": _call(type(optimizer), [(n, getattr(optimizer, n)) for n in names])}


def of_versions(graph: Graph, optimizer: Any, engine: Engine) -> dict[str, str]:
    """Return the versions of all that a training's bits depend on, and the kind of machine."""
    modules = {type(node).__module__ for node in graph.nodes}
    modules |= {type(optimizer).__module__, type(engine).__module__, __name__, "mfcore"}
    used = {module.partition(".")[0] for module in modules}
    versions = {pack.name: pack.version for pack in current().packs() if pack.name in used}
    for distribution in engine.depends_on:
        with suppress(PackageNotFoundError):
            versions[distribution] = version(distribution)
    return {
        "numpy": np.__version__,
        **{name: versions[name] for name in sorted(versions) if versions[name]},
        "machine": machine(),
    }


def differences(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a sentence for each entry in which two fingerprints differ."""
    found = []
    for key in dict.fromkeys([*now, *saved]):
        if saved.get(key) == now.get(key):
            continue
        if key not in saved:
            found.append(f"{key} is not in the checkpoint")
        elif key not in now:
            found.append(f"{key} is in the checkpoint only")
        else:
            found.append(f"{key} was {saved[key]}, now it is {now[key]}")
    return found


def described(value: Any) -> str:
    """Return a value as text that is the same in another process."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype} {value.shape} with digest {digest[:16]}"
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        digest = hashlib.sha256(described(bits.state).encode()).hexdigest()
        return f"a generator, {type(bits).__name__} in the state with digest {digest[:16]}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(described, value))})"
    if isinstance(value, Mapping):
        items = ", ".join(f"{described(k)}: {described(v)}" for k, v in value.items())
        return f"{{{items}}}"
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        return _call(type(value), [(f.name, getattr(value, f.name)) for f in fields])
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _call(cls: type, items: Iterable[tuple[str, Any]]) -> str:
    inner = ", ".join(f"{name}={described(value)}" for name, value in items)
    return f"{cls.__module__}.{cls.__qualname__}({inner})"


def _node(node: Node, sources: list[str]) -> str:
    if isinstance(node, Input):
        return f"an input of shape {node.shape} and dtype {node.dtype}"
    if isinstance(node, Parameter):
        return f"a parameter of shape {node.value.shape} and dtype {node.value.dtype}"
    if isinstance(node, Constant):
        return f"the constant {described(node.value)}"
    spec = getattr(type(node), "__operation__", None)
    names = () if spec is None else spec.hyperparameters
    settings = [f"{name}={described(getattr(node, name))}" for name in names]
    return f"{node.qualified_name()}({', '.join([*sources, *settings])})"
