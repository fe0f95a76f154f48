"""Makes ``tutorial.ipynb`` from ``tutorial.py``: ``python docs/make_tutorial.py``.

The source is a Python file in the percent format: ``# %%`` begins a cell of code,
``# %% [markdown]`` one of text, and ``# %% case: NAME`` one of code that must print the
numbers of a case of ``tests/seed_cases.json``. The cells are run here, in this process, in
order; what they print, show and draw is stored beside them, as Jupyter would.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import linecache
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
from nbformat import NotebookNode, v4

HERE = Path(__file__).parent
SOURCE = HERE / "tutorial.py"
NOTEBOOK = HERE / "tutorial.ipynb"

RICH = {
    "text/html": "_repr_html_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
}


def cells(source: str) -> list[NotebookNode]:
    """Return the cells of a source in the percent format, not yet run."""
    found = []
    for number, part in enumerate(source.split("# %%")[1:], start=1):
        first, _, body = part.partition("\n")
        about = first.strip()
        if about == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            cell = v4.new_markdown_cell("\n".join(lines))
        else:
            cell = v4.new_code_cell(body.strip())
            if about:
                label, _, name = about.partition(": ")
                cell.metadata[label] = name
        cell["id"] = f"cell-{number}"  # nbformat would draw one at random
        found.append(cell)
    return found


def run(found: list[NotebookNode]) -> dict[str, Any]:
    """Run cells of code in order and fill in their outputs; return the variables."""
    matplotlib.use("agg")
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    number = 0
    for cell in found:
        if cell.cell_type == "code":
            number += 1
            cell.execution_count = number
            cell.outputs = run_cell(cell.source, number, namespace)
    return namespace


def run_cell(source: str, number: int, namespace: dict[str, Any]) -> list[NotebookNode]:
    """Run one cell; return what it printed, its last expression and its figures, as outputs."""
    file = f"tutorial.ipynb, cell {number}"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    tree = ast.parse(source, file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
        warnings.simplefilter("error")  # a tutorial that warns is wrong
        exec(compile(tree, file, "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), file, "eval"), namespace)
    outputs = []
    if printed.getvalue():
        outputs.append(v4.new_output("stream", name="stdout", text=printed.getvalue()))
    if value is not None:
        outputs.append(v4.new_output("execute_result", shown(value), execution_count=number))
    return outputs + figures()


def shown(value: Any) -> dict[str, str]:
    """Return a value as Jupyter shows it: as text, and in each richer form that it has."""
    data = {"text/plain": repr(value)}
    for kind, method in RICH.items():
        picture = getattr(value, method, lambda: None)()
        if picture is not None:
            data[kind] = encoded(picture) if isinstance(picture, bytes) else picture
    return data


def figures() -> list[NotebookNode]:
    """Return the figures that pyplot holds as outputs, and close them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    outputs: list[NotebookNode] = []
    if pyplot is None:
        return outputs
    for number in pyplot.get_fignums():
        figure, picture = pyplot.figure(number), io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
        data = {"text/plain": "<Figure>", "image/png": encoded(picture.getvalue())}
        outputs.append(v4.new_output("display_data", data))
        pyplot.close(figure)
    return outputs


def encoded(picture: bytes) -> str:
    """Return the bytes of an image as notebooks hold them."""
    return base64.b64encode(picture).decode("ascii")


def notebook() -> NotebookNode:
    """Return the notebook, every cell run."""
    found = cells(SOURCE.read_text(encoding="utf-8"))
    run(found)
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    made = v4.new_notebook(cells=found, metadata=about)
    nbformat.validate(made)
    return made


if __name__ == "__main__":
    made = notebook()
    nbformat.write(made, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {len(made.cells)} cells, {NOTEBOOK.stat().st_size / 1e3:.0f} kB")
