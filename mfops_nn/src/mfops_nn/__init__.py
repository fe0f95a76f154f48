"""MiniFlow pack: layers, activations and losses of neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcore.lazy import lazy_names

if TYPE_CHECKING:
    from mfops_basic import Tanh
    from mfops_nn.activation import ReLU, Sigmoid, Softmax
    from mfops_nn.convolution import Conv2D, Conv2DInputGradient, Conv2DWeightGradient, Correlate2D
    from mfops_nn.linear import Linear
    from mfops_nn.loss import MSE, BinaryCrossEntropy, CrossEntropy
    from mfops_nn.pooling import AvgPool2D, Flatten, MaxPool2D, MaxPool2DGradient
    from mfops_nn.regularization import Dropout

__version__ = "0.1.0"

__all__ = [
    "AvgPool2D",
    "BinaryCrossEntropy",
    "Conv2D",
    "Conv2DInputGradient",
    "Conv2DWeightGradient",
    "Correlate2D",
    "CrossEntropy",
    "Dropout",
    "Flatten",
    "Linear",
    "MSE",
    "MaxPool2D",
    "MaxPool2DGradient",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]

OPERATIONS = tuple(__all__)
"""Names of all operations of the pack."""

lazy_names(
    __name__,
    {
        "mfops_basic": ["Tanh"],
        "mfops_nn.activation": ["ReLU", "Sigmoid", "Softmax"],
        "mfops_nn.convolution": [
            "Conv2D",
            "Conv2DInputGradient",
            "Conv2DWeightGradient",
            "Correlate2D",
        ],
        "mfops_nn.linear": ["Linear"],
        "mfops_nn.loss": ["MSE", "BinaryCrossEntropy", "CrossEntropy"],
        "mfops_nn.pooling": ["AvgPool2D", "Flatten", "MaxPool2D", "MaxPool2DGradient"],
        "mfops_nn.regularization": ["Dropout"],
    },
)
