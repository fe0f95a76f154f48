"""Replay files: one application of an operation in one file, read back without trust.

What the file holds is checked part by part, and the operation is looked up in the registry.
"""

from __future__ import annotations

import math
import os
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mfcore import __version__
from mfcore.drawing import write_atomically
from mfcore.errors import MiniFlowError
from mfcore.node import Constant, Input, Node, dtype_of, shape_of
from mfcore.operation import spec_of
from mfcore.registry import Pack, current
from mftrace.application import UNKNOWN, Application, generator
from mftrace.guard_report import Checks, printable
from mftrace.plain_values import NotPlainError, decode, encode
from mftrace.replay_archive import ReplayError, archive_bytes, read_archive

LIMIT = 2**30
"""Bytes of a file, and of the value of its operation, that are accepted unless more are allowed."""

_FORMAT = "miniflow replay"
_VERSION = 1
_NAMES = 4096  # characters of a name


# Writing


def replay_bytes(application: Application) -> bytes:
    """Return a replay file's contents. The same application gives the same bytes.

    Raises
    ------
    ReplayError
        If something that the operation was given cannot be in such a file.
    """
    arrays: list[NDArray[Any]] = []
    operation, checks = application.operation, application.checks

    def plain(what: str, value: Any) -> Any:
        try:
            return encode(value, arrays)
        except NotPlainError as error:
            raise ReplayError(
                f"{what} of {application.node} cannot be in a replay file: {error}"
            ) from None

    pack = provider(operation)
    names = spec_of(operation).input_names(len(application.inputs))
    saved = application.saved
    about = {
        "format": _FORMAT,
        "version": _VERSION,
        "numpy": np.__version__,
        "operation": f"{pack.name}.{operation.__name__}" if pack else operation.qualified_name(),
        "pack": application.pack,
        "node": application.node,
        "site": list(application.site),
        "phase": application.phase,
        "step": application.step,
        "training": application.training,
        "checks": [checks.nan, checks.inf, checks.low, checks.high],
        "hyperparameters": {
            name: plain(f"the hyperparameter {name}", value)
            for name, value in application.hyperparameters.items()
        },
        "inputs": [
            {"source": source, "value": plain(f"the input {name}", value)}
            for name, source, value in zip(
                names, application.sources, application.inputs, strict=True
            )
        ],
        "rng": plain("the random state", application.rng),
        "grad": plain("the gradient", application.grad),
        "value": plain("the value", application.value),
        "wanted": list(application.wanted),
    }
    if saved is not UNKNOWN:
        about["saved"] = plain("what forward saved", saved)
    return archive_bytes(about, arrays)


def write_replay(path: str | os.PathLike[str], application: Application) -> None:
    """Write a replay file, whole or not at all.

    Raises
    ------
    ReplayError
        If something that the operation was given cannot be in such a file, or the file
        cannot be written.
    """
    contents = replay_bytes(application)
    try:
        write_atomically(path, contents)
    except OSError as error:
        raise ReplayError(str(error)) from error


# Reading


def read_replay(
    path: str | os.PathLike[str], operation: type[Node] | None = None, limit: int = LIMIT
) -> Application:
    """Read a replay file.

    Parameters
    ----------
    path : path
        The file.
    operation : operation class, optional
        The operation, where no pack provides it. It must have the name that the file says.
    limit : int, optional
        Bytes that the file may have, and the value that its operation computes.

    Raises
    ------
    ReplayError
        If it is no replay file, was changed or cut off, is too large, or asks for an
        operation that is not there or does not take what the file holds.
    """
    where = os.fspath(path)
    try:
        about, arrays = read_archive(path, limit)
        if about.get("format") != _FORMAT:
            raise ReplayError("it is no replay file")
        if about.get("version") != _VERSION:
            raise ReplayError(f"it is of version {about.get('version')!r}; this reads {_VERSION}")
        return _application(about, arrays, operation, limit)
    except ReplayError as error:
        raise ReplayError(f"{printable(where)}: {error}") from error.__cause__
    except OSError as error:
        raise ReplayError(
            f"{printable(where)}: it cannot be read: {error.strerror or error}"
        ) from error
    except (NotPlainError, RecursionError, MemoryError, OverflowError) as error:
        reason = str(error) or type(error).__name__
        raise ReplayError(f"{printable(where)}: it is damaged: {printable(reason)}") from error


