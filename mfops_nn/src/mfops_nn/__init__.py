"""MiniFlow pack: layers, activations and losses of neural networks."""

from __future__ import annotations

from mfops_basic import Tanh
from mfops_nn.activation import ReLU, Sigmoid, Softmax
from mfops_nn.linear import Linear
from mfops_nn.loss import MSE, BinaryCrossEntropy, CrossEntropy
from mfops_nn.regularization import Dropout

__version__ = "0.1.0"

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Dropout",
    "Linear",
    "MSE",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]

OPERATIONS = tuple(__all__)
"""Names of all operations of the pack."""
