"""Hyperparameters, arrays and names of operations to and from plain JSON.

Numbers, strings, bools and null stand for themselves, a list stands for a tuple, and
everything else is an object with one key that says what it is: see ``docs/files.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import numpy as np

from mfcore.errors import GraphFormatError, RegistryError, type_name
from mfcore.node import Array, Constant, Input, Node, Parameter
from mfcore.registry import Pack, current
from mfcore.safetensors import MOST_AXES, brief, is_size

DTYPES: Mapping[str, np.dtype[Any]] = {
    name: np.dtype(name) for name in (np.dtype(code).name for code in "?bBhHiIqQefd")
}
"""The dtypes of arrays in files, by name."""

LONGEST_MESSAGE = 1000
"""Characters that a message repeats of another one, which may repeat what a file holds."""

_DEEPEST = 32
_LONGEST_NAME = 200
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_CORE_NAMES = ("SumTo", "BroadcastLike", "Seed", "BackwardOf")


def _core_operations() -> dict[str, type[Node]]:
    """Return what the core itself brings, which no pack provides, by qualified name."""
    from mfcore import gradient_operations

    operations = [getattr(gradient_operations, name) for name in _CORE_NAMES]
    return {cls.qualified_name(): cls for cls in (Input, Parameter, Constant, *operations)}


class Encoder:
    """Turns values into JSON, and takes note of the packs that they need.

    Parameters
    ----------
    store : callable, optional
        Puts an array elsewhere; it is given the array and a label that says whose it is, and
        returns the name to refer to it by. By default arrays are written out.
    data_only : bool, optional
        Whether operations and schedules are refused, which readers look up by name.

    Attributes
    ----------
    packs : dict of str to Pack
        The packs whose operations were written.
    """

    def __init__(
        self, store: Callable[[Array, str], str] | None = None, *, data_only: bool = False
    ) -> None:
        self._data_only = data_only
        self.packs: dict[str, Pack] = {}
        self._store = store
        self._names: dict[type, str] = {cls: name for name, cls in _core_operations().items()}

    def array(self, array: Array, label: str) -> dict[str, Any]:
        """Return an array, which may be stored elsewhere.

        Raises
        ------
        GraphFormatError
            If it is of a dtype that files do not have.
        """
        if array.dtype.name not in DTYPES:
            raise GraphFormatError(f"an array of dtype {array.dtype} has no place in a file")
        if self._store is not None:
            return {"tensor": self._store(array, label)}
        return {"array": _written_out(array)}

    def value(self, value: Any, label: str, depth: int = 0) -> Any:
        """Return any value that a hyperparameter may have.

        Raises
        ------
        GraphFormatError
            If it is none of those that JSON has a place for.
        """
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return _number(value)
        if depth > _DEEPEST:
            raise GraphFormatError("it is nested too deeply")
        if type(value) in (tuple, list):
            parts = [self.value(x, f"{label}.{i}", depth + 1) for i, x in enumerate(value)]
            return parts if type(value) is tuple else {"list": parts}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": self._items(value, label, depth)}
        if isinstance(value, slice):
            parts = [value.start, value.stop, value.step]
            return {"slice": [self.value(x, label, depth + 1) for x in parts]}
        if value is Ellipsis:
            return {"ellipsis": True}
        if isinstance(value, np.dtype) and value.name in DTYPES:
            return {"dtype": value.name}
        if type(value) is np.ndarray:
            return self.array(value, label)
        if isinstance(value, np.generic) and value.dtype.name in DTYPES:
            return {"scalar": _written_out(np.asarray(value))}
        if isinstance(value, type) and issubclass(value, Node):
            return {"operation": self.operation(value)}
        if attrs.has(type(value)) and callable(value):
            return {"schedule": self._schedule(value, label, depth)}
        raise GraphFormatError(f"{type_name(value)} has no place in a file: {value!r:.80}")

    def _items(self, items: Mapping[str, Any], label: str, depth: int) -> dict[str, Any]:
        return {key: self.value(x, f"{label}.{key}", depth + 1) for key, x in items.items()}

    def _schedule(self, schedule: Any, label: str, depth: int) -> dict[str, Any]:
        cls = type(schedule)
        name = self._named("schedule", cls, f"{cls.__module__.partition('.')[0]}.{cls.__name__}")
        given = {argument: getattr(schedule, field) for argument, field in _arguments(cls)}
        return {"schedule": name, "hyperparameters": self._items(given, label, depth)}

    def operation(self, operation: type[Node]) -> str:
        """Return the qualified name under which the registry finds an operation.

        Raises
        ------
        GraphFormatError
            If no enabled pack provides it.
        """
        return self._named("operation", operation, operation.qualified_name())

    def optimizer(self, optimizer: type) -> str:
        """Return the qualified name of an optimizer class; see ``operation``."""
        module = optimizer.__module__.partition(".")[0]
        return self._named("optimizer", optimizer, f"{module}.{optimizer.__name__}")

    def _named(self, kind: str, cls: Any, likely: str) -> str:
        if self._data_only:
            raise GraphFormatError(f"the {kind} {likely} has no place among data")
        if cls in self._names:
            return self._names[cls]
        registry = current()
        name: str | None = likely
        try:
            found = getattr(registry, kind)(likely)
        except RegistryError:
            found = None
        if found is not cls:
            provided = registry.all(kind).items()
            name = next((name for name, other in provided if other is cls), None)
        if name is None:
            raise GraphFormatError(
                f"no enabled pack provides the {kind} {likely}, so that nobody could read it "
                f"again: let a pack provide it, or `mf.registry.current().register(plugin, name)`"
            )
        pack = name.rpartition(".")[0]
        self.packs[pack] = next(p for p in registry.packs() if p.name == pack)
        self._names[cls] = name
        return name


def _arguments(cls: type) -> Iterator[tuple[str, str]]:
    """Yield what a class of attrs is built from: an argument, and the field that it becomes."""
    for field in attrs.fields(cls):
        if field.init:
            yield field.alias or field.name, field.name


def _number(value: Any) -> Any:
    """Return an element of an array, or a float; what JSON has no number for as an object."""
    if type(value) is float and not math.isfinite(value):
        return {"float": "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"}
    return value


def _written_out(array: Array) -> dict[str, Any]:
    """Return an array element by element."""
    elements = [_number(x) for x in array.ravel().tolist()]
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": elements}


class Decoder:
    """Turns JSON back into values; it looks names up in the registry in use.

    Parameters
    ----------
    tensor : callable, optional
        Returns the array that is stored elsewhere under a name.
    short_names : bool, optional
        Whether an operation may go by its short name, ``Linear``.
    data_only : bool, optional
        Whether no names are looked up at all: operations and schedules are refused.

    Attributes
    ----------
    migrations : dict of str to callable
        By pack: takes a name and hyperparameters of another version, and returns those of now,
        or ``None`` where they are the same.
    """

    def __init__(
        self,
        tensor: Callable[[str], Array] | None = None,
        *,
        short_names: bool = False,
        data_only: bool = False,
    ) -> None:
        self._tensor = tensor
        self._short_names = short_names
        self._data_only = data_only
        self.migrations: Mapping[str, Callable[[str, Mapping[str, Any]], Any]] = {}
        self._operations: dict[str, type[Node]] = _core_operations()
        self._kinds: dict[str, Callable[[Any, int], Any]] = {
            "array": lambda content, _: _array(content),
            "dict": self._dict,
            "dtype": lambda content, _: self.dtype(content),
            "ellipsis": _ellipsis,
            "float": lambda content, _: _NOT_FINITE[content],
            "list": self._list,
            "operation": lambda content, _: self.operation(content),
            "scalar": lambda content, _: _array(content)[()],
            "schedule": self._schedule,
            "slice": self._slice,
            "tensor": lambda content, _: self._stored(content),
        }

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return what JSON stands for.

        Raises
        ------
        GraphFormatError
            If it stands for nothing.
        """
        if value is None or type(value) in (bool, int, str, float):
            if type(value) is float and not math.isfinite(value):
                raise GraphFormatError(f"{value} is no JSON; write {_number(value)}")
            return value
        if depth > _DEEPEST:
            raise GraphFormatError("it is nested too deeply")
        if isinstance(value, (list, tuple)):
            return tuple([self.value(x, depth + 1) for x in value])
        if not isinstance(value, Mapping) or len(value) != 1:
            raise GraphFormatError(f"{brief(value)} is no object with one key")
        ((kind, content),) = value.items()
        if kind not in self._kinds:
            raise GraphFormatError(
                f"{brief(kind)} is no kind of value; those are {', '.join(self._kinds)}"
            )
        try:
            return self._kinds[kind](content, depth)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, GraphFormatError):
                raise
            raise GraphFormatError(f"{brief(content)} is no {kind}") from error

    def dtype(self, name: Any) -> np.dtype[Any]:
        """Return the dtype of a name."""
        if not isinstance(name, str) or name not in DTYPES:
            raise GraphFormatError(f"{brief(name)} is no dtype; those are {', '.join(DTYPES)}")
        return DTYPES[name]

    def operation(self, name: Any) -> type[Node]:
        """Return the operation of a name.

        Raises
        ------
        GraphFormatError
            If no enabled pack provides it.
        """
        if not isinstance(name, str):
            raise GraphFormatError(f"{brief(name)} is no name of an operation")
        found = self._operations.get(name)
        if found is None:
            found = self._operations[name] = self._looked_up("operation", name)
        return found

    def optimizer(self, name: Any) -> Any:
        """Return the optimizer class of a name; see ``operation``."""
        if not isinstance(name, str):
            raise GraphFormatError(f"{brief(name)} is no name of an optimizer")
        return self._looked_up("optimizer", name)

    def migrated(self, name: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Return a qualified name and hyperparameters as the pack has them now.

        Raises
        ------
        GraphFormatError
            If the pack cannot tell.
        """
        pack, _, short = name.rpartition(".") if isinstance(name, str) else ("", "", "")
        migration = self.migrations.get(pack)
        if migration is None:
            return name, given
        try:
            found = migration(short, given)
            if found is None:
                return name, given
            now, values = found
            if not isinstance(now, str):
                raise TypeError(f"{type_name(now)} is no name")
            return f"{pack}.{now}", dict(values)
        except Exception as error:
            said = f"{type_name(error)}: {error}"[:LONGEST_MESSAGE]
            raise GraphFormatError(
                f"the pack {pack} cannot take over {short} of another version: {said}"
            ) from error

    def _looked_up(self, kind: str, name: str) -> Any:
        if self._data_only:
            raise GraphFormatError(f"{brief(name)} has no place among data")
        if len(name) > _LONGEST_NAME or ("." not in name and not self._short_names):
            raise GraphFormatError(f"{brief(name)} is no qualified name, as `pack.Name` would be")
        try:
            return getattr(current(), kind)(name)
        except RegistryError as error:
            raise GraphFormatError(str(error)) from None

    def _list(self, content: Any, depth: int) -> list[Any]:
        if not isinstance(content, (list, tuple)):
            raise GraphFormatError(f"{brief(content)} is no list")
        return [self.value(x, depth + 1) for x in content]

    def _dict(self, content: Any, depth: int) -> dict[str, Any]:
        if not isinstance(content, Mapping) or not all(type(key) is str for key in content):
            raise GraphFormatError(f"{brief(content)} is no object")
        return {key: self.value(x, depth + 1) for key, x in content.items()}

    def _schedule(self, content: Any, depth: int) -> Any:
        if not isinstance(content, Mapping) or content.keys() != {"schedule", "hyperparameters"}:
            raise GraphFormatError("a schedule is an object with schedule and hyperparameters")
        name = content["schedule"]
        if not isinstance(name, str):
            raise GraphFormatError(f"{brief(name)} is no name of a schedule")
        name, given = self.migrated(name, self._dict(content["hyperparameters"], depth))
        cls = self._looked_up("schedule", name)
        known = [argument for argument, _ in _arguments(cls)]
        if unknown := [argument for argument in given if argument not in known]:
            raise GraphFormatError(f"{name} has no {brief(unknown[0])}; it has {', '.join(known)}")
        try:
            return cls(**given)
        except Exception as error:  # a converter or validator of any pack
            said = str(error)[:LONGEST_MESSAGE]
            raise GraphFormatError(f"{name}: {type_name(error)}: {said}") from error

    def _slice(self, content: Any, depth: int) -> slice:
        start, stop, step = self._list(content, depth)
        for bound in (start, stop, step):
            if bound is not None and type(bound) is not int:
                raise GraphFormatError(
                    f"a slice has bounds of integers and null, not {brief(bound)}"
                )
        return slice(start, stop, step)

    def _stored(self, name: Any) -> Array:
        if self._tensor is None:
            raise GraphFormatError("a tensor stands in a model file only; write an array")
        if not isinstance(name, str):
            raise GraphFormatError(f"{brief(name)} is no name of a tensor")
        return self._tensor(name)


def _ellipsis(content: Any, _: int) -> Any:
    if content is not True:
        raise GraphFormatError("`...` is written as true")
    return ...


def _array(content: Any) -> Array:
    """Return an array that is written out; it has as many elements as its shape says."""
    if not isinstance(content, Mapping) or content.keys() != {"dtype", "shape", "data"}:
        raise GraphFormatError("an array is an object with dtype, shape and data")
    name, shape, data = content["dtype"], content["shape"], content["data"]
    dtype = DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise GraphFormatError(f"{brief(name)} is no dtype; those are {', '.join(DTYPES)}")
    if (
        not isinstance(shape, (list, tuple))
        or len(shape) > MOST_AXES
        or not all(map(is_size, shape))
    ):
        raise GraphFormatError(f"{brief(shape)} is no shape")
    if not isinstance(data, (list, tuple)) or math.prod(shape) != len(data):
        raise GraphFormatError(f"data must be a list of the {math.prod(shape)} elements in order")
    accepted = {"b": (bool,), "i": (int,), "u": (int,), "f": (int, float)}[dtype.kind]
    elements = [_NOT_FINITE[x["float"]] if isinstance(x, Mapping) else x for x in data]
    if not all(type(x) in accepted for x in elements):
        raise GraphFormatError(f"an array of {dtype} has other elements")
    with np.errstate(over="raise"):
        try:
            return np.array(elements, dtype).reshape(shape)
        except FloatingPointError as error:
            raise GraphFormatError(f"an element is too large for {dtype}") from error
