"""Data to train on: the tutorial's Boston housing data, scikit-learn's diabetes data, CSV files.

The Boston data are those of D. Harrison and D. L. Rubinfeld, "Hedonic prices and the
demand for clean air", Journal of Environmental Economics and Management 5 (1978), 81-102,
as kept by StatLib: 506 census tracts, 13 features, and MEDV, the median value of homes in
1000 dollars. They are in the public domain.

scikit-learn deprecated these data in version 1.0 and removed them in 1.2 for an ethical
problem: the authors derived the column B from the share of Black residents, by a formula
that cannot be inverted, on the assumption that racial self-segregation raises house prices;
and the study, which was about the effect of air quality on prices, does not show that this
assumption holds. Its maintainers discourage using the data for anything but teaching about
such problems. Here they are the tutorial's benchmark, the numbers against which
implementations compare, and no model of houses.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from mfcore.errors import DataError
from miniflow.tables import Table, read_table

BUNDLED = ("boston", "diabetes")
"""Names that ``load`` knows."""

_TARGETS = {"boston": "MEDV", "diabetes": "progression"}


@attrs.frozen(eq=False)
class Dataset:
    """Rows of features, and the target to predict from them.

    Attributes
    ----------
    name : str
        A short name, fit for a file name.
    X : (n, k) float64
        The features, one row per example.
    y : (n,) float64
        The target.
    features : tuple of str
        Names of the columns of ``X``.
    target : str
        Name of the target.
    lines : sequence of int
        Where each row stands in its file, for messages.
    """

    name: str
    X: NDArray[np.float64]
    y: NDArray[np.float64]
    features: tuple[str, ...]
    target: str
    lines: Sequence[int]


def load_boston() -> Dataset:
    """Return the Boston housing data: 506 rows, 13 features, target MEDV.

    About its origin, and its ethical problem, see this module.

    Examples
    --------
    >>> boston = load_boston()
    >>> boston.X.shape, boston.target
    ((506, 13), 'MEDV')
    """
    return load("boston")


def load_diabetes() -> Dataset:
    """Return scikit-learn's diabetes data, unscaled: 442 rows, 10 features.

    Efron, Hastie, Johnstone and Tibshirani, "Least angle regression", Annals of Statistics
    32 (2004), 407-499. The target is a measure of the disease's progression in a year.

    Raises
    ------
    DataError
        If scikit-learn is not installed.
    """
    return load("diabetes")


def load(source: str, *, target: str | None = None, drop: Iterable[str] = ()) -> Dataset:
    """Return a bundled data set by name, or one read from a CSV file.

    Parameters
    ----------
    source : str
        ``"boston"``, ``"diabetes"``, or the path of a CSV file.
    target : str, optional
        The column to predict; needed for a CSV file.
    drop : iterable of str, optional
        Columns to leave out.

    Raises
    ------
    DataError
        If the data cannot be had, or cannot be trained on.
    """
    drop = tuple(drop)
    if source in BUNDLED:
        table = _without(_boston() if source == "boston" else _diabetes(), drop)
        target = target or _TARGETS[source]
    elif not Path(source).exists():
        close = difflib.get_close_matches(source, BUNDLED, n=1)
        raise DataError(
            f"there is no file {source!r}, and no data set of that name"
            + (f"; did you mean {close[0]}? " if close else ". ")
            + f"Give {', '.join(BUNDLED)} or the path of a CSV file."
        )
    else:
        table = read_table(source, drop=drop)
    return _split(table, target, Path(source).stem)


def first_non_finite(data: Dataset) -> list[str]:
    """Say for each column that holds NaN or inf in how many rows, and where first."""
    found = []
    for name, values in [*zip(data.features, data.X.T, strict=True), (data.target, data.y)]:
        rows = np.flatnonzero(~np.isfinite(values))
        if rows.size:
            found.append(
                f"column {name} holds NaN or inf in {rows.size} of {len(values)} rows, first "
                f"{values[rows[0]]} in line {data.lines[rows[0]]}"
            )
    return found


def _split(table: Table, target: str | None, name: str) -> Dataset:
    if target is None:
        raise DataError(
            f"say which column of {table.name} to predict, with --target COLUMN; "
            f"its columns are {', '.join(table.columns)}."
        )
    place = table.position(target)
    rows = len(table.values)
    if rows < 2:
        raise DataError(
            f"{table.name} has {'no rows' if rows == 0 else 'one row'} of data: training needs "
            f"at least two."
        )
    if len(table.columns) < 2:
        raise DataError(f"{table.name} has no column beside {target}: nothing to predict it from.")
    X = np.delete(table.values, place, axis=1)
    features = tuple(column for column in table.columns if column != target)
    return Dataset(name, X, table.values[:, place].copy(), features, target, table.lines)


def _without(table: Table, drop: tuple[str, ...]) -> Table:
    places = [table.position(column) for column in drop]
    columns = tuple(column for column in table.columns if column not in drop)
    return attrs.evolve(table, columns=columns, values=np.delete(table.values, places, axis=1))


def _boston() -> Table:
    with as_file(files("miniflow") / "data" / "boston_housing.csv") as path:
        return attrs.evolve(read_table(path), name="boston")


def _diabetes() -> Table:
    try:
        from sklearn.datasets import load_diabetes as load_from_sklearn
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sklearn":
            raise
        raise DataError(
            "the diabetes data come with scikit-learn, which is not installed. Install it "
            'with `pip install scikit-learn`, or as `pip install "miniflow-suite[datasets]"`.'
        ) from None
    bunch = load_from_sklearn(scaled=False)
    values = np.column_stack([bunch.data, bunch.target]).astype(np.float64)
    columns = (*bunch.feature_names, _TARGETS["diabetes"])
    return Table("diabetes", columns, values, range(2, len(values) + 2))
