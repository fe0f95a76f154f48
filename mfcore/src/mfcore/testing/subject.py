"""An operation under test, with the samples to try it on."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from mfcore.node import Node
from mfcore.operation import spec_of
from mfcore.testing.calls import Called, call, call_forward
from mfcore.testing.samples import Sample


@attrs.frozen(eq=False)
class Subject:
    """An operation under test: the class, and the samples to try it on."""

    operation: type[Node]
    samples: tuple[Sample, ...]

    def calls(self) -> Iterator[tuple[Sample, Called]]:
        """Call both functions on each sample; only ``forward`` where there is no derivative."""
        for sample in self.samples:
            yield sample, self.called(sample)

    def called(self, sample: Sample) -> Called:
        """Call both functions on a sample; only ``forward`` where there is no derivative."""
        differentiable = spec_of(self.operation).differentiable
        return (call if differentiable else call_forward)(self.operation, sample)
