"""The audit: every printed number of the three papers that can be recomputed, recomputed.

Nothing here knows a verdict beforehand: each comes out of a rule (`frugal.papers.rules`), fed with
the printed tables (`frugal.papers.tables`) and the formulas of `frugal.costs`.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from frugal.papers import audit_annotate, audit_spaces, audit_tfew
from frugal.papers.rules import Item

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Item", "frame", "run", "summary", "table1"]


def _items() -> Iterator[Item]:
    yield from audit_tfew.items()
    yield from audit_spaces.items()
    yield from audit_annotate.items()


def run(paper: str | None = None) -> list[Item]:
    """All items, or those of one paper: "tfew", "spaces" or "annotate"."""
    return [item for item in _items() if paper in (None, item.paper)]


def summary(items: list[Item]) -> dict[str, int]:
    """How many were checked, reproduced, reproduced with rounding, and not reproduced."""
    found = Counter(item.verdict for item in items)
    return {"checked": len(items), **{v: found[v] for v in ("reproduced", "rounded", "failed")}}


def frame(items: list[Item] | None = None) -> "pd.DataFrame":
    """The items as a DataFrame, one row each."""
    import pandas as pd

    return pd.DataFrame([vars(item) for item in (run() if items is None else items)])


def table1() -> "pd.DataFrame":
    """T-Few's table 1 line by line: printed and recomputed side by side."""
    return frame(list(audit_tfew.table1()))[["where", "printed", "recomputed", "verdict", "note"]]
