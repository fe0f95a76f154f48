"""The tutorial: its notebook is what its source gives, and states the numbers of the seed cases."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from itertools import chain
from pathlib import Path
from urllib.parse import urlparse
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
CASES = {
    case["name"]: case
    for case in json.loads((ROOT / "tests" / "seed_cases.json").read_text(encoding="utf-8"))[
        "cases"
    ]
}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?")


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_tutorial", ROOT / "docs/make_tutorial.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stored(maker):
    notebook = nbformat.read(maker.NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


@pytest.fixture(scope="module")
def ran(maker, stored):
    """The stored cells with what they give now, and the variables at the end."""
    cells = copy.deepcopy(stored)
    return cells, maker.run(cells)


def printed(cell):
    """All that a cell says in plain text."""
    return "".join(output.get("text") or output.data["text/plain"] for output in cell.outputs)


def numbers(text):
    return [float(number) for number in NUMBER.findall(text)]


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def test_the_notebook_has_the_cells_of_its_source(maker, stored):
    source = maker.cells(maker.SOURCE.read_text(encoding="utf-8"))

    assert [cell.source for cell in stored] == [cell.source for cell in source]
    assert [cell.metadata for cell in stored] == [cell.metadata for cell in source]


def test_every_cell_says_what_is_stored_beside_it(stored, ran):
    assert len(code(stored)) > 25
    for before, now in zip(code(stored), code(ran[0]), strict=True):
        assert printed(now) == printed(before)
        assert [sorted(o.get("data", "")) for o in now.outputs] == [
            sorted(o.get("data", "")) for o in before.outputs
        ]


def test_pictures_are_stored_and_small(stored):
    kinds = list(
        chain.from_iterable(o.data for c in code(stored) for o in c.outputs if "data" in o)
    )

    assert kinds.count("image/svg+xml") >= 4
    assert kinds.count("image/png") >= 4
    for cell in code(stored):
        for output in cell.outputs:
            for kind, picture in output.get("data", {}).items():
                assert len(picture) < 60_000
                if kind == "image/svg+xml":
                    assert ElementTree.fromstring(picture).tag.endswith("svg")


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_of_the_seed_cases_are_in_the_output_of_their_cells(ran, name):
    case = CASES[name]
    said = np.array(
        numbers("\n".join(printed(cell) for cell in ran[0] if cell.metadata.get("case") == name))
    )

    stated = [case.get("value", case.get("minimum_at")), *case.get("gradients", {}).values()]
    for expected in chain.from_iterable(np.ravel(value) for value in stated):
        assert np.isclose(said, expected, rtol=1e-6, atol=0).any(), expected


def test_the_network_ends_where_the_course_s_own_program_does(ran):
    expected = json.loads((ROOT / "tests/seed_cases.json").read_text("utf-8"))["boston"]["expected"]
    last_low, last_high, first_low, first_high, error_low, error_high = numbers(
        re.search(r"loss of .*", expected).group().replace(" on all 506 rows", "")
    )
    variables = ran[1]
    history = variables["history"]

    assert history.steps == 100 * 46
    assert first_low < history.loss[0] < first_high
    assert last_low < history.loss[-1] < last_high
    assert error_low < variables["error"] < error_high


def test_what_was_done_by_hand_is_what_the_framework_does(ran):
    variables = ran[1]

    assert "NOT" not in "".join(map(printed, code(ran[0])))
    np.testing.assert_allclose(variables["moved"], [5.01028709e-05, 1.00205742e-04], rtol=1e-4)
    assert float(variables["trained"].loss[-1]) == pytest.approx(23.242910, abs=1e-5)


def test_every_fraction_in_the_text_is_a_number_of_the_code_or_the_cases(ran):
    known = numbers("\n".join(f"{cell.source}\n{printed(cell)}" for cell in code(ran[0])))
    known += numbers((ROOT / "tests/seed_cases.json").read_text("utf-8"))
    # The largest slope of the sigmoid, and two rates that the reader is asked to try.
    known += [float(np.max(ran[1]["values"] * (1 - ran[1]["values"]))), 0.1, 0.0001]

    text = "\n".join(cell.source for cell in ran[0] if cell.cell_type == "markdown")
    fractions = re.findall(r"\d+\.\d+", text)

    assert len(fractions) > 8
    for fraction in fractions:
        decimals = len(fraction.partition(".")[2])
        assert any(round(number, decimals) == float(fraction) for number in known), fraction


def test_nothing_of_the_machine_is_stored(maker):
    text = maker.NOTEBOOK.read_text(encoding="utf-8")

    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    assert not re.search(r" at 0x[0-9a-f]+", text)


def test_links_lead_to_pages(stored):
    text = "\n".join(cell.source for cell in stored if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#]+)\)", text)

    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert [link for link in links if urlparse(link).scheme] == []
