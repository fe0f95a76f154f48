"""An operation under test, with the samples to try it on."""

from __future__ import annotations

import attrs

from mfcore.node import Node
from mfcore.operation import spec_of
from mfcore.testing.calls import Called, call, call_forward
from mfcore.testing.samples import Sample


@attrs.frozen(eq=False)
class Subject:
    """An operation under test.

    Attributes
    ----------
    operation : operation class
        The class.
    samples : tuple of Sample
        What to try it on.
    expected : frozenset of str
        The checks that are expected to fail.
    """

    operation: type[Node]
    samples: tuple[Sample, ...]
    expected: frozenset[str] = frozenset()

    def called(self, sample: Sample) -> Called:
        """Call both functions on a sample; only ``forward`` where there is no derivative."""
        differentiable = spec_of(self.operation).differentiable
        return (call if differentiable else call_forward)(self.operation, sample)
