"""What a paper claims beside what was measured here: the table every notebook ends with."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from IPython.display import display

from frugal.stats import Difference
from frugal_course.names import said

MIME = "application/vnd.frugal.claims+json"
COLUMNS = ["claim", "paper", "measured here"]  # of every record
# In a word: the paper's claim holds here; holds under a condition that it does not name; does not
# hold; is not decided by what was measured.
VERDICTS = ("confirmed", "qualified", "contradicted", "open")
LONGEST = 120  # characters of a cell


class Claim(NamedTuple):
    """A row of the table: what is claimed, what is printed for it, and what came out here.

    tested:   on what, and in which way: "recorded: 14 tasks, 5 draws"
    interval: 95 %, of what was measured; "" where it is arithmetic
    verdict:  of VERDICTS
    """

    claim: str
    paper: str
    measured: str
    tested: str = ""
    interval: str = ""
    verdict: str = ""


def verdict(found: Difference, above: bool = True) -> str:
    """Of a claim that one way is above another (or below): what the interval says of it."""
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return "open"
    return "confirmed" if (found.low > 0) == above else "contradicted"


def compared(claim: str, paper: str, tested: str, found: Difference, above: bool = True) -> Claim:
    """A row about a difference of two accuracies."""
    size, _, interval = str(found).partition(" [")
    return Claim(claim, paper, size, tested, interval and f"[{interval}", verdict(found, above))


def claims(rows: Iterable[Sequence[str]]) -> None:
    """Show `Claim`s as a table, kept in the notebook for `frugal claims`."""
    made = [Claim(*map(said, row)) for row in rows]
    told = [
        {
            "claim": row.claim,
            "paper": row.paper,
            **({"tested here": row.tested} if row.tested else {}),
            "measured here": row.measured,
            **({"interval": row.interval or "–", "verdict": row.verdict} if row.verdict else {}),
        }
        for row in made
    ]
    table = pd.DataFrame(told).fillna("")
    with pd.option_context("display.max_colwidth", None):
        bundle: dict[str, Any] = {
            MIME: told,
            "text/html": table.to_html(index=False, justify="left"),
            "text/plain": table.to_string(index=False),
        }
    display(bundle, raw=True)


def records(notebook: Any) -> list[dict[str, str]]:
    """The claims that an executed notebook (nbformat) shows, with all that its rows say."""
    return [
        {**record}
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for record in output.get("data", {}).get(MIME, [])
    ]


def collect(notebook: Any) -> list[dict[str, str]]:
    """The same in three columns: interval and verdict stand behind what was measured."""
    found = []
    for record in records(notebook):
        interval = record.get("interval", "–")
        more = [interval if interval != "–" else "", record.get("verdict", "")]
        told = [record["measured here"], *filter(None, more)]
        found.append({**{name: record[name] for name in COLUMNS}, "measured here": "; ".join(told)})
    return found


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
