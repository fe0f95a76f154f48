"""One application of an operation, apart from its graph, which can be run again alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from mfcore.checks import unbroadcast
from mfcore.errors import MiniFlowError, type_name
from mfcore.node import Array, Constant, Node
from mfcore.operation import OperationSpec, spec_of
from mfcore.run import Run
from mfcore.values import as_array
from mftrace.guard_report import ArrayReport, Checks, GuardReport, array_report

UNKNOWN: Any = object()
"""Stands for what ``forward`` saved, where that has to be computed again."""

GENERATORS: Mapping[str, type[np.random.BitGenerator]] = {
    "PCG64": np.random.PCG64,
    "PCG64DXSM": np.random.PCG64DXSM,
    "SFC64": np.random.SFC64,
}
"""Random generators whose state can be kept: none of it is a place in memory."""


class ApplicationError(MiniFlowError, RuntimeError):
    """An operation could not be run again alone: it raised, or broke the contract."""


@attrs.frozen(eq=False)
class Application:
    """An operation with all that it was given in one run.

    Attributes
    ----------
    operation : operation class
        What is applied.
    node, pack : str
        Name of the node, and the pack that provides the operation, with its version.
    site : tuple of str and int
        File and line where the node was built.
    phase : str
        ``"forward"`` or ``"backward"``: what failed.
    hyperparameters : dict
        By name.
    inputs : tuple
        The inputs' values, in order; Python numbers where the operation got such.
    sources : tuple of str
        The names of the nodes that they came from.
    checks : Checks
        What counts as bad.
    step : int or None
        The training step, if there was one.
    training : bool
        What ``forward`` and ``backward`` get as ``training``.
    rng : dict or None
        State of the random generator before ``forward``, as NumPy gives it.
    grad, value : array or None
        For ``backward``: the gradient received, and the value.
    saved : object
        For ``backward``: what ``forward`` saved.
    wanted : tuple of bool
        For ``backward``: which inputs want a gradient.
    notes : tuple of str
        What else the report is to say.
    """

    operation: type[Node]
    node: str
    pack: str
    site: tuple[str, int]
    phase: str
    hyperparameters: dict[str, Any]
    inputs: tuple[Any, ...]
    sources: tuple[str, ...]
    checks: Checks
    step: int | None = None
    training: bool = False
    rng: dict[str, Any] | None = None
    grad: Any = None
    value: Any = None
    saved: Any = UNKNOWN
    wanted: tuple[bool, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> OperationSpec:
        """What the core knows of the operation."""
        return spec_of(self.operation)

    def forward(self) -> tuple[Array, Any]:
        """Return the value, and what was saved beside it (``None`` if nothing is).

        Raises
        ------
        ApplicationError
            If the operation raises, or returns no array.
        """
        spec = self.spec
        returned = self._call(lambda: spec.call_forward(self._given()))
        value, saved = returned, None
        if spec.saves:
            if type(returned) is not tuple or len(returned) != 2:
                raise ApplicationError(f"forward of {self.node} did not return (value, saved)")
            value, saved = returned
        if not isinstance(value, (np.ndarray, np.generic)):
            raise ApplicationError(f"forward of {self.node} returned {type_name(value)}, no array")
        return np.asarray(value)[()], saved

    def backward(self) -> dict[str, Array | None]:
        """Return the gradient for each input, by field name, in the input's shape and dtype.

        Raises
        ------
        ApplicationError
            If the operation raises, or breaks the contract.
        """
        spec = self.spec
        if spec.backward is None:
            raise ApplicationError(f"{self.operation.__name__} has no backward")
        given = self.given_backward()
        returned = self._call(lambda: spec.call_backward(given))
        gradients = returned if isinstance(returned, (tuple, list)) else (returned,)
        names = spec.input_names(len(self.inputs))
        if len(gradients) != len(names):
            raise ApplicationError(
                f"backward of {self.node} returned {len(gradients)} gradients for "
                f"{len(names)} inputs"
            )
        fitted = self._call(lambda: list(self._fitted(gradients)))
        return dict(zip(names, fitted, strict=True))

    def given_backward(self) -> dict[str, Any]:
        """Return what ``backward`` may ask for, by name; ``saved`` is computed if need be."""
        spec, saved = self.spec, self.saved
        if saved is UNKNOWN:
            saved = self.forward()[1] if spec.saves else None
        given = self._given() | {"grad": self.grad, "value": self.value, "saved": saved}
        return given | {"saved_of_result": saved, "wanted": spec.wanted(self.wanted)}

    def report(self) -> GuardReport:
        """Run what failed again, and report how it went.

        Raises
        ------
        ApplicationError
            If the operation raises, or breaks the contract.
        """
        if self.phase == "forward":
            return self.report_of({"value": self.forward()[0]})
        return self.report_of(self.backward())

    def report_of(self, results: Mapping[str, Array | None]) -> GuardReport:
        """Report on results: the value, or what was sent to each input by field name."""
        spec = self.spec
        names = spec.input_names(len(self.inputs))
        given = list(zip(names, self.sources, self.inputs, strict=True))
        inputs = [array_report(name, source, x, self.checks) for name, source, x in given]
        if self.phase == "backward":
            inputs.insert(0, array_report("grad", "", self.grad, self.checks))
        source_of = dict(zip(names, self.sources, strict=True))
        out: list[ArrayReport] = []
        for name, array in results.items():
            if array is not None:
                out.append(array_report(name, source_of.get(name, ""), array, self.checks))
        bad = [a for a in results.values() if a is not None and not self.checks.passes(a)]
        return GuardReport(
            phase=self.phase,
            node=self.node,
            operation=self.operation.qualified_name(),
            pack=self.pack,
            site=self.site,
            step=self.step,
            hyperparameters=tuple((k, repr(v)) for k, v in self.hyperparameters.items()),
            inputs=tuple(inputs),
            results=tuple(out),
            reproduced=bool(bad),
            notes=self.notes,
        )

    def _given(self) -> dict[str, Any]:
        """Return what the functions may ask for, by name, beside the gradient."""
        spec = self.spec
        given = spec.named_inputs(self.inputs) | self.hyperparameters
        given |= {"training": self.training, "rng": None}
        if "rng" in spec.forward_asks and self.rng is not None:
            given["rng"] = generator(self.rng)
        if "saved_of_result" in spec.forward_asks:
            given["saved_of_result"] = None if self.saved is UNKNOWN else self.saved
        return given

    def _fitted(self, gradients: Iterable[Any]) -> Iterable[Array | None]:
        """Yield gradients as the core hands them on: in the input's shape and dtype."""
        spec = self.spec
        for k, (gradient, given) in enumerate(zip(gradients, self.inputs, strict=True)):
            if gradient is None or not self.wanted[k]:
                yield None
                continue
            array, like = as_array(gradient, "a gradient")[()], np.asarray(given)
            if array.shape != like.shape:
                field = spec.inputs[min(k, len(spec.inputs) - 1)]
                summed = unbroadcast(array, like.shape) if field in spec.broadcasts else None
                if summed is None:
                    raise ApplicationError(
                        f"backward of {self.node} returned a gradient of shape {array.shape} "
                        f"for an input of shape {like.shape}"
                    )
                array = summed
            if like.dtype.kind == "f" and array.dtype != like.dtype:
                array = array.astype(like.dtype)
            yield array

    def _call(self, function: Any) -> Any:
        """Call without NumPy's warnings; every error is the application's."""
        try:
            with np.errstate(all="ignore"):
                return function()
        except ApplicationError:
            raise
        except Exception as error:
            raise ApplicationError(
                f"{self.phase} of {self.node} ({self.operation.qualified_name()}) raised "
                f"{type(error).__name__}: {error}"
            ) from error


def inputs_of(run: Run, node: Node) -> tuple[Any, ...]:
    """Return what an operation got in a run: Python numbers stay such beside an array."""
    stays = spec_of(node).keeps_numbers(isinstance(source, Constant) for source in node.inputs)
    return tuple(
        source.value
        if stays and isinstance(source, Constant) and type(source.value) in (bool, int, float)
        else run[source]
        for source in node.inputs
    )


def generator(state: Mapping[str, Any]) -> np.random.Generator:
    """Return a random generator in a state that ``bit_generator.state`` gave.

    Raises
    ------
    ValueError
        If it is no such state, or one of a generator that is not among ``GENERATORS``.
    """
    kind = GENERATORS.get(str(state.get("bit_generator")))
    if kind is None:
        raise ValueError(f"the random generator must be one of {', '.join(GENERATORS)}")
    made = kind(0)
    try:
        made.state = dict(state)
    except Exception as error:
        raise ValueError(f"no state of a random generator: {error}") from None
    return np.random.Generator(made)
