"""The audit: every printed number of the three papers that can be recomputed, recomputed.

Nothing here knows a verdict beforehand: each comes out of a rule (`frugal.papers.rules`), fed with
the printed tables (`frugal.papers.tables`) and the formulas of `frugal.costs`.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from frugal.papers import audit_annotate, audit_spaces, audit_tfew, audit_tfew_text
from frugal.papers.rules import Item

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["STARRED", "Item", "frame", "run", "summary", "table1"]

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
    return [item for item in _items() if paper in (None, item.paper)]


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
