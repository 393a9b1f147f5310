"""The audit as tables: printed and recomputed side by side, each verdict marked."""

import pandas as pd
from IPython.display import display

from frugal.show.style import GREEN, GREY, ORANGE

# Word and sign differ with the colour.
VERDICTS = {
    "failed": ("✗ does not reproduce", ORANGE),
    "rounded": ("≈ with rounding", GREY),
    "reproduced": ("✓ reproduced", GREEN),
}


def verdicts(rows: pd.DataFrame, by: str) -> None:
    """Show `rows`, grouped by the column `by`; the column verdict is marked by sign and colour."""
    table = rows.set_index([by, rows.groupby(by, sort=False).cumcount()])
    table["verdict"] = table["verdict"].map(lambda v: VERDICTS[v][0] if v in VERDICTS else v)
    colours = {word: f"color: {colour}; white-space: nowrap" for word, colour in VERDICTS.values()}
    style = (
        table.style.format(escape="html")
        .map(lambda word: colours.get(word, ""), subset=["verdict"])
        .hide(axis="index", level=1)
        .set_uuid(by)
        .set_table_styles(
            [
                {"selector": "td, th", "props": "text-align: left; vertical-align: top"},
                {"selector": "", "props": "font-size: 90%"},
            ]
        )
    )
    style.cell_ids = False
    display(
        {"text/html": style.to_html(), "text/plain": rows.to_string(index=False)},
        raw=True,
    )


def audit(items: pd.DataFrame) -> None:
    """Show the starred items of `papers.audit.frame`, grouped by verdict; the rest is counted."""
    groups = []
    for verdict, (word, _) in VERDICTS.items():
        mine = items[items["verdict"] == verdict]
        shown = mine[mine["starred"]]
        group = pd.DataFrame(
            {
                "": "★",
                "where": shown["where"],
                "printed": shown["printed"],
                "recomputed": shown["recomputed"],
                "what happened": shown["note"],
            }
        )
        rest = len(mine) - len(shown)
        last = {"where": f"… and {rest} more: frugal papers audit --verdict {verdict}"}
        group = pd.concat([group, pd.DataFrame([last])]).fillna("")
        groups.append(group.assign(verdict=verdict, group=f"{word}: {len(mine)}"))
    verdicts(pd.concat(groups, ignore_index=True), by="group")
