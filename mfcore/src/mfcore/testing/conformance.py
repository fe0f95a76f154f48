"""All checks of an operation, an optimizer or a whole pack, and the report of what they found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import attrs

from mfcore import registry
from mfcore.node import Node
from mfcore.operation import spec_of
from mfcore.optimizer import optimizer_spec
from mfcore.testing import functions, graphs, optimizers
from mfcore.testing.outcome import CheckError, NotApplicable, Outcome, Report
from mfcore.testing.samples import samples_of

OPERATION_CHECKS: dict[str, Callable[[functions.Subject], int]] = {
    "result": functions.result,
    "gradient form": functions.gradient_form,
    "gradients": graphs.gradients,
    "linearity": functions.linearity,
    "broadcasting": graphs.broadcasting,
    "fan-out": graphs.fan_out,
    "same node twice": graphs.same_node,
    "dtypes": functions.dtypes,
    "layout": functions.layout,
    "zero size": functions.zero_size,
    "0-d": functions.zero_dimensional,
    "arguments": functions.arguments,
    "aliasing": functions.aliasing,
    "determinism": functions.determinism,
    "state": functions.state,
    "names": functions.names,
    "wanted": functions.wanted,
    "pickling": graphs.pickling,
    "file": graphs.file,
    "inference": graphs.inference,
    "graph of gradients": graphs.graph_of_gradients,
}
"""By name: a check takes an operation with samples, and returns how many cases it compared."""

OPTIMIZER_CHECKS: dict[str, Callable[[optimizers.Rule], int]] = {
    "result": optimizers.result,
    "dtypes": optimizers.dtypes,
    "arguments": optimizers.arguments,
    "aliasing": optimizers.aliasing,
    "determinism": optimizers.determinism,
    "element by element": optimizers.element_by_element,
    "state": optimizers.state,
    "names": optimizers.names,
    "pickling": optimizers.pickling,
    "step": optimizers.step,
    "convergence": optimizers.convergence,
}

ENGINES = ("mfjit.numpy",)
"""The engines compared with the reference unless others are named: those that compile at once."""


def examine_operation(
    operation: type[Node],
    *,
    name: str | None = None,
    expected: Mapping[str, str] | None = None,
    engines: Iterable[str] = ENGINES,
) -> Report:
    """Return what all checks of an operation found; see ``check_operation``."""
    spec_of(operation)
    name = name or operation.qualified_name()
    try:
        with _quiet():
            samples = tuple(samples_of(operation))
    except Exception as error:
        return Report((Outcome(name, "samples", "failed", message=_told(error)),))
    found = Outcome(name, "samples", "passed", len(samples))
    checks: dict[str, Any] = dict(OPERATION_CHECKS)
    checks |= {f"engine {e}": partial(graphs.engine_agrees, name=e) for e in engines}
    subject = functions.Subject(operation, samples)
    announced = _announced(operation, expected)
    return Report((found, *_outcomes(name, checks, subject, announced)))


def examine_optimizer(
    optimizer: type,
    *,
    name: str | None = None,
    expected: Mapping[str, str] | None = None,
) -> Report:
    """Return what all checks of an optimizer found; see ``check_optimizer``."""
    optimizer_spec(optimizer)
    name = name or f"{optimizer.__module__.partition('.')[0]}.{optimizer.__name__}"
    try:
        rule = optimizers.rule_of(optimizer)
    except Exception as error:
        return Report((Outcome(name, "samples", "failed", message=_told(error)),))
    checks = dict(OPTIMIZER_CHECKS)
    return Report(tuple(_outcomes(name, checks, rule, _announced(optimizer, expected))))


def check_operation(
    operation: type[Node],
    *,
    expected: Mapping[str, str] | None = None,
    engines: Iterable[str] = ENGINES,
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
        Qualified names of engines to compare with the reference; ``mfjit.numpy`` by default.

    Returns
    -------
    Report
        What ran, and what did not apply and why.

    Raises
    ------
    CheckError
        If a check fails; the message is the report.
    """
    return _raised(examine_operation(operation, expected=expected, engines=engines))


