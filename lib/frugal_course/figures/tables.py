"""Tables: the audit's, printed and recomputed side by side, and numbers as people read them."""

from typing import Any

import pandas as pd
from IPython.display import display

from frugal.costs.prices import usd
from frugal_course.figures.style import GREEN, GREY, ORANGE

# Word and sign differ with the colour.
VERDICTS = {
    "failed": ("✗ does not reproduce", ORANGE),
    "rounded": ("≈ with rounding", GREY),
    "reproduced": ("✓ reproduced", GREEN),
}
PAPERS = {"tfew": "T-Few", "spaces": "Design spaces", "annotate": "Distill or annotate"}


def verdicts(rows: pd.DataFrame, by: str) -> None:
    """Show `rows`, grouped by the column `by`; verdicts there, or in a column of that name, are
    marked by sign and colour."""
    words = {verdict: word for verdict, (word, _) in VERDICTS.items()}
    marked = rows.replace({"verdict": words}) if "verdict" in rows else rows
    table = marked.set_index([by, rows.groupby(by, sort=False).cumcount()])

    def colour(text: str) -> str:
        found = (c for word, c in VERDICTS.values() if str(text).startswith(word))
        return next((f"color: {c}" for c in found), "")

    style = (
        table.style.format(escape="html")
        .format_index(escape="html")
        .format_index(escape="html", axis="columns")
        .map(colour)
        .map_index(colour, level=0)
        .hide(axis="index", level=1)
        .hide(axis="index", names=True)
        .set_uuid(by)
        .set_table_styles(
            [
                {"selector": "td, th", "props": "text-align: left; vertical-align: top"},
                {"selector": "", "props": "font-size: 90%"},
            ]
        )
    )
    style.cell_ids = False
    display({"text/html": style.to_html(), "text/plain": marked.to_string(index=False)}, raw=True)


def audit(items: pd.DataFrame) -> None:
    """Show the starred items of `papers.audit.frame`, grouped by verdict; the rest is counted."""
    groups = []
    for verdict, (word, _) in VERDICTS.items():
        mine = items[items["verdict"] == verdict]
        shown = mine[mine["starred"]].rename(columns={"note": "what happened"})
        group = shown[["paper", "where", "printed", "recomputed", "what happened"]]
        group = group.assign(paper="★ " + group["paper"].replace(PAPERS))
        rest = len(mine) - len(shown)
        last = {"where": f"… and {rest} more: frugal papers audit --verdict {verdict}"}
        group = pd.concat([group, pd.DataFrame([last])]).fillna("")
        groups.append(group.assign(group=f"{word}: {len(mine)}"))
    verdicts(pd.concat(groups, ignore_index=True), by="group")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text: columns named usd in dollars, flops in powers of ten, queries in full."""

    def text(column: str, value: Any) -> str:
        if pd.isna(value):
            return ""
        if "usd" in column:
            return usd(value)
        if "flops" in column:
            return f"{value:.2e}"
        if "queries" in column or "seconds" in column:
            return f"{value:,.0f}"
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    columns = {name: [text(name, value) for value in table[name]] for name in table}
    return pd.DataFrame(columns, index=table.index)
