"""All checks of an operation, an optimizer or a manifest, and the report of what they found."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import attrs

from mfcore.manifest import read, verify
from mfcore.node import Node
from mfcore.operation import spec_of
from mfcore.optimizer import optimizer_spec
from mfcore.registry import Pack
from mfcore.testing import derivatives, formula, functions, graphs, optimizers, purity
from mfcore.testing.engines import engine_checks, operation_agrees, optimizer_agrees
from mfcore.testing.examples import examples
from mfcore.testing.outcome import CheckError, NotApplicable, Outcome, Report
from mfcore.testing.rule import Rule, rule_of
from mfcore.testing.samples import found_samples
from mfcore.testing.subject import Subject

Found: TypeAlias = int | tuple[int, str]
"""What a check returns: how many cases it compared, and perhaps what to say of them."""

OPERATION_CHECKS: dict[str, Callable[[Subject], Found]] = {
    "result": functions.result,
    "gradient form": functions.gradient_form,
    "gradients": derivatives.gradients,
    "linearity": functions.linearity,
    "examples": examples,
    "broadcasting": derivatives.broadcasting,
    "fan-out": derivatives.fan_out,
    "same node twice": derivatives.same_node,
    "dtypes": functions.dtypes,
    "layout": functions.layout,
    "zero size": functions.zero_size,
    "0-d": functions.zero_dimensional,
    "arguments": purity.arguments,
    "aliasing": purity.aliasing,
    "determinism": purity.determinism,
    "state": purity.state,
    "names": purity.names,
    "wanted": purity.wanted,
    "pickling": graphs.pickling,
    "file": graphs.file,
    "inference": graphs.inference,
    "traceable": graphs.traceable,
    "graph of gradients": derivatives.graph_of_gradients,
}
"""By name: a check takes an operation with samples; there is one more for each engine."""

OPTIMIZER_CHECKS: dict[str, Callable[[Rule], Found]] = {
    "result": optimizers.result,
    "dtypes": optimizers.dtypes,
    "arguments": optimizers.arguments,
    "aliasing": optimizers.aliasing,
    "determinism": optimizers.determinism,
    "element by element": optimizers.element_by_element,
    "state": optimizers.state,
    "names": optimizers.names,
    "pickling": optimizers.pickling,
    "formula": formula.formula,
    "step": optimizers.step,
    "convergence": optimizers.convergence,
}


@attrs.define(eq=False)
class Examination:
    """The checks of an operation, an optimizer or a manifest; each runs when it is asked for.

    Attributes
    ----------
    name : str
        Qualified name of the operation or optimizer, or the name of the pack.
    """

    name: str
    _run: Mapping[str, Callable[[Any], Found]]
    _expected: Mapping[str, str]
    _find: Callable[[], tuple[Any, int, str]]
    _on_samples: bool = True

    @classmethod
    def of_operation(
        cls,
        operation: type[Node],
        *,
        name: str | None = None,
        expected: Mapping[str, str] | None = None,
        engines: Iterable[str] | None = None,
    ) -> Examination:
        """Return the checks of an operation; see ``check_operation``."""
        spec_of(operation)
        checks = {**OPERATION_CHECKS, **engine_checks(operation_agrees, engines)}
        announced = _announced(operation, expected)

        def find() -> tuple[Subject, int, str]:
            samples, how = found_samples(operation)
            return Subject(operation, tuple(samples), frozenset(announced)), len(samples), how

        return cls(name or operation.qualified_name(), checks, announced, find)

    @classmethod
    def of_optimizer(
        cls,
        optimizer: type,
        *,
        name: str | None = None,
        expected: Mapping[str, str] | None = None,
        engines: Iterable[str] | None = None,
    ) -> Examination:
        """Return the checks of an optimizer; see ``check_optimizer``."""
        optimizer_spec(optimizer)
        checks = {**OPTIMIZER_CHECKS, **engine_checks(optimizer_agrees, engines)}
        name = name or f"{optimizer.__module__.partition('.')[0]}.{optimizer.__name__}"
        expected = _announced(optimizer, expected)

        def find() -> tuple[Rule, int, str]:
            rule = rule_of(optimizer)
            return rule, len(rule.variants), "hyperparameters as they are, and changed"

        return cls(name, checks, expected, find)

    @classmethod
    def of_manifest(cls, pack: Pack) -> Examination:
        """Return the check of a pack's manifest."""
        return cls(pack.name, {"manifest": manifest}, {}, lambda: (pack, 1, ""), on_samples=False)

    @property
    def checks(self) -> tuple[str, ...]:
        """The names of the checks, in order."""
        samples = ("samples",) if self._on_samples else ()
        announced = ("expected failures",) if self._unknown else ()
        return (*samples, *announced, *self._run)

    def outcome(self, check: str) -> Outcome:
        """Run one check, named as in ``checks``, and return what it found."""
        if check == "samples":
            return self._samples[1]
        if check == "expected failures":
            message = f"a failure of {self._unknown[0]!r} is expected, but there is no such check"
            return Outcome(self.name, check, "failed", message=message)
        subject, samples = self._samples
        if samples.status == "failed":
            message = "there are no samples to try it on"
            return Outcome(self.name, check, "not applicable", message=message)
        return _outcome(self.name, check, self._run[check], subject, self._expected.get(check))

    def report(self) -> Report:
        """Run all checks; without samples nothing else is reported."""
        first, *others = self.checks
        found = self.outcome(first)
        if first == "samples" and found.status == "failed":
            others = []
        return Report((found, *(self.outcome(check) for check in others)))

    @property
    def _unknown(self) -> list[str]:
        return [check for check in self._expected if check not in self._run]

    @cached_property
    def _samples(self) -> tuple[Any, Outcome]:
        """What the checks are given, and the outcome of finding it."""
        try:
            with _quiet():
                subject, cases, how = self._find()
        except Exception as error:
            return None, Outcome(self.name, "samples", "failed", message=_told(error))
        return subject, Outcome(self.name, "samples", "passed", cases, how)