def check_optimizer(optimizer: type, *, expected: Mapping[str, str] | None = None) -> Report:
    """Check an optimizer against the contract; see ``check_operation``.

    Parameters
    ----------
    optimizer : optimizer class
        One that can be made with 0.1 for hyperparameters that have no default, or has a
        static method ``sample()`` that returns one.
    expected : mapping of str to str, optional
        By name of a check: why it is expected to fail.

    Raises
    ------
    CheckError
        If a check fails; the message is the report.
    """
    return _raised(examine_optimizer(optimizer, expected=expected))


@attrs.frozen
class PackCheck:
    """The checks of one operation or optimizer of a pack: called, they run."""

    name: str
    provided: Any = attrs.field(repr=False)
    kind: str = "operation"

    def examine(self, engines: Iterable[str] = ENGINES) -> Report:
        """Return what the checks found."""
        if self.kind == "operation":
            return examine_operation(self.provided, name=self.name, engines=engines)
        return examine_optimizer(self.provided, name=self.name)

    def __call__(self) -> Report:
        """Run the checks; raise ``CheckError`` if one fails."""
        return _raised(self.examine())

    def __str__(self) -> str:
        return self.name


def operation_checks(pack: str) -> list[PackCheck]:
    """Return the checks of all operations of an installed pack, for ``pytest.mark.parametrize``.

    Parameters
    ----------
    pack : str
        The pack's name, as ``miniflow packs`` shows it.

    Raises
    ------
    LookupError
        If there is no such pack, or it provides no operation: nothing would be checked.
    """
    return _checks_of(pack, "operation")


def optimizer_checks(pack: str) -> list[PackCheck]:
    """Return the checks of all optimizers of an installed pack; see ``operation_checks``."""
    return _checks_of(pack, "optimizer")


def _checks_of(pack: str, kind: str) -> list[PackCheck]:
    known = registry.current()
    provided = known.all(kind)
    found = [
        PackCheck(name, cls, kind)
        for name, cls in provided.items()
        if name.rpartition(".")[0] == pack
    ]
    if not found:
        packs = sorted({name.rpartition(".")[0] for name in provided})
        told = f"\n{known.problems()}" if known.problems() else ""
        raise LookupError(
            f"no loaded pack {pack!r} provides any {kind}; those that do are "
            f"{', '.join(packs) or 'none'}{told}"
        )
    return found


def _announced(cls: type, expected: Mapping[str, str] | None) -> dict[str, str]:
    own = getattr(cls, "expected_failures", {})
    return {**(own if isinstance(own, Mapping) else {}), **(expected or {})}


def _outcomes(
    name: str, checks: Mapping[str, Callable[[Any], int]], subject: Any, expected: dict[str, str]
) -> list[Outcome]:
    if unknown := [check for check in expected if check not in checks]:
        message = f"a failure of {unknown[0]!r} is expected, but there is no such check"
        return [Outcome(name, "expected failures", "failed", message=message)]
    return [_outcome(name, check, run, subject, expected) for check, run in checks.items()]


def _outcome(
    name: str,
    check: str,
    run: Callable[[Any], int],
    subject: Any,
    expected: dict[str, str],
) -> Outcome:
    reason = expected.get(check)
    try:
        with _quiet():
            cases = run(subject)
    except NotApplicable as none:
        if reason is None:
            return Outcome(name, check, "not applicable", message=str(none))
        message = f"it is expected to fail ({reason}), but does not apply: {none}"
        return Outcome(name, check, "failed", message=message)
    except Exception as error:
        if reason is None:
            return Outcome(name, check, "failed", message=_told(error))
        return Outcome(name, check, "expected", message=reason)
    if reason is not None:
        message = f"it is expected to fail ({reason}), but passes: expect it no longer"
        return Outcome(name, check, "failed", cases, message)
    return Outcome(name, check, "passed", cases)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, CheckError) else f"{type(error).__name__}: {error}"


class _quiet(warnings.catch_warnings):  # noqa: N801 - it is called as a function
    """Let arrays without elements and extreme numbers pass without NumPy's warnings."""

    def __enter__(self) -> Any:
        log = super().__enter__()
        warnings.simplefilter("ignore", RuntimeWarning)
        return log


def _raised(report: Report) -> Report:
    if not report.ok:
        raise CheckError(str(report))
    return report
