"""Ways of answering as options: priced, compared on the same examples, set against each other.

Every way has had one draw of the labels, so that intervals are over the scored examples, for these
labels. What another draw would change is not in them: `elsewhere` says what it did in records.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from frugal import stats
from frugal.budgets import compare
from frugal.choice.trials import Trial
from frugal.costs import check, memory, prices, scenario

NOTHING = "nothing"  # what a budget buys that is too small
# Where several draws of a way are recorded: which study, and what the way is called there.
RECORDED = {
    "t-few": ("study_tfew", "teacher"),
    "small-full": ("study", "annotate"),
    "small-distilled": ("study", "distill"),
}


@dataclass(frozen=True)
class Prices:
    """USD for a label and a GPU hour; what share of the GPU's peak FLOP/s is reached (assumed).

    Raises FrugalError for a price that is none, and would change what is recommended.
    """

    usd_per_label: float
    gpu: str = prices.GPU
    usd_per_hour: float | None = None  # by default the listed price of `gpu`
    mfu: float = scenario.Scenario.mfu

    def __post_init__(self) -> None:
        check.amount("usd_per_label", self.usd_per_label)
        self.compute(1.0)

    def compute(self, flops: float) -> float:
        """USD for so many FLOPs."""
        rate = self.usd_per_hour
        rate = prices.get("gpu", self.gpu).usd if rate is None else rate
        check.amount("usd_per_hour", rate)
        peak = memory.gpu(self.gpu).peak_flops
        return scenario.hours(flops, peak_flops=peak, mfu=self.mfu) * rate


@dataclass(frozen=True, kw_only=True)
class Option(Trial):
    """A way as it was tried, and priced for `queries` queries.

    accuracy, low, high: on the scored examples, and its 95 % interval (Wilson)
    usd_labels, usd_training, usd_serving: what usd_total is the sum of; usd_per_query: serving one
    affordable: whether the budget pays for it
    behind, behind_low, behind_high: by how much the recommended way is more accurate, with its 95 %
        interval, which holds for all ways at once; None where none is recommended
    best: how often it is the most accurate affordable way when the examples are drawn again
    elsewhere: what another draw of the labels did to such a way where that is recorded; or ""
    """

    accuracy: float
    low: float
    high: float
    usd_total: float
    usd_labels: float
    usd_training: float
    usd_serving: float
    usd_per_query: float
    affordable: bool
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    best: float = 0.0
    elsewhere: str = ""

    @property
    def usd_once(self) -> float:
        """USD before the first query."""
        return self.usd_labels + self.usd_training

    def record(self) -> dict[str, Any]:
        """All of it but for the `hits`, as JSON."""
        return {name: value for name, value in vars(self).items() if name != "hits"}


def priced(tried: Trial, budget: float, queries: float, price: Prices) -> Option:
    """What was tried, for so many queries; nothing is compared yet."""
    low, high = stats.wilson(int(tried.hits.sum()), len(tried.hits))
    usd_labels = tried.labels * price.usd_per_label
    training = price.compute(tried.train_flops)
    per_query = tried.usd_asked
    if per_query is None:
        per_query = price.compute(tried.flops_per_query)
    # A sum that is no number would be above no budget, or below every one.
    total = check.amount(
        f"the price of {tried.strategy}", usd_labels + training + queries * per_query
    )
    return Option(
        **vars(tried),
        accuracy=float(tried.hits.mean()),
        low=low,
        high=high,
        usd_total=total,
        usd_labels=usd_labels,
        usd_training=training,
        usd_serving=queries * per_query,
        usd_per_query=per_query,
        affordable=total <= budget,
        elsewhere=elsewhere(tried.strategy),
    )


@cache
def elsewhere(strategy: str) -> str:
    """What another draw of the labels did to a way, in the study that is recorded; "" if none is.

    The least and the most accurate of its draws, on as few labels as it has: a way that nobody has
    drawn again may be as far from its mean.
    """
    if strategy not in RECORDED:
        return ""
    name, of = RECORDED[strategy]
    runs = compare.recorded(name)
    runs = runs[(runs["strategy"] == of) & (runs["labels"] == runs["labels"].min())]
    each = runs.groupby("model")["accuracy"].agg(["min", "max", "size"])
    row = each.loc[(each["max"] - each["min"]).idxmax()]
    return (
        f"{row['min']:.3f} to {row['max']:.3f} over {row['size']:.0f} draws of "
        f"{runs['labels'].min()} labels ({runs['task'].iloc[0]}, {name}.csv)"
    )


def compared(options: Sequence[Option]) -> list[Option]:
    """The options, the most accurate first, of equals the cheaper one.

    Each says how far it is behind the first that is affordable, and how often it is ahead of all.
    """

    def order(option: Option) -> tuple[float, float]:
        return -option.accuracy, option.usd_total

    able = [i for i, option in enumerate(options) if option.affordable]
    if not able:
        return sorted(options, key=order)
    best = min(able, key=lambda i: order(options[i]))
    hits = np.stack([option.hits for option in options])
    drawn = stats.resampled(hits)
    top = drawn[:, able] == drawn[:, able].max(axis=1, keepdims=True)
    shares = dict(zip(able, (top / top.sum(axis=1, keepdims=True)).mean(axis=0), strict=True))
    found = []
    for i, option in enumerate(options):
        apart = stats.compare(hits[best], hits[i], of=max(1, len(options) - 1))
        found.append(
            replace(
                option,
                behind=apart.difference,
                behind_low=apart.low,
                behind_high=apart.high,
                best=float(shares.get(i, 0.0)),
            )
        )
    return sorted(found, key=order)


def break_evens(options: Sequence[Option]) -> pd.DataFrame:
    """Where two ways cost the same: columns cheaper_below, cheaper_from, queries, usd.

    A row for each pair of which one costs more before the first query and less for each; `queries`
    is the first number at which the dearer start has paid off, `usd` what it has cost by then.
    """
    rows = []
    for a, b in itertools.permutations(options, 2):
        at = scenario.break_even(b.usd_once, b.usd_per_query, a.usd_once, a.usd_per_query)
        if at:
            rows.append((a.strategy, b.strategy, at, b.usd_once + at * b.usd_per_query))
    columns = ["cheaper_below", "cheaper_from", "queries", "usd"]
    return pd.DataFrame(rows, columns=columns).sort_values("queries", ignore_index=True)


def cheapest(options: Sequence[Option]) -> list[tuple[int, str]]:
    """Which way costs least, whatever it answers, and from which number of queries on."""
    now = min(options, key=lambda o: (o.usd_once, o.usd_per_query)).strategy
    found, table = [(0, now)], break_evens(options)
    while True:
        later = table[(table["cheaper_below"] == now) & (table["queries"] > found[-1][0])]
        if later.empty:
            return found
        now = str(later["cheaper_from"].iloc[0])
        found.append((int(later["queries"].iloc[0]), now))


def ladder(options: Sequence[Option]) -> list[Option]:
    """From which budget on which way is the most accurate one: each costs more and answers more."""
    found: list[Option] = []
    for option in sorted(options, key=lambda o: (o.usd_total, -o.accuracy)):
        if not found or option.accuracy > found[-1].accuracy:
            found.append(option)
    return found


def choices(
    options: Sequence[Option], queries: Sequence[float], budgets: Sequence[float]
) -> pd.DataFrame:
    """The most accurate way that the money pays for: rows budgets, columns queries."""
    found = np.full((len(budgets), len(queries)), NOTHING, dtype=object)
    for column, count in enumerate(queries):
        totals = {o.strategy: o.usd_once + count * o.usd_per_query for o in options}
        for o in sorted(options, key=lambda o: (o.accuracy, -totals[o.strategy])):
            found[np.asarray(budgets) >= totals[o.strategy], column] = o.strategy
    return pd.DataFrame(found, index=list(budgets), columns=list(queries))
