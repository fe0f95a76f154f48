"""Write docs/hooks.md from the hook specifications: ``python docs/generate_hooks.py``."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from mfcore import hookspecs

PAGE = Path(__file__).parent / "hooks.md"

LIFE = """\
    the registry loads a pack     mf_operations  mf_optimizers  mf_engines  mf_tracers  mf_commands

    Graph(...)                    mf_sort_start
      each node                     mf_sort_visit, then mf_sort_edge for each edge removed
                                  mf_sort_finish

    fit(...), each epoch          mf_epoch_start
      each training step            mf_step_start
        forward                       mf_run_start (phase "forward")
          each node                     mf_forward_start, mf_forward_finish
                                      mf_run_finish
        backward                      mf_run_start (phase "backward")
          each node                     mf_backward_start, mf_backward_finish
                                      mf_run_finish
        update                      mf_step_finish
                                  mf_epoch_finish
"""


def page() -> str:
    """Return the text of the page."""
    source = inspect.getsource(hookspecs)
    lines = source.splitlines()
    parts = ["# Hooks", "", "This page is generated from `mfcore/hookspecs.py`.", ""]
    parts += [inspect.cleandoc(hookspecs.__doc__ or ""), "", "## Life cycle", "", LIFE]
    section = ""
    for function in ast.parse(source).body:
        if isinstance(function, ast.FunctionDef):
            heading = _section(lines, function.lineno)
            if heading != section:
                section = heading
                parts += [f"## {section}", ""]
            arguments = ast.unparse(function.args)
            returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
            parts += [f"### `{function.name}({arguments}){returns}`", ""]
            parts += [inspect.cleandoc(ast.get_docstring(function) or ""), ""]
    return "\n".join(parts).rstrip() + "\n"


def _section(lines: list[str], before: int) -> str:
    """Return the last heading comment above a line."""
    return next(
        line.removeprefix("# ") for line in reversed(lines[: before - 1]) if line.startswith("# ")
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
