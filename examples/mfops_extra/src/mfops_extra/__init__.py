"""MiniFlow pack: a robust loss, a smooth activation, a top-k, Lion, a tally and curves."""

from mfops_extra.operations import Huber, Swish, TopK
from mfops_extra.optimizers import Lion
from mfops_extra.tally import Tally

__version__ = "0.1.0"

__all__ = ["Huber", "Lion", "Swish", "Tally", "TopK"]
