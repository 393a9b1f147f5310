"""Tables: the audit's, printed and recomputed side by side, and numbers as people read them."""

import numbers
import re
import zlib
from typing import Any

import pandas as pd
from IPython.display import display

from frugal.costs.prices import usd
from frugal_course.figures.style import GREEN, GREY, ORANGE, flops
from frugal_course.names import name

# Word and sign differ with the colour.
VERDICTS = {
    "failed": ("✗ does not reproduce", ORANGE),
    "rounded": ("≈ with rounding", GREY),
    "reproduced": ("✓ reproduced", GREEN),
}
PAPERS = {"tfew": "T-Few", "spaces": "Design spaces", "annotate": "Distill or annotate"}
# Whose a finding is (`papers.audit.COLUMNS`).
WHOSE = {
    "paper": "✗ the papers'",
    "deck": "✗ the deck's",
    "assumption": "? under an assumption",
    "typography": "✎ typography",
}


def verdicts(rows: pd.DataFrame, by: str) -> None:
    """Show `rows`, grouped by the column `by`; verdicts there, or in a column of that name, are
    marked by sign and colour."""
    words = {verdict: word for verdict, (word, _) in VERDICTS.items()}
    marked = named(rows.replace({"verdict": words}) if "verdict" in rows else rows)
    table = marked.set_index([by, rows.groupby(by, sort=False).cumcount()])

    # Each table's own name, the same at every run: a page holds several, with their own colours.
    own = f"{zlib.crc32(marked.to_csv().encode()):08x}"

    def colour(text: str) -> str:
        looks = [*VERDICTS.values(), *((word, ORANGE) for word in WHOSE.values())]
        found = (c for word, c in looks if str(text).startswith(word))
        return next((f"color: {c}" for c in found), "")

    style = (
        table.style.format(escape="html")
        .format_index(escape="html")
        .format_index(escape="html", axis="columns")
        .map(colour)
        .map_index(colour, level=0)
        .hide(axis="index", level=1)
        .hide(axis="index", names=True)
        .set_uuid(own)
        .set_table_styles(
            [
                {"selector": "td, th", "props": "text-align: left; vertical-align: top"},
                {"selector": "", "props": "font-size: 90%"},
            ]
        )
    )
    style.cell_ids = False
    display({"text/html": style.to_html(), "text/plain": marked.to_string(index=False)}, raw=True)


def texts(rows: pd.DataFrame) -> None:
    """Show rows whose texts are long, whole and wrapped; with display names."""
    rows = named(rows)
    style = rows.style.format(escape="html").hide(axis="index")
    style = style.set_uuid("texts").set_table_styles(
        [
            {
                "selector": "td, th",
                "props": "text-align: left; vertical-align: top; white-space: pre-wrap",
            }
        ]
    )
    style.cell_ids = False
    display({"text/html": style.to_html(), "text/plain": rows.to_string(index=False)}, raw=True)


def whose(found: pd.DataFrame) -> pd.DataFrame:
    """How many distinct findings there are, and of how many numbers: a row a paper, a column each.

    found: a row a finding, as `papers.audit.findings` gives them
    """
    text = found.groupby(["paper", "column"])["cells"].agg(["size", "sum"])
    text = text.apply(lambda n: f"{n['size']} ({n['sum']})", axis=1)
    table = text.unstack(fill_value="–").reindex(
        index=list(PAPERS), columns=list(WHOSE), fill_value="–"
    )
    return table.rename(index=PAPERS, columns=WHOSE).rename_axis("findings (numbers)", axis=1)


def audit(found: pd.DataFrame, items: pd.DataFrame) -> None:
    """Show the distinct findings, grouped by whose they are, then the starred items that hold.

    found: a row a finding, as `papers.audit.findings` gives them; items: `papers.audit.frame`
    """
    columns = ["paper", "what", "printed", "recomputed", "numbers"]
    groups = []
    for column, word in WHOSE.items():
        mine = found[found["column"] == column].rename(columns={"says": "what", "cells": "numbers"})
        title = f"{word}: {len(mine)} findings, {mine['numbers'].sum()} numbers"
        groups.append(mine[columns].assign(group=title).astype(str))
    for verdict in ("rounded", "reproduced"):
        mine = items[items["verdict"] == verdict]
        shown = mine[mine["starred"]]
        what = shown["where"] + (". " + shown["note"]).where(shown["note"] != "", "")
        group = shown.assign(what=what, numbers="1")[columns]
        rest = dict.fromkeys(columns, "") | {"what": f"… and {len(mine) - len(shown)} more"}
        group = pd.concat([group, pd.DataFrame([rest])])
        groups.append(group.assign(group=f"{VERDICTS[verdict][0]}: {len(mine)} numbers"))
    every = pd.concat(groups, ignore_index=True)
    verdicts(every.assign(paper=every["paper"].replace(PAPERS)), by="group")


def named(table: pd.DataFrame) -> pd.DataFrame:
    """The table with display names in its headers and cells, and long numbers in thousands."""

    def called(value: Any) -> Any:
        if isinstance(value, str):
            return f"{int(value):,}" if re.fullmatch(r"[0-9]{5,}", value) else name(value)
        return value

    return table.map(called).rename(index=called, columns=called)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, with display names: columns named usd in dollars, flops as the papers
    print them ("1.44e15"), whole numbers in full."""

    def text(column: str, value: Any) -> str:
        if pd.isna(value):
            return ""
        if "usd" in column.lower():
            return usd(value)
        if "flops" in column.lower():
            return flops(value)
        if "queries" in column or "seconds" in column:
            return f"{value:,.0f}"
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return f"{value:,}"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    columns = {column: [text(str(column), value) for value in table[column]] for column in table}
    return named(pd.DataFrame(columns, index=table.index))
