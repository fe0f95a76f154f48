"""MiniFlow pack: the arithmetic that any computation graph needs, grouped by family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mfcore.lazy import lazy_names

if TYPE_CHECKING:
    from mfops_basic.arithmetic import Add, Divide, Mul, Negative, Power, Sqrt, Square, Subtract
    from mfops_basic.casting import Cast
    from mfops_basic.elementary import Abs, Cos, Exp, Expm1, Log, Log1p, Sign, Sin, Tanh
    from mfops_basic.indexing import Index, IndexAdd, OneHot, Take, TakeAdd
    from mfops_basic.linalg import MatMul
    from mfops_basic.reduction import Max, Mean, Min, Sum
    from mfops_basic.selection import (
        Equal,
        Greater,
        GreaterEqual,
        Less,
        LessEqual,
        LogicalAnd,
        LogicalNot,
        LogicalOr,
        LogicalXor,
        Maximum,
        Minimum,
        NotEqual,
        Where,
    )
    from mfops_basic.shape import (
        BroadcastTo,
        Concatenate,
        ExpandDims,
        Reshape,
        Squeeze,
        Stack,
        SwapAxes,
        Transpose,
    )

__version__ = "0.1.0"

__all__ = [
    "Abs",
    "Add",
    "BroadcastTo",
    "Cast",
    "Concatenate",
    "Cos",
    "Divide",
    "Equal",
    "Exp",
    "ExpandDims",
    "Expm1",
    "Greater",
    "GreaterEqual",
    "Index",
    "IndexAdd",
    "Less",
    "LessEqual",
    "Log",
    "Log1p",
    "LogicalAnd",
    "LogicalNot",
    "LogicalOr",
    "LogicalXor",
    "MatMul",
    "Max",
    "Maximum",
    "Mean",
    "Min",
    "Minimum",
    "Mul",
    "Negative",
    "NotEqual",
    "OneHot",
    "Power",
    "Reshape",
    "Sign",
    "Sin",
    "Sqrt",
    "Square",
    "Squeeze",
    "Stack",
    "Subtract",
    "Sum",
    "SwapAxes",
    "Take",
    "TakeAdd",
    "Tanh",
    "Transpose",
    "Where",
]

OPERATIONS = tuple(__all__)
"""Names of all operations of the pack."""

lazy_names(
    __name__,
    {
        "mfops_basic.arithmetic": [
            "Add",
            "Divide",
            "Mul",
            "Negative",
            "Power",
            "Sqrt",
            "Square",
            "Subtract",
        ],
        "mfops_basic.casting": ["Cast"],
        "mfops_basic.elementary": [
            "Abs",
            "Cos",
            "Exp",
            "Expm1",
            "Log",
            "Log1p",
            "Sign",
            "Sin",
            "Tanh",
        ],
        "mfops_basic.indexing": ["Index", "IndexAdd", "OneHot", "Take", "TakeAdd"],
        "mfops_basic.linalg": ["MatMul"],
        "mfops_basic.reduction": ["Max", "Mean", "Min", "Sum"],
        "mfops_basic.selection": [
            "Equal",
            "Greater",
            "GreaterEqual",
            "Less",
            "LessEqual",
            "LogicalAnd",
            "LogicalNot",
            "LogicalOr",
            "LogicalXor",
            "Maximum",
            "Minimum",
            "NotEqual",
            "Where",
        ],
        "mfops_basic.shape": [
            "BroadcastTo",
            "Concatenate",
            "ExpandDims",
            "Reshape",
            "Squeeze",
            "Stack",
            "SwapAxes",
            "Transpose",
        ],
    },
)
