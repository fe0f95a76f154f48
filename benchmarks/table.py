"""``python -m benchmarks.table``: what was measured last, as a Markdown table for the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS


def tables(folder: Path = RESULTS) -> str:
    """Return a table of medians and bars for each result in a folder, and where it is from."""
    parts = []
    for path in sorted(folder.glob("*.json")):
        saved = json.loads(path.read_text(encoding="utf-8"))
        seconds = saved["measured"].get("seconds")
        if seconds and "title" in saved["measured"]:
            parts.append(table(saved["name"], saved["on"], saved["measured"]))
    return "\n".join(parts)


def table(name: str, on: dict[str, Any], measured: dict[str, Any]) -> str:
    lines = [
        f"### {name}: {measured['title']}",
        "",
        f"{on['when']}, {on['machine']}, {on['cores']} cores, Python {on['python']}, "
        f"NumPy {on['numpy']}.",
        "",
        "| contender | median | minimum |",
        "|---|---:|---:|",
    ]
    for contender, times in measured["seconds"].items():
        lines.append(
            f"| {contender} | {readable(times['median'])} | {readable(times['minimum'])} |"
        )
    lines.append("")
    lines += [f"- {bar['verdict']}: {bar['measured']}" for bar in measured["bars"]]
    return "\n".join(lines) + "\n"


def readable(seconds: float) -> str:
    """Return a time in the unit that fits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


if __name__ == "__main__":
    print(tables())
