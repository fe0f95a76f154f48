"""The checks of packs as tests: what ``--mf-pack`` adds to a session of pytest."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mfcore.errors import QuarantineWarning
from mfcore.registry import Registry, using
from mfcore.testing import Examination, PackCheck, pack_checks


class Conformance:
    """The plugin of one session that checks packs.

    Parameters
    ----------
    config : pytest.Config
        Whose arguments may be ids of single checks.
    registry : Registry
        The one in use when checks are found and run.
    names : sequence of str
        What to check: packs, or single operations and optimizers by qualified name.

    Raises
    ------
    pytest.UsageError
        If there is nothing to check by one of the names, or no such check.
    """

    def __init__(self, config: pytest.Config, registry: Registry, names: Sequence[str]) -> None:
        self._registry = registry
        with self.registry_in_use():
            try:
                checks = pack_checks(*names)
            except LookupError as error:
                raise pytest.UsageError(str(error)) from None
            self._subjects = [(check, check.examination()) for check in checks]
        self._chosen = self._chosen_by(config)

    def _chosen_by(self, config: pytest.Config) -> dict[str, str]:
        """Return the arguments that are ids of checks, and which."""
        known = {check.name: _ids(examination) for check, examination in self._subjects}
        chosen = {}
        for argument in config.args:
            path, *check = argument.split("::")
            # pytest shows an id with the way from here to the root folder.
            subject = Path(path).name
            nodeid = "::".join([subject, *check])
            if subject in known and not (config.invocation_params.dir / path).exists():
                if check and nodeid not in known[subject]:
                    raise pytest.UsageError(
                        f"{argument} is no check; there are {', '.join(known[subject])}"
                    )
                chosen[argument] = nodeid
        return chosen

    @contextmanager
    def registry_in_use(self) -> Iterator[None]:
        """Use the session's registry; what is wrong with other packs is not told here."""
        with warnings.catch_warnings(), using(self._registry):
            warnings.simplefilter("ignore", QuarantineWarning)
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, object, object]:
        """Hide ids of checks from pytest, which looks for files of such names."""
        arguments = session.config.args
        session.config.args = [a for a in arguments if a not in self._chosen]
        try:
            return (yield)
        finally:
            session.config.args = arguments

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Add all that is checked to what the session has collected."""
        report = yield
        if isinstance(collector, pytest.Session) and report.result is not None:
            subjects = [Subject.of(collector, self, *subject) for subject in self._subjects]
            report.result = [*report.result, *subjects]
        return report

    def chosen(self, nodeid: str) -> bool:
        """Whether a check is asked for: all are, unless ids of some are arguments."""
        ids = self._chosen.values()
        return not ids or nodeid in ids or nodeid.partition("::")[0] in ids

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Say of a check that does not apply where its operation is, not where this module is."""
        report = yield
        if isinstance(item, Check) and isinstance(report.longrepr, tuple):
            path, line, _ = item.reportinfo()
            report.longrepr = (os.fspath(path), (line or 0) + 1, report.longrepr[2])
        return report


class Subject(pytest.Collector):
    """An operation or an optimizer, whose checks are tests."""

    conformance: Conformance
    examination: Examination
    source: tuple[Path, int] | None

    @classmethod
    def of(
        cls,
        session: pytest.Session,
        conformance: Conformance,
        check: PackCheck,
        examination: Examination,
    ) -> Subject:
        """Return the collector of the checks of what a pack provides."""
        made: Subject = cls.from_parent(session, name=check.name, nodeid=check.name)
        made.conformance, made.examination = conformance, examination
        made.source = _source_of(check.provided)
        return made

    def collect(self) -> list[pytest.Item]:
        """Return its checks, those that are asked for."""
        checks: list[Check] = [
            Check.from_parent(self, name=_name_of(check), check=check)
            for check in self.examination.checks
        ]
        return [check for check in checks if self.conformance.chosen(check.nodeid)]


class Check(pytest.Item):
    """One check of an operation or an optimizer."""

    parent: Subject

    def __init__(self, *, check: str, **node: Any) -> None:
        super().__init__(**node)
        self._check = check

    def runtest(self) -> None:
        """Run the check; what it found becomes what pytest has for it."""
        examination: Examination = self.parent.examination
        with self.parent.conformance.registry_in_use():
            outcome = examination.outcome(self._check)
        if outcome.status == "failed":
            raise pytest.fail.Exception(outcome.message, pytrace=False)
        if outcome.status == "expected":
            raise pytest.xfail.Exception(outcome.message, pytrace=False)
        if outcome.status == "not applicable":
            raise pytest.skip.Exception(outcome.message)
        self.user_properties.append(("cases", outcome.cases))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the operation is defined, and the title of a failure."""
        path, line = self.parent.source or (self.path, None)
        return path, line, f"{self._check} of {self.parent.name}"


def _source_of(cls: type) -> tuple[Path, int] | None:
    try:
        return Path(inspect.getfile(cls)), inspect.getsourcelines(cls)[1] - 1
    except (OSError, TypeError):  # it was made in an interpreter, or by a factory
        return None


def _name_of(check: str) -> str:
    """Return the name of a check as a test: one word, for command lines and ``-k``."""
    return check.replace(" ", "-")


def _ids(examination: Examination) -> list[str]:
    return [f"{examination.name}::{_name_of(check)}" for check in examination.checks]
