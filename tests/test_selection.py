"""The shape that an index selects: NumPy's own, found without making what is selected."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mfcore.abstract import Abstract
from mfcore.errors import NotTraceableError
from mfcore.selection import selected_shape

FLOAT = np.dtype(np.float64)
PARTS = st.one_of(
    st.none(),
    st.just(Ellipsis),
    st.integers(-4, 3),
    st.slices(5),
    st.lists(st.integers(-3, 2), max_size=3),
    st.lists(st.lists(st.integers(-2, 1), min_size=2, max_size=2), min_size=1, max_size=3).map(
        np.array
    ),
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.booleans(), min_size=n, max_size=n).map(lambda x: np.array(x, bool))
    ),
    st.just(np.array([[True, False, True], [False, False, True]])),
)


@settings(max_examples=1500)
@given(
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
    st.lists(PARTS, max_size=6).map(tuple),
)
@example((2, 3, 4), ([0], slice(None), [1]))
@example((2, 3, 4), ([0], ..., [1]))
@example((2, 3), ([0], ..., [1]))
@example((2, 3, 4), (0, slice(None), [1, 1]))
@example((2, 3, 4), (None, [0], None, [1]))
@example((2, 3), (np.ones((2, 3), bool),))
@example((2, 4), (np.ones((2, 3), bool),))
@example((0, 3), ([],))
def test_what_numpy_selects_is_what_is_said(shape: tuple[int, ...], parts: tuple[Any, ...]) -> None:
    try:
        expected = np.zeros(shape)[parts].shape
    except IndexError:
        with pytest.raises((IndexError, ValueError)):
            selected_shape(shape, parts)
    else:
        assert selected_shape(shape, parts) == expected


@pytest.mark.parametrize(
    "part", [True, np.bool_(False), np.array(True), Abstract((3,), np.dtype(bool))]
)
def test_what_depends_on_bools_cannot_be_told(part: Any) -> None:
    with pytest.raises(NotTraceableError):
        selected_shape((3, 2), (part,))


def test_more_axes_than_a_miniature_can_have_cannot_be_told() -> None:
    with pytest.raises(NotTraceableError):
        selected_shape((1,) * 40, ([0],))


def test_selecting_makes_nothing() -> None:
    x, many = Abstract((10**6, 10**6), FLOAT), Abstract((10**6,), np.dtype(np.int64))
    rows = np.zeros((10**5, 1), np.int64)
    tracemalloc.start()
    try:
        looks = [
            np.take(x, many, axis=1).shape,
            np.take(x, many).shape,
            x[:, many].shape,
            x[many].shape,
            x[rows, rows.T].shape,
            x[1:, [0, 5]].shape,
        ]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert looks == [
        (10**6, 10**6), (10**6,), (10**6, 10**6), (10**6, 10**6), (10**5, 10**5), (10**6 - 1, 2),
    ]  # fmt: skip
    assert peak < 5_000_000
