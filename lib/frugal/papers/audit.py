"""The audit: every printed number of the three papers that can be recomputed, recomputed.

Nothing here knows a verdict beforehand: each comes out of a rule (`frugal.papers.rules`), fed with
the printed tables (`frugal.papers.tables`) and the formulas of `frugal.costs`. One slip can fail
many numbers: `data/findings.csv` says which belong together, and whose slip it is.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from frugal import data
from frugal.papers import audit_annotate, audit_spaces, audit_tfew, audit_tfew_text
from frugal.papers.rules import Item

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "STARRED", "Finding", "Item", "findings", "frame", "run", "summary", "table1"]

# Whose a finding is: the paper's own numbers (for two of the papers as the deck copies them), what
# the deck made of them, a test that has to assume something, or how a right number is set.
COLUMNS = ("paper", "deck", "assumption", "typography")

# What a seminar learns most from, in the order it would be told.
STARRED = (
    "tfew/accuracy-median",
    "tfew/T0/accuracy",
    "tfew/shots-median",
    "tfew/context-window",
    "tfew/loss/L_LM + L_LN",
    "tfew/GPT-3 6.7B/inference",
    "tfew/GPT-3 13B/inference",
    "tfew/attention-deck",
    "tfew/kv-cache-deck",
    "tfew/kv-cache-paper",
    "tfew/ia3-formula-deck",
    "tfew/dollars-deck",
    "tfew/train-in-queries",
    "tfew/cached-gpt3",
    "spaces/averages",
    "spaces_table4_t5/T5-base/significance",
    "spaces_table5_roberta/RoBERTa-large/significance",
    "spaces_table4_t5/T5-base/gain",
    "spaces_strategy_g2/winner",
    "spaces_table3_groups/QNLI-MRPC/repeated",
    "spaces_table5_roberta/RoBERTa-base/S_0-model/MNLI/outlier",
    "annotate/table3/STANCEOSAURUS/headings",
    "annotate/table3/FEVER/headings",
    "annotate/table4/NATURAL QUESTIONS/upper-bound",
)


def _items() -> Iterator[Item]:
    yield from audit_tfew.items()
    yield from audit_tfew_text.items()
    yield from audit_spaces.items()
    yield from audit_annotate.items()


def run(paper: str | None = None) -> list[Item]:
    """All items, or those of one paper: "tfew", "spaces" or "annotate"."""
    return [_sorted(item) for item in _items() if paper in (None, item.paper)]


class Finding(NamedTuple):
    """One slip, and all numbers that fail by it.

    column: of COLUMNS; says: one sentence; cells: how many items fail by it
    where, printed, recomputed: of the first of them
    """

    id: str
    column: str
    paper: str
    says: str
    cells: int
    where: str
    printed: str
    recomputed: str


def findings(items: list[Item]) -> list[Finding]:
    """The distinct findings behind the items that failed, column by column."""
    found = []
    for id_, (column, patterns, says) in _known().items():
        mine = [item for item in items if item.finding == id_]
        if mine:
            first = min(mine, key=lambda item: _place(item, patterns))
            shown = (first.where, first.printed, first.recomputed)
            found.append(Finding(id_, column, first.paper, says, len(mine), *shown))
    return sorted(found, key=lambda f: COLUMNS.index(f.column))


@cache
def _known() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Column, patterns of item ids and sentence of each finding; spaces of an id are "?"."""
    rows = data.rows("findings.csv")
    return {r["id"]: (r["column"], tuple(r["items"].split()), r["says"]) for r in rows}


def _place(item: Item, patterns: tuple[str, ...]) -> int:
    """Which of the patterns is the first that an item's id follows; as many as there are: none."""
    fits = (i for i, pattern in enumerate(patterns) if fnmatchcase(item.id, pattern))
    return next(fits, len(patterns))


def _sorted(item: Item) -> Item:
    """The item with its finding, where it failed."""
    if item.verdict != "failed":
        return item
    own = (id_ for id_, (_, of, _) in _known().items() if _place(item, of) < len(of))
    return replace(item, finding=next(own, ""))


def summary(items: list[Item]) -> dict[str, int]:
    """How many were checked, reproduced, reproduced with rounding, and not reproduced."""
    found = Counter(item.verdict for item in items)
    return {"checked": len(items), **{v: found[v] for v in ("reproduced", "rounded", "failed")}}


def frame(items: list[Item] | None = None) -> "pd.DataFrame":
    """The items as a DataFrame, one row each; those `starred` come first, in their order."""
    import pandas as pd

    rank = {id_: i for i, id_ in enumerate(STARRED)}
    found = sorted(run() if items is None else items, key=lambda i: rank.get(i.id, len(rank)))
    return pd.DataFrame([{**vars(item), "starred": item.id in rank} for item in found])


def table1() -> "pd.DataFrame":
    """T-Few's table 1 line by line: printed and recomputed side by side.

    Columns: method, quantity, printed, recomputed, verdict, note.
    """
    import pandas as pd

    items = pd.DataFrame([vars(item) for item in audit_tfew.table1()])
    names = items["where"].str.extract(r"table 1: (?P<method>[^,]+), (?P<quantity>.+)")
    return names.join(items[["printed", "recomputed", "verdict", "note"]])
