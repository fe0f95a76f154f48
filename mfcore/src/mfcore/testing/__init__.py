"""Conformance: whether an operation or an optimizer keeps the contract that engines rely on.

One line in a pack's tests checks an operation, ``check_operation(MyOperation)``; one more,
over ``pack_checks("mfops_mine")``, a whole pack. So does
``miniflow check`` on the command line, for whatever is installed.
"""

from mfcore.testing.conformance import (
    OPERATION_CHECKS,
    OPTIMIZER_CHECKS,
    Examination,
    check_operation,
    check_optimizer,
    examine_operation,
    examine_optimizer,
)
from mfcore.testing.outcome import CheckError, NotApplicable, Outcome, Report
from mfcore.testing.packs import PackCheck, operation_checks, optimizer_checks, pack_checks
from mfcore.testing.samples import Sample, Samples, samples_of

__all__ = [
    "CheckError",
    "Examination",
    "NotApplicable",
    "OPERATION_CHECKS",
    "OPTIMIZER_CHECKS",
    "Outcome",
    "PackCheck",
    "Report",
    "Sample",
    "Samples",
    "check_operation",
    "check_optimizer",
    "examine_operation",
    "examine_optimizer",
    "operation_checks",
    "optimizer_checks",
    "pack_checks",
    "samples_of",
]
