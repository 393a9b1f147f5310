"""What a paper claims beside what was measured here: the table every notebook ends with."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import display

MIME = "application/vnd.frugal.claims+json"
COLUMNS = ["claim", "paper", "measured here"]


def claims(rows: Iterable[tuple[str, str, str]]) -> None:
    """Show (claim, paper, measured here) as a table, kept in the notebook for `frugal claims`."""
    records = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    table = pd.DataFrame(records, columns=COLUMNS)
    with pd.option_context("display.max_colwidth", None):
        bundle: dict[str, Any] = {
            MIME: records,
            "text/html": table.to_html(index=False, justify="left"),
            "text/plain": table.to_string(index=False),
        }
    display(bundle, raw=True)


def collect(notebook: Any) -> list[dict[str, str]]:
    """The claims that an executed notebook (nbformat) shows."""
    return [
        {name: record[name] for name in COLUMNS}  # nbformat sorts keys
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for record in output.get("data", {}).get(MIME, [])
    ]


def table(records: Sequence[Mapping[str, str]], width: int = 34) -> str:
    """Records as text columns, wrapped at `width` characters."""
    if not records:
        return "no claims found"
    lines = []
    for record in [{name: name.upper() for name in records[0]}, *records]:
        cells = [textwrap.wrap(str(value), width) or [""] for value in record.values()]
        for i in range(max(map(len, cells))):
            row = (cell[i] if i < len(cell) else "" for cell in cells)
            lines.append("  ".join(text.ljust(width) for text in row).rstrip())
        lines.append("")
    return "\n".join(lines)
