"""Checks against engines: what runs on one agrees with the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import attrs
import numpy as np

from mfcore import registry
from mfcore.engine import Engine
from mfcore.errors import EngineError, MiniFlowError, QuarantineWarning, UnknownNameError
from mfcore.graph import Graph
from mfcore.node import Input, Parameter
from mfcore.operation import spec_of
from mfcore.optimizer import optimizer_spec
from mfcore.reference import ReferenceEngine
from mfcore.session import Session
from mfcore.testing.comparison import close, difference
from mfcore.testing.graphs import Both, results, sources
from mfcore.testing.optimizers import Bowl
from mfcore.testing.outcome import CheckError, NotApplicable
from mfcore.testing.rule import Rule
from mfcore.testing.samples import Sample
from mfcore.testing.subject import Subject

REFERENCE = "mfcore.reference"

MOST_VARIANTS = 8
"""So many variants of an optimizer are compiled, and the one with the most changes."""


def engines_to_compare(asked: Iterable[str] | None) -> dict[str, str]:
    """Return the engines that an author asks for, and those left out with the reason.

    Parameters
    ----------
    asked : iterable of str or None
        Qualified names; ``"all"`` stands for all that are installed, and ``None`` for those
        of them that compile at once.

    Returns
    -------
    dict
        By name: why it is not compared, ``""`` if it is.
    """
    with warnings.catch_warnings():
        # What is wrong with packs that nobody asked for is not told here.
        warnings.simplefilter("ignore", QuarantineWarning)
        installed = registry.current().all("engine")
    installed.pop(REFERENCE, None)
    wanted = tuple(asked) if asked is not None else ()
    chosen = {name: "" for name in wanted if name != "all"}
    for name, engine in installed.items():
        if "all" in wanted or (asked is None and not engine.slow):
            chosen[name] = ""
        elif name not in chosen:
            chosen[name] = (
                "it compiles slowly, and is compared only when asked for"
                if asked is None
                else "it was not asked for"
            )
    return chosen


def engine_checks(
    check: Callable[..., tuple[int, str]], asked: Iterable[str] | None
) -> Mapping[str, Callable[[Any], tuple[int, str]]]:
    """Return a check for each engine, by name of the check; those left out say why."""
    chosen = engines_to_compare(asked)
    if not chosen:
        return {"engine": partial(_left_out, reason="none but the reference is installed")}
    return {
        f"engine {name}": partial(_left_out, reason=reason) if reason else partial(check, name=name)
        for name, reason in chosen.items()
    }


def _left_out(_subject: Any, reason: str) -> tuple[int, str]:
    raise NotApplicable(f"not compared: {reason}")


def _engine(name: str) -> Callable[[], Engine]:
    try:
        return registry.current().engine(name)
    except UnknownNameError:
        raise NotApplicable(f"no engine {name} is installed") from None


@attrs.define
class _Refusals:
    """What an engine refuses by an error of its own, which is its good right."""

    compared: int = 0
    refused: int = 0
    reason: str = ""

    def note(self, error: EngineError) -> None:
        self.refused += 1
        self.reason = self.reason or str(error).splitlines()[0]

    def found(self, what: str) -> tuple[int, str]:
        """Return what a check returns; raise ``NotApplicable`` if all was refused."""
        if self.refused and not self.compared:
            raise NotApplicable(f"the engine refuses it: {self.reason}")
        told = f"it refuses {self.refused} more {what}: {self.reason}" if self.refused else ""
        return self.compared, told


def operation_agrees(subject: Subject, name: str) -> tuple[int, str]:
    """Values and gradients on an engine are the reference's, on every sample.

    An operation that asks for ``rng`` or ``training`` is compared in training too; with one
    seed engines draw the same numbers.
    """
    engine, refusals = _engine(name), _Refusals()
    flags = {"rng", "training"} & set(spec_of(subject.operation).forward_asks)
    for sample in subject.samples:
        for training in (False, True) if flags else (False,):
            expected = results(subject, sample, ReferenceEngine(), training)
            try:
                found = results(subject, sample, engine(), training)
            except EngineError as error:
                refusals.note(error)
                continue
            except MiniFlowError as error:
                raise CheckError(f"the engine {name} fails on {sample}: {error}") from error
            _compare_run(subject, sample, name, found, expected)
            refusals.compared += 1
    return refusals.found("runs")


def _compare_run(subject: Subject, sample: Sample, name: str, found: Any, expected: Any) -> None:
    names = ["the result", *(f"the gradient of {n}" for n in sources(subject, sample))]
    pairs = zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True)
    for what, (mine, its) in zip(names, pairs, strict=True):
        if not close(mine, its, rtol=1e-9, atol=1e-11):
            raise CheckError(
                f"the engine {name} disagrees with the reference about {what}, "
                f"{difference('it', mine, its)}, on {sample}"
            )


def _falling(step: int) -> float:
    """A schedule, for hyperparameters that may be one."""
    return 0.1 / (1 + step)


def optimizer_agrees(rule: Rule, name: str) -> tuple[int, str]:
    """Training by steps and by an epoch on an engine ends where it does on the reference."""
    engine, refusals = _engine(name), _Refusals()
    for made in _compiled_variants(rule):
        expected = _trained(made, ReferenceEngine())
        try:
            found = _trained(made, engine())
        except EngineError as error:
            refusals.note(error)
            continue
        except MiniFlowError as error:
            raise CheckError(f"the engine {name} fails to train by {made!r}: {error}") from error
        for what, mine in found.items():
            if not close(mine, expected[what], rtol=1e-9, atol=1e-11):
                raise CheckError(
                    f"the engine {name} disagrees with the reference about {what} after training "
                    f"by {made!r}, {difference('it', mine, expected[what])}"
                )
        refusals.compared += 1
    return refusals.found("trainings")


def _compiled_variants(rule: Rule) -> list[Any]:
    """Return variants to compile: few changes, the most changes, and a schedule if it may be."""
    chosen = list(rule.variants[:MOST_VARIANTS])
    if len(rule.variants) > MOST_VARIANTS:
        chosen.append(rule.variants[-1])
    for field in attrs.fields(rule.cls):
        if "Schedule" in str(field.type):
            chosen.append(attrs.evolve(rule.made, **{field.alias: _falling}))
    return chosen


def _trained(made: Any, engine: Engine) -> dict[str, Any]:
    """Train two parameters; return costs, parameters and what the optimizer remembers."""
    rng = np.random.default_rng(0)
    x, y = Parameter(rng.normal(size=3), name="x"), Parameter(rng.normal(size=(2, 1)), name="y")
    near_x, near_y = Input("near_x"), Input("near_y")
    graph = Graph(Both(Bowl(x, near_x), Bowl(y, near_y)))
    data = {near_x: rng.normal(size=(6, 3)), near_y: rng.normal(size=(6, 2, 2))}
    session = Session(graph, engine=engine, seed=0)
    found: dict[str, Any] = {}
    for number in range(3):
        batch = {node: array[number : number + 1] for node, array in data.items()}
        found[f"the cost of step {number + 1}"] = session.step(batch, made)
    found["the costs of an epoch"] = session.epoch(data, made, [[0, 1], [2, 3], [4, 5], [1, 4]])
    found |= {f"the parameter {p.name}": session[p] for p in (x, y)}
    state = session.optimizer_state()
    if state is not None and optimizer_spec(made).init is not None:
        for p, kept in zip(graph.parameters, state.states, strict=True):
            found |= {f"state {k} of {p.name}": array for k, array in enumerate(kept)}
    return found