def _field(about: dict[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    value = about.get(name)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if type(value) not in kinds:
        raise ReplayError(f"it is damaged: {name} is not what it should be")
    if isinstance(value, str) and len(value) > _NAMES:
        raise ReplayError(f"it is damaged: {name} is too long")
    return value


def _application(
    about: dict[str, Any],
    arrays: list[NDArray[Any]],
    operation: type[Node] | None,
    limit: int,
) -> Application:
    """Return the application that the JSON describes, all of it checked."""
    nothing = type(None)
    name, phase = _field(about, "operation", str), _field(about, "phase", str)
    found, provider_now = _operation(name, operation)
    written = _field(about, "pack", str)
    site, checks = _field(about, "site", list), _field(about, "checks", list)
    inputs = _field(about, "inputs", list)
    sources = [_field(entry if type(entry) is dict else {}, "source", str) for entry in inputs]
    wanted = _field(about, "wanted", list)
    rng = decode(about.get("rng"), arrays)
    _field(about, "hyperparameters", dict)
    if (
        phase not in ("forward", "backward")
        or [type(part) for part in site] != [str, int]
        or len(checks) != 4
        or any(type(flag) is not bool for flag in (*checks[:2], *wanted))
        or any(type(bound) not in (int, float, nothing) for bound in checks[2:])
        or type(rng) not in (dict, nothing)
    ):
        raise ReplayError("it is damaged: its description is not what it should be")
    application = Application(
        operation=found,
        node=_field(about, "node", str),
        pack=provider_now,
        site=(site[0], site[1]),
        phase=phase,
        hyperparameters={k: decode(v, arrays) for k, v in about["hyperparameters"].items()},
        inputs=tuple(decode(entry.get("value"), arrays) for entry in inputs),
        sources=tuple(sources),
        checks=Checks(*checks[:2], *(None if b is None else float(b) for b in checks[2:])),
        step=_field(about, "step", (int, nothing)),
        training=_field(about, "training", bool),
        rng=rng,
        grad=decode(about.get("grad"), arrays),
        value=decode(about.get("value"), arrays),
        saved=decode(about["saved"], arrays) if "saved" in about else UNKNOWN,
        wanted=tuple(wanted),
        notes=(f"written with {printable(written)}",) if written != provider_now else (),
    )
    return _checked(application, limit)


def _operation(name: str, given: type[Node] | None) -> tuple[type[Node], str]:
    """Return the operation of a name, and the pack that provides it, with its version."""
    if given is None:
        if "." not in name:
            raise ReplayError(f"it is damaged: {printable(name)!r} names no pack")
        try:
            given = current().operation(name)
        except (MiniFlowError, ValueError) as error:
            raise ReplayError(
                f"the operation {printable(name)} is not there: {error}\nwhere no pack provides "
                f"it, give the class: mftrace.replay(path, operation=...)"
            ) from error
    pack = provider(given)
    names = {given.qualified_name()} | ({f"{pack.name}.{given.__name__}"} if pack else set())
    if name not in names:
        raise ReplayError(f"it is of {printable(name)}, not of {given.qualified_name()}")
    return given, origin(given)


def provider(operation: type[Node]) -> Pack | None:
    """Return the pack that provides an operation, loading it if it is not loaded yet."""
    try:
        current().operation(operation.qualified_name())
    except MiniFlowError:  # an operation that no pack provides
        return None
    return current().provider(operation)


def origin(operation: type[Node]) -> str:
    """Return name and version of the pack that provides an operation or kind of leaf."""
    pack = provider(operation)
    if pack is not None:
        return f"{pack.name} {pack.version}".rstrip()
    return f"mfcore {__version__}" if operation.__module__.partition(".")[0] == "mfcore" else ""


def _checked(application: Application, limit: int) -> Application:
    """Return an application whose parts fit each other, or raise."""
    spec = application.spec
    fixed = len(spec.inputs) - spec.variadic
    count = len(application.inputs)
    if count < fixed + spec.variadic or (count > fixed and not spec.variadic):
        raise ReplayError(f"it holds {count} inputs, which {spec.name} does not take")
    numbers = (bool, int, float)
    for value in application.inputs:
        if not (isinstance(value, (np.ndarray, np.generic)) or type(value) in numbers):
            raise ReplayError("it is damaged: an input is no array")
    if application.hyperparameters.keys() != set(spec.hyperparameters):
        raise ReplayError(f"it does not hold the hyperparameters of {spec.name}")
    for name, value in application.hyperparameters.items():
        if _size(value) > limit // 8:
            raise ReplayError(
                f"{name}={printable(repr(value))} of {spec.name} is too large; "
                f"allow more with limit="
            )
    node = _node(application)
    shape, dtype = shape_of(node), dtype_of(node) or np.dtype(np.float64)
    if shape and None not in shape and math.prod(shape) * dtype.itemsize > limit:  # type: ignore[arg-type]
        raise ReplayError(f"the value of {spec.name} would have more than {limit:,} bytes")
    hyperparameters = {name: getattr(node, name) for name in spec.hyperparameters}
    if application.rng is not None:
        try:
            generator(application.rng)
        except ValueError as error:
            raise ReplayError(f"it is damaged: {error}") from error
    elif "rng" in spec.forward_asks and application.saved is UNKNOWN:
        raise ReplayError(f"it lacks the random state that {spec.name} needs")
    if application.phase == "backward":
        _check_backward(application)
    return attrs.evolve(application, hyperparameters=hyperparameters)


def _size(value: Any) -> int:
    """Return the product of the integers in a hyperparameter: it may be a size, or several."""
    if type(value) is int:
        return max(abs(value), 1)
    return math.prod(map(_size, value)) if isinstance(value, (tuple, list)) else 1


def _check_backward(application: Application) -> None:
    if len(application.wanted) != len(application.inputs):
        raise ReplayError("it is damaged: it does not say whose gradient is wanted")
    for value in (application.grad, application.value):
        if not isinstance(value, (np.ndarray, np.generic)):
            raise ReplayError("it is damaged: it lacks the gradient or the value")
    if np.shape(application.grad) != np.shape(application.value):
        raise ReplayError("it is damaged: the gradient has another shape than the value")


def _node(application: Application) -> Node:
    """Build the operation's node: its own validators check the hyperparameters and shapes."""
    leaves = [
        Constant(value)
        if type(value) in (bool, int, float)
        else Input(shape=np.shape(value), dtype=value.dtype)
        for value in application.inputs
    ]
    try:
        return application.operation(*leaves, **application.hyperparameters)
    except Exception as error:
        raise ReplayError(
            f"{application.operation.__name__} does not take what it holds: {printable(str(error))}"
        ) from error