def manifest(pack: Pack) -> int:
    """What a pack's manifest says is what the pack provides."""
    if wrong := verify(pack):
        raise CheckError("\n".join(wrong))
    if read(pack) is None:
        raise NotApplicable("the pack carries no manifest, and is imported to be looked up")
    return 1


def examine_operation(
    operation: type[Node],
    *,
    name: str | None = None,
    expected: Mapping[str, str] | None = None,
    engines: Iterable[str] | None = None,
) -> Report:
    """Return what all checks of an operation found; see ``check_operation``."""
    examined = Examination.of_operation(operation, name=name, expected=expected, engines=engines)
    return examined.report()


def examine_optimizer(
    optimizer: type,
    *,
    name: str | None = None,
    expected: Mapping[str, str] | None = None,
    engines: Iterable[str] | None = None,
) -> Report:
    """Return what all checks of an optimizer found; see ``check_optimizer``."""
    examined = Examination.of_optimizer(optimizer, name=name, expected=expected, engines=engines)
    return examined.report()


def check_operation(
    operation: type[Node],
    *,
    expected: Mapping[str, str] | None = None,
    engines: Iterable[str] | None = None,
) -> Report:
    """Check an operation against the contract.

    Parameters
    ----------
    operation : operation class
        One with a static method ``samples()``, or whose inputs can be found by trying.
    expected : mapping of str to str, optional
        By name of a check: why it is expected to fail. It must then fail. The class
        attribute ``expected_failures`` says the same for whoever checks the operation.
    engines : iterable of str, optional
        Qualified names of engines to compare with the reference, or ``["all"]`` for all that
        are installed; by default those that compile at once.

    Returns
    -------
    Report
        What ran, and what did not apply and why.

    Raises
    ------
    CheckError
        If a check fails; the message is the report.
    """
    return raised(examine_operation(operation, expected=expected, engines=engines))


def check_optimizer(
    optimizer: type,
    *,
    expected: Mapping[str, str] | None = None,
    engines: Iterable[str] | None = None,
) -> Report:
    """Check an optimizer against the contract; see ``check_operation``.

    Parameters
    ----------
    optimizer : optimizer class
        One that can be made with 0.1 for hyperparameters that have no default, or has a
        static method ``sample()`` that returns one.
    expected : mapping of str to str, optional
        By name of a check: why it is expected to fail.
    engines : iterable of str, optional
        As for operations.

    Raises
    ------
    CheckError
        If a check fails; the message is the report.
    """
    return raised(examine_optimizer(optimizer, expected=expected, engines=engines))


def _announced(cls: type, expected: Mapping[str, str] | None) -> dict[str, str]:
    own = getattr(cls, "expected_failures", {})
    return {**(own if isinstance(own, Mapping) else {}), **(expected or {})}


def _outcome(
    name: str,
    check: str,
    run: Callable[[Any], Found],
    subject: Any,
    reason: str | None,
) -> Outcome:
    try:
        with _quiet():
            found = run(subject)
    except NotApplicable as none:
        if reason is None:
            return Outcome(name, check, "not applicable", message=str(none))
        message = f"it is expected to fail ({reason}), but does not apply: {none}"
        return Outcome(name, check, "failed", message=message)
    except Exception as error:
        if reason is None:
            return Outcome(name, check, "failed", message=_told(error))
        return Outcome(name, check, "expected", message=reason)
    cases, told = found if isinstance(found, tuple) else (found, "")
    if reason is not None:
        message = f"it is expected to fail ({reason}), but passes: expect it no longer"
        return Outcome(name, check, "failed", cases, message)
    return Outcome(name, check, "passed", cases, told)


def _told(error: Exception) -> str:
    if isinstance(error, CheckError):
        return str(error)
    return f"{type(error).__name__}: {error}{_where(error)}"


def _where(error: Exception) -> str:
    """Say on which line of the pack an error came about; nothing where it was on none."""
    lines = [
        f" ({frame.f_code.co_filename}:{line}, in {frame.f_code.co_name})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").partition(".")[0] not in ("mfcore", "numpy")
        and not frame.f_code.co_filename.startswith("<")  # made by attrs
    ]
    return lines[-1] if lines else ""


class _quiet(warnings.catch_warnings):  # noqa: N801 - it is called as a function
    """Let arrays without elements and extreme numbers pass without NumPy's warnings."""

    def __enter__(self) -> Any:
        log = super().__enter__()
        warnings.simplefilter("ignore", RuntimeWarning)
        return log


def raised(report: Report) -> Report:
    """Return a report, or raise ``CheckError`` with it if a check failed."""
    if not report.ok:
        raise CheckError(str(report))
    return report
