"""Windows that move over an image: their sizes and strides, and the padding around it."""

from __future__ import annotations

import operator
from typing import Any, TypeAlias

from mfcore import errors

Pair: TypeAlias = tuple[int, int]


def _integers(value: Any, least: int) -> Pair | None:
    try:
        first, second = value if isinstance(value, (tuple, list)) else (value, value)
        if isinstance(first, bool) or isinstance(second, bool):
            return None
        pair = operator.index(first), operator.index(second)
    except (TypeError, ValueError):
        return None
    return pair if min(pair) >= least else None


def as_sizes(value: Any) -> Pair:
    """Return a window's size, or a stride, as a pair of ints.

    Raises
    ------
    NodeUseError
        If it is no integer from 1, and no pair of them.
    """
    pair = _integers(value, 1)
    if pair is None:
        raise errors.NodeUseError(
            f"a size or stride is an integer from 1, or a pair of them for height and width, "
            f"not {value!r}"
        )
    return pair


def as_image_size(value: Any) -> Pair:
    """Return an image's height and width as a pair of ints.

    Raises
    ------
    NodeUseError
        If it is no integer from 0, and no pair of them.
    """
    pair = _integers(value, 0)
    if pair is None:
        raise errors.NodeUseError(f"an image has a height and a width, not {value!r}")
    return pair


def as_padding(value: Any) -> Pair | str:
    """Return padding as a pair of ints, "same" or "valid".

    Raises
    ------
    NodeUseError
        If it is none of these, and no integer from 0.
    """
    if isinstance(value, str) and value in ("same", "valid"):
        return value
    pair = _integers(value, 0)
    if pair is None:
        raise errors.NodeUseError(
            f"padding is an integer from 0, a pair of them for height and width, "
            f"'same' or 'valid', not {value!r}"
        )
    return pair


def padding_of(size: Pair, kernel: Pair, stride: Pair, padding: Pair | str) -> tuple[Pair, Pair]:
    """Return how many rows and columns of padding are before and after an image.

    With "same" there are ``ceil(size / stride)`` windows along an axis; where their padding
    is odd, the larger half is after the image.

    Parameters
    ----------
    size, kernel, stride : pair of int
        Height and width of the image and of the windows, and the windows' distances.
    padding : pair of int, "same" or "valid"
        As an operation has it.

    Returns
    -------
    pair of pairs of int
        ``(top, bottom), (left, right)``.
    """
    if padding == "same":
        needed = [
            max(((n - 1) // s) * s + k - n, 0) for n, k, s in zip(size, kernel, stride, strict=True)
        ]
        top, left = (n // 2 for n in needed)
        return (top, needed[0] - top), (left, needed[1] - left)
    rows, columns = (0, 0) if isinstance(padding, str) else padding
    return (rows, rows), (columns, columns)


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair | str) -> Pair:
    """Return how many windows fit into a padded image, along its height and its width.

    Raises
    ------
    ValueError
        If the window is larger than the padded image, or empty.
    """
    if min(kernel) < 1:
        raise ValueError(f"a window of {kernel[0]} x {kernel[1]} holds nothing")
    pads = padding_of(size, kernel, stride, padding)
    rows, columns = (n + sum(pad) - k for n, pad, k in zip(size, pads, kernel, strict=True))
    if min(rows, columns) < 0:
        raise ValueError(
            f"a window of {kernel[0]} x {kernel[1]} is larger than the image of "
            f"{size[0]} x {size[1]} with padding {padding!r}"
        )
    return rows // stride[0] + 1, columns // stride[1] + 1
