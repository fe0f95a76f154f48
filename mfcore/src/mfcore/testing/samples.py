"""Inputs to try an operation on: its own, of its domain, or some that are found by trying."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import attrs
import numpy as np

from mfcore.domain import domains_of
from mfcore.node import Array, Input, Node
from mfcore.operation import OperationSpec, spec_of
from mfcore.testing.outcome import CheckError

ENOUGH = 5
"""As many samples are searched for, of different shapes."""

WIDE_ATTEMPTS = 300
"""So many applications of any shape are tried where none of the usual ones is accepted."""


@attrs.frozen(eq=False)
class Sample:
    """One application of an operation: arrays for its inputs, and its hyperparameters.

    Attributes
    ----------
    inputs : tuple of array
        One for each input, in order; floats as float64.
    hyperparameters : dict
        Those that are not left at their default.
    """

    inputs: tuple[Array, ...]
    hyperparameters: dict[str, Any] = attrs.field(factory=dict)

    def __str__(self) -> str:
        arrays = ", ".join(f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        options = "".join(f", {name}={value!r}" for name, value in self.hyperparameters.items())
        return arrays + options

    def values(self) -> str:
        """Return what its arrays hold, for messages about small ones."""
        arrays = ", ".join(np.array2string(x, separator=", ", threshold=20) for x in self.inputs)
        options = "".join(f", {name}={value!r}" for name, value in self.hyperparameters.items())
        return " ".join(arrays.split()) + options

    def replaced(self, inputs: Iterable[Array]) -> Sample:
        """Return the same application to other arrays."""
        return Sample(tuple(inputs), self.hyperparameters)

    def cast(self, dtype: Any) -> Sample:
        """Return the same application to floats of another dtype."""
        return self.replaced(x.astype(dtype) if x.dtype.kind == "f" else x for x in self.inputs)

    def moved(self, k: int, array: Array) -> Sample:
        """Return the sample with another array as its input ``k``."""
        return self.replaced(array if i == k else x for i, x in enumerate(self.inputs))


Samples: TypeAlias = Iterable[Sample | tuple[Array, ...] | tuple[tuple[Array, ...], dict[str, Any]]]
"""What an operation's ``samples()`` gives: the inputs, or a pair of them and hyperparameters."""


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw numbers of both signs, at least 0.2 away from 0, where kinks often are."""
    x = rng.normal(size=shape)
    return np.asarray(np.sign(x) * (np.abs(x) + 0.2))


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": normal,
    "positive": lambda rng, shape: np.asarray(rng.uniform(0.5, 2.0, size=shape)),
    "share": lambda rng, shape: np.asarray(rng.uniform(0.1, 0.9, size=shape)),
    "integer": lambda rng, shape: np.asarray(rng.integers(0, 2, size=shape)),
    "bool": lambda rng, shape: np.asarray(rng.random(size=shape) < 0.5),
}
"""What an input may hold, by what is tried first."""

_SHAPES: dict[int, list[tuple[tuple[int, ...], ...]]] = {
    1: [((3,),), ((2, 3),), ((2, 3, 4),), ((1, 3),), ((2, 2, 4, 5),), ((6,),)],
    2: [
        *[((3,), (3,)), ((2, 3), (2, 3)), ((2, 3), (3,)), ((3, 1), (1, 4)), ((2, 3), (3, 4))],
        *[((2, 3), (2,)), ((5, 2, 3), (3, 4)), ((2, 2, 5, 5), (3, 2, 2, 2))],
    ],
    3: [
        *[((3,),) * 3, ((2, 3),) * 3, ((4, 3), (3, 2), (2,)), ((2, 3), (3,), (2, 1))],
        *[((2, 2, 5, 5), (3, 2, 2, 2), (3,))],
    ],
}


def samples_of(operation: type[Node], seed: int = 0) -> list[Sample]:
    """Return samples of an operation.

    They are its own if it has ``samples``; else some are drawn from the domain that it
    declares; without one they are found by trying.

    Raises
    ------
    CheckError
        If its own cannot be used, or none were found.
    """
    return found_samples(operation, seed)[0]


def found_samples(operation: type[Node], seed: int = 0) -> tuple[list[Sample], str]:
    """Return samples of an operation, and how they were come by; see ``samples_of``."""
    own = inspect.getattr_static(operation, "samples", None)
    rng = np.random.default_rng(seed)
    if own is not None:
        return _own(own, rng), "its own"
    if domains_of(operation):
        from mfcore.testing.search import from_domain

        return from_domain(operation)
    found, reason, attempts = _found(operation, rng)
    if found:
        return found, "found by trying"
    from mfcore.testing.search import from_anything

    wide, how = from_anything(operation)
    if wide:
        return wide, how
    raise CheckError(
        f"no inputs were found that it runs on, in {attempts + WIDE_ATTEMPTS} attempts"
        f"{f' (the first: {reason})' if reason else ''}: declare its domain, or give it a static "
        f"method samples() that returns some"
    )


def _own(own: Any, rng: np.random.Generator) -> list[Sample]:
    if not isinstance(own, staticmethod):
        raise CheckError("samples must be a static method")
    function: Callable[..., Any] = own.__func__
    given = function(rng) if inspect.signature(function).parameters else function()
    samples = [_as_sample(one) for one in given]
    if not samples:
        raise CheckError("samples() gives none")
    return samples


def _as_sample(given: Any) -> Sample:
    """Read what ``samples()`` gives: a sample, a tuple of inputs, or a pair with a dict."""
    if isinstance(given, Sample):
        return given
    inputs = given
    hyperparameters: dict[str, Any] = {}
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], dict):
        inputs, hyperparameters = given
    if not isinstance(inputs, (tuple, list)):
        raise CheckError(
            f"samples() gives {type(inputs).__name__}: it must give tuples of arrays, or pairs "
            f"of such a tuple and a dict of hyperparameters"
        )
    return Sample(tuple(np.asarray(x) for x in inputs), dict(hyperparameters))


def _found(operation: type[Node], rng: np.random.Generator) -> tuple[list[Sample], str, int]:
    """Try shapes, kinds of numbers and hyperparameters until forward works on them.

    Returns
    -------
    samples : list of Sample
        Those that it works on.
    reason : str
        Why it does not on the first on which it does not.
    attempts : int
        On how many it does not.
    """
    spec = spec_of(operation)
    count = len(spec.inputs)
    arities = [count, count + 1] if spec.variadic else [count]
    reasons: list[str] = []
    found: list[Sample] = []
    for hyperparameters in settings_of(operation):
        found += _working(operation, arities, hyperparameters, rng, reasons)
        if len(found) >= ENOUGH:
            break
    if found:
        for chosen in _variations(operation, spec, found[0].hyperparameters):
            found += _working(operation, arities, chosen, rng, reasons)[:2]
    return found, next(iter(reasons), ""), len(reasons)


def _working(
    operation: type[Node],
    arities: list[int],
    hyperparameters: dict[str, Any],
    rng: np.random.Generator,
    reasons: list[str],
) -> list[Sample]:
    """Return a sample of each shape that forward works on; add why not to ``reasons``."""
    found: list[Sample] = []
    for arity in arities:
        for shapes in _SHAPES.get(arity, [((3,),) * arity, ((2, 3),) * arity]):
            for sample in _of_shape(shapes, hyperparameters, rng):
                reason = refusal(operation, sample)
                if not reason:
                    found.append(sample)
                    break
                reasons.append(reason)
    return found


def _of_shape(
    shapes: tuple[tuple[int, ...], ...],
    hyperparameters: dict[str, Any],
    rng: np.random.Generator,
) -> Iterator[Sample]:
    count = len(shapes)
    alike = [(kind,) * count for kind in KINDS]
    mixed = itertools.product(KINDS, repeat=count) if 1 < count <= 3 else []
    for kinds in (*alike[:3], *mixed, *alike[3:]):
        arrays = [KINDS[kind](rng, shape) for kind, shape in zip(kinds, shapes, strict=True)]
        yield Sample(tuple(arrays), hyperparameters)


def refusal(operation: type[Node], sample: Sample) -> str:
    """Return why an operation cannot be tried on a sample, ``""`` where it can."""
    from mfcore.testing.calls import forward

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = forward(operation, sample)
        finite = bool(np.all(np.isfinite(np.asarray(value, dtype=np.float64))))
    except Exception as error:
        return f"{sample}: {type(error).__name__}: {error}"
    return "" if finite else f"{sample}: the result is not finite"


def settings_of(operation: type[Node]) -> list[dict[str, Any]]:
    """Return hyperparameters to try: those without a default are guessed by their type."""
    spec, fields = spec_of(operation), attrs.fields_dict(operation)
    needed = [name for name in spec.hyperparameters if fields[name].default is attrs.NOTHING]
    guesses = [_guesses(str(fields[name].type)) for name in needed]
    # Products in order, cut: an operation that none of them fits has to name its own.
    choices = itertools.islice(itertools.product(*guesses), 60)
    settings = [dict(zip(needed, choice, strict=True)) for choice in choices]
    return [chosen for chosen in settings if _can_be_built(operation, spec, chosen)]


def _variations(
    operation: type[Node], spec: OperationSpec, basis: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the hyperparameters with one at a time of those with a default changed."""
    fields = attrs.fields_dict(operation)
    varied = [
        {**basis, name: guess}
        for name in spec.hyperparameters
        if name not in basis
        for guess in _guesses(str(fields[name].type))[:6]
        if guess != fields[name].default
    ]
    return [chosen for chosen in varied if _can_be_built(operation, spec, chosen)]


def _can_be_built(operation: type[Node], spec: OperationSpec, chosen: dict[str, Any]) -> bool:
    try:
        operation(*[Input() for _ in spec.inputs], **chosen)
    except Exception:
        return False
    return True


def _guesses(kind: str) -> list[Any]:
    found: list[Any] = []
    if "tuple" in kind or "Sequence" in kind:
        found += [(0,), (-1,), (6,), (1, 0), (2, 3), (3, 2, 1)]
    if "float" in kind:
        found += [0.5, 1.5]
    if "int" in kind:
        found += [1, 0, 2, 3, -1]
    if "bool" in kind:
        found += [True, False]
    if "dtype" in kind:
        found += [np.float64]
    return found or [1, 0.5, (0,), 0]
