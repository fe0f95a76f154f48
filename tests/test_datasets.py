"""Data sets and CSV files: what is read, and what each mistake in a file is told."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mfcore.errors import DataError
from miniflow.datasets import first_non_finite, load, load_boston, load_diabetes
from miniflow.tables import read_table


@pytest.fixture
def csv_file(tmp_path):
    """Write a file and return its path."""

    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_boston_has_506_rows_of_13_features_and_medv():
    boston = load_boston()

    assert boston.X.shape == (506, 13)
    assert boston.y.shape == (506,)
    assert boston.target == "MEDV"
    assert boston.features[:3] == ("CRIM", "ZN", "INDUS")
    assert boston.y[:2].tolist() == [24.0, 21.6]
    assert boston.y.mean() == pytest.approx(22.5328, abs=1e-4)


def test_boston_can_predict_another_of_its_columns():
    boston = load("boston", target="RM")

    assert boston.target == "RM"
    assert "MEDV" in boston.features
    assert boston.y[0] == 6.575


def test_diabetes_comes_from_scikit_learn_unscaled():
    diabetes = load_diabetes()

    assert diabetes.X.shape == (442, 10)
    assert diabetes.features[0] == "age"
    assert diabetes.X[0, 0] == 59
    assert diabetes.y[0] == 151


def test_diabetes_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(DataError, match=r"pip install scikit-learn.*miniflow-suite\[datasets\]"):
        load_diabetes()


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("a,y\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("\ufeffa,y\r\n1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
        ("a;y\n1,5;2\n3;4.25\n", [[1.5, 2], [3, 4.25]]),
        ("a\ty\n1\t2\n3\t4", [[1, 2], [3, 4]]),
        ('"a", "y"\n"1", 2\n\n 3 ,-4e1\n', [[1, 2], [3, -40]]),
        ("a,y\nnan,2\n3,-inf\n", [[np.nan, 2], [3, -np.inf]]),
    ],
    ids=["plain", "BOM and CRLF", "semicolons", "tabs", "quotes and blanks", "nan and inf"],
)
def test_a_table_is_read_as_people_write_it(csv_file, content, values):
    table = read_table(csv_file(content))

    assert table.columns == ("a", "y")
    np.testing.assert_array_equal(table.values, np.array(values, dtype=float))


def test_a_dropped_column_may_hold_text(csv_file):
    data = load(str(csv_file("a,city,y\n1,Rome,2\n3,,4\n")), target="y", drop=["city"])

    assert data.features == ("a",)
    assert data.X.tolist() == [[1.0], [3.0]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b,y\n", "no rows of data"),
        ("a,b,y\n1,2,3\n", "one row of data"),
        ("y\n1\n2\n", "no column beside y"),
        ("a,a,y\n1,2,3\n4,5,6\n", "several columns of the name a"),
        (",a,y\n0,2,3\n1,5,6\n", "column 1 has no name"),
        ("1,2,3\n4,5,6\n", "the first line must name the columns"),
        ("a,b,y\n1,2,3\n4,5\n", "line 3: 2 values where the first line names 3 columns"),
        ("a,b,y\n1,2,3\n4,5,6,7\n", "line 3: 4 values where"),
        ("a,b,y\n1,2,3\n4,five,6\n", "line 3: column 'b' holds text, 'five'"),
        ("a,b,y\n1_000,2,3\n4,5,6\n", "column 'a' holds text, '1_000'"),
        ("a,b,y\n1,,3\n4,5,NA\n", "2 missing values: b in line 2, y in line 3"),
        ('a,b,y\n"1,2,3\n4,5,6\n', "is no CSV"),
        (b"a,y\n1,\xff\n", "no text file in UTF-8"),
        (b"a\0,y\n1,2\n", "holds zero bytes"),
        ("a,b,z\n1,2,3\n4,5,6\n", "no column 'y'.*Its columns are a, b, z"),
        ("a,b,Y\n1,2,3\n4,5,6\n", "Did you mean Y?"),
    ],
)
def test_a_file_that_cannot_be_trained_on_says_why(csv_file, content, words):
    path = csv_file(content)

    with pytest.raises(DataError, match=words) as caught:
        load(str(path), target="y")

    assert str(path) in str(caught.value)


def test_a_missing_file_suggests_the_data_set_of_a_similar_name():
    with pytest.raises(DataError, match=r"no file 'bostn'.*did you mean boston\?"):
        load("bostn")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load(str(tmp_path), target="y")


def test_a_csv_file_without_a_target_lists_its_columns(csv_file):
    with pytest.raises(DataError, match=r"--target COLUMN; its columns are a, y"):
        load(str(csv_file("a,y\n1,2\n3,4\n")))


def test_what_is_not_finite_is_named_with_its_line(csv_file):
    data = load(str(csv_file("a,b,y\n1,2,3\n\n4,inf,nan\n5,nan,1\n")), target="y")

    assert first_non_finite(data) == [
        "column b holds NaN or inf in 2 of 3 rows, first inf in line 4",
        "column y holds NaN or inf in 1 of 3 rows, first nan in line 4",
    ]
