"""The published tables, as printed, from `data/papers/`; one observation per record.

Score tables have the columns group, row, column, printed, spread, mark, bold and source: `printed`
is the text of the cell, `spread` the interquartile range (T-Few) or standard deviation (Design
Spaces) behind it, `mark` its stars of significance. What a row's label says of a design stands
beside it: `methods` ("AL") where they were assigned, `groups` ("1,2") where they were tuned.
Distill or Annotate's tables, T-Few's settings and running text's claims have columns of their own.
"""

from typing import TYPE_CHECKING, Any

from frugal import data
from frugal.errors import unknown

if TYPE_CHECKING:
    import pandas as pd

Record = dict[str, str]


def names() -> list[str]:
    """Names that `records` and `load` know."""
    return sorted(path.stem for path in (data.ROOT / "papers").glob("*.csv"))


def records(name: str) -> list[Record]:
    """The table's records as text; FrugalError with the nearest name if unknown."""
    if name not in names():
        raise unknown("table", name, names())
    return data.rows(f"papers/{name}.csv")


def load(name: str) -> "pd.DataFrame":
    """The table as a DataFrame. `value` is the number in `printed`, NaN where it is not one."""
    import pandas as pd

    frame: Any = pd.DataFrame(records(name))
    if "printed" in frame:
        frame["value"] = pd.to_numeric(frame["printed"].str.rstrip("%"), errors="coerce")
    for column in frame.columns.difference(["printed", "source"]):
        numbers = pd.to_numeric(frame[column], errors="coerce")
        if numbers.notna().any() and (numbers.notna() | frame[column].isin(["", "N/A"])).all():
            frame[column] = numbers
    return frame


def wide(name: str) -> "pd.DataFrame":
    """A score table as it is printed: methods down, tasks across, numbers in the cells."""
    frame: Any = load(name)
    order = list(dict.fromkeys(frame["column"]))
    keys = ["group", "row"] if frame["group"].astype(bool).any() else ["row"]
    rows = frame[keys].drop_duplicates()
    table = frame.pivot(index=keys, columns="column", values="value")
    return table.loc[list(map(tuple, rows.to_numpy())) if len(keys) > 1 else rows["row"], order]


def scores(name: str) -> dict[tuple[str, str], dict[str, Record]]:
    """A score table by (group, row), then by column."""
    found: dict[tuple[str, str], dict[str, Record]] = {}
    for record in records(name):
        found.setdefault((record["group"], record["row"]), {})[record["column"]] = record
    return found


def place(record: Record) -> str:
    """Where in its paper a record stands, such as "table 4": its source without the authors."""
    return record["source"].partition(", ")[2].removesuffix(", as on the seminar's slides")


def claims() -> dict[str, Record]:
    """Numbers printed in running text, by id."""
    return {record["id"]: record for record in records("claims")}
