"""What a check says: that it ran, that it did not apply and why, or what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import attrs

Status = Literal["passed", "failed", "expected", "not applicable"]
"""``expected`` is a failure that was announced, with a reason."""


OPTIONAL = frozenset({"manifest"})
"""Checks of what a pack may do without: where one does not apply, nothing is missing."""


WITHOUT_HYPOTHESIS = "by a seeded generator (hypothesis is not installed)"
"""How inputs are drawn where hypothesis cannot."""


class CheckError(AssertionError):
    """What is wrong with an operation or an optimizer, in words for its author."""


class NotApplicable(Exception):
    """A check does not apply to an operation; the message says why."""


@attrs.frozen
class Outcome:
    """What one check found.

    Attributes
    ----------
    subject : str
        Qualified name of the operation or optimizer, or the name of a pack.
    check : str
        Name of the check.
    status : str
        ``passed``, ``failed``, ``expected`` (a failure announced with a reason) or
        ``not applicable``.
    cases : int
        How many comparisons were made.
    message : str
        What is wrong, why a failure is expected, or why the check does not apply; of a check
        that passed, what is worth knowing of it.
    """

    subject: str
    check: str
    status: Status
    cases: int = 0
    message: str = ""

    def __str__(self) -> str:
        told = f": {self.message}" if self.message else ""
        return f"{self.subject}, {self.check}: {self.status}{told}"


@attrs.frozen
class Report:
    """What all checks of one or several subjects found."""

    outcomes: tuple[Outcome, ...]

    @classmethod
    def of(cls, reports: Iterable[Report]) -> Report:
        """Return several reports as one."""
        return cls(tuple(outcome for report in reports for outcome in report.outcomes))

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """What failed unannounced, and what passed although a failure was announced."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == "failed")

    @property
    def ok(self) -> bool:
        """Whether nothing failed, and something was checked."""
        return not self.failures and any(
            outcome.status == "passed" or outcome.check in OPTIONAL for outcome in self.outcomes
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know of checks that passed."""
        without = any(outcome.message.endswith(WITHOUT_HYPOTHESIS) for outcome in self.outcomes)
        return (f"inputs were drawn {WITHOUT_HYPOTHESIS}",) if without else ()

    def counts(self) -> dict[str, int]:
        """Return how many checks passed, failed, failed as expected and did not apply."""
        found = Counter(outcome.status for outcome in self.outcomes)
        kinds: tuple[Status, ...] = ("passed", "failed", "expected", "not applicable")
        return {status: found[status] for status in kinds}

    def __getitem__(self, check: str) -> Outcome:
        """Return the first outcome of a check, by its name."""
        for outcome in self.outcomes:
            if outcome.check == check:
                return outcome
        raise KeyError(check)

    def __str__(self) -> str:
        counts = self.counts()
        cases = sum(outcome.cases for outcome in self.outcomes)
        lines = [
            f"{counts['passed']} checks passed ({cases} cases), {counts['failed']} failed, "
            f"{counts['expected']} failed as expected, {counts['not applicable']} did not apply"
        ]
        lines += self.remarks
        lines += [f"  {o}" for o in self.outcomes if o.status != "passed"]
        return "\n".join(lines)
