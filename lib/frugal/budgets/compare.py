"""What the runs of a study say: means and spread, differences with intervals, labels' worth.

Runs of the same seed and texts are paired, whatever else they differ in. Where two ways cross is
read off the interval of their difference at every budget between those measured.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from frugal import data, stats
from frugal.errors import FrugalError, unknown
from frugal.stats import Difference

Cell = tuple[str, int]  # a student and N
BUDGETS = 401  # at which a crossing is looked for
# What joins the papers: strategy, N, and whether a language model teaches, tuned by T-Few.
JOINED = {
    "100 labels": ("annotate", 100, False),
    "100 labels,\nT-Few teaches": ("distill", 100, True),
    "1,000 labels": ("annotate", 1000, False),
}


def recorded(name: str = "study") -> pd.DataFrame:
    """The runs of a study that is committed in `data/results`; columns as `study.run` gives them.

    name: "study", in which MiniLM teaches movie reviews, "study_fever", likewise, or "study_tfew",
        in which SmolLM2 teaches them
    """
    return packed(pd.read_csv(data.ROOT / "results" / f"{name}.csv", dtype={"hits": str}))


def at_length() -> pd.DataFrame:
    """The runs of `make crossing`, on several tasks and of two teachers; none before it is made."""
    if (data.ROOT / "results" / "crossing.csv").exists():
        return recorded("crossing")
    return pd.DataFrame(columns=["task", "teacher", "labels", "seed", "strategy", "model"])


def packed(runs: pd.DataFrame) -> pd.DataFrame:
    """Hits as a study keeps them: `stats.packed`, with `examples` beside.

    Before, a run had a digit a text, and no `examples`.
    """
    sizes = runs.get("examples", pd.Series(np.nan, runs.index))
    digits = runs.loc[sizes.isna(), "hits"]
    own = digits.map(lambda hits: stats.packed(stats.hits([hits])[0]))
    return runs.assign(
        hits=own.reindex(runs.index).fillna(runs["hits"]),
        examples=sizes.fillna(digits.str.len()).astype(int),
    )


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, least and most accuracy over seeds, and mean dollars, of every strategy at every N."""
    by = runs.groupby(["labels", "strategy", "model"], sort=False)
    table = by["accuracy"].agg(["mean", "min", "max", "count"])
    table["usd"] = by["usd"].mean()
    return table.reset_index()


def gaps(runs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Accuracy of strategy `first` less that of `second`, at every N and student.

    Columns: labels, model, seeds (that have both), low, high (least and most of a seed, in points),
    gap: a `stats.Difference`, paired by seed and text.

    Raises FrugalError for a strategy that has no runs.
    """
    for name in (first, second):
        if name not in set(runs["strategy"]):
            raise unknown("strategy", name, set(runs["strategy"]))
    records: list[dict[str, Any]] = []
    for (n, model), cell in packed(runs).groupby(["labels", "model"]):
        ours, theirs = paired(*(cell[cell["strategy"] == name] for name in (first, second)))
        if len(ours):
            each = ours.mean(1) - theirs.mean(1)
            span = {"low": 100 * each.min(), "high": 100 * each.max()}
            found = {"labels": n, "model": model, "seeds": len(each), **span}
            records.append({**found, "gap": stats.compare(ours, theirs)})
    return pd.DataFrame(records)


def less(ours: pd.DataFrame, theirs: pd.DataFrame) -> Difference:
    """Accuracy of some runs less that of others, a run a seed each, paired by seed and text."""
    return stats.compare(*paired(packed(ours), packed(theirs)))


def gain_less(runs: pd.DataFrame, ours: Cell, theirs: Cell) -> Difference:
    """What distilling adds to labels alone in one cell, less what it adds in another.

    ours, theirs: a student and N each; paired by seed and text
    """
    mine = packed(runs)
    sides = [
        mine[(mine["model"] == model) & (mine["labels"] == n) & (mine["strategy"] == strategy)]
        for model, n in (ours, theirs)
        for strategy in ("distill", "annotate")
    ]
    scores = [side.astype(float) for side in paired(*sides)]
    return stats.compare(scores[0] - scores[1], scores[2] - scores[3])


def joined(
    runs: pd.DataFrame, model: str, teacher: str
) -> tuple[pd.DataFrame, dict[str, Difference]]:
    """A student's runs of JOINED, of tasks that have all of it, with a column `way`; by task, gaps.

    A gap is what it answers after T-Few and 100 labels, less after 1,000 labels of its own.
    teacher: the language model
    """
    mine, parts = runs[runs["model"] == model], []
    for way, (strategy, n, tuned) in JOINED.items():
        there = (mine["strategy"] == strategy) & (mine["labels"] == n)
        parts.append(mine[there & ((mine["teacher"] == teacher) == tuned)].assign(way=way))
    found = pd.concat(parts)
    several = found.groupby("task")["way"].nunique()
    found = found[found["task"].isin(several[several == len(JOINED)].index)]
    _, taught, labelled = JOINED
    gaps = {
        str(task): less(own[own["way"] == taught], own[own["way"] == labelled])
        for task, own in found.groupby("task", sort=False)
    }
    return found, gaps


def paired(*sides: pd.DataFrame) -> list[NDArray[np.bool_]]:
    """Of each side, runs with packed hits, (seeds, texts): the seeds that all have, in order."""
    each = [side.set_index("seed") for side in sides]
    seeds = sorted(set.intersection(*(set(side.index) for side in each)))
    found = []
    for side in each:
        rows = zip(side.loc[seeds, "hits"], side.loc[seeds, "examples"], strict=True)
        found.append(np.array([stats.unpacked(*row) for row in rows], dtype=bool))
    return found


@dataclass(frozen=True)
class Crossing:
    """At which dollars labels alone are as good as distillation, or that none are between.

    first, last: budgets that both ways were measured at or between, USD
    places: budgets at which the means cross, each with its 95 % interval; an end is None where the
        measured budgets do not hold it
    leads: distilled less labels alone by N; all their intervals hold at once
    usd_per_label: turns budgets into labels
    """

    first: float
    last: float
    places: tuple[tuple[float, float | None, float | None], ...]
    leads: dict[int, Difference]
    usd_per_label: float

    def __str__(self) -> str:
        across = f"between ${self.first:,.0f} and ${self.last:,.0f}"
        if self.places:
            each = [
                f"${usd:,.0f} [{'below' if low is None else f'${low:,.0f}'}, "
                f"{'beyond' if high is None else f'${high:,.0f}'}], "
                f"the price of {usd / self.usd_per_label:,.0f} labels"
                for usd, low, high in self.places
            ]
            return f"labels and distillation cross at {' and at '.join(each)}"
        none = f"labels and distillation do not cross {across}"
        gaps = list(self.leads.values())
        ahead = gaps[0].difference > 0
        ends = [(gap.low, gap.high) for gap in gaps]
        sure = [
            low if ahead else -high for low, high in ends if low is not None and high is not None
        ]
        if len(sure) < len(gaps):
            draws = min(gap.draws for gap in gaps)
            return f"{none} ({draws} draws; an interval needs {stats.FEWEST})"
        least = min(sure)
        ours, theirs = ("distillation", "labels") if ahead else ("labels", "distillation")
        if least > 0:
            return f"{none}: {ours} lead{'s' if ahead else ''} by at least {100 * least:.1f} points"
        size = math.ceil(-1000 * least - 1e-9) / 10
        return f"{none}: {theirs} would lead by less than {size:.1f} points at any N"


def crossing(runs: pd.DataFrame, model: str) -> Crossing:
    """Where labels alone and distillation cross for a student, at the same dollars.

    runs: of one task and teacher, with at least two N. A way's score of a text is linear in log USD
        between its N. The interval of a place are the budgets around it at which that of the
        difference holds 0: the true place is in it in 95 % of experiments (Fieller)

    Raises FrugalError for fewer N.
    """
    ways = ("annotate", "distill")
    mine = packed(runs[(runs["model"] == model) & runs["strategy"].isin(ways)])
    several = mine.groupby("labels")["strategy"].nunique()
    counts = [int(n) for n in several[several == len(ways)].index]
    if len(counts) < 2:
        raise FrugalError(f"a crossing needs both ways at two N; {model} has {counts}")
    cells = [
        mine[(mine["strategy"] == way) & (mine["labels"] == n)] for way in ways for n in counts
    ]
    scores = paired(*cells)
    usd = np.array([cell["usd"].mean() for cell in cells]).reshape(len(ways), -1)
    sides = list(zip(usd, (scores[: len(counts)], scores[len(counts) :]), strict=True))
    budgets = np.geomspace(usd[:, 0].max(), usd[:, -1].min(), BUDGETS)
    found = [stats.compare(*(_at(x, *side) for side in reversed(sides))) for x in budgets]
    places = []
    for i, (one, two) in enumerate(itertools.pairwise(found)):
        if one.difference * two.difference < 0 or one.difference == 0:
            low = next((k for k in range(i, -1, -1) if found[k].clear), None)
            high = next((k for k in range(i + 1, BUDGETS) if found[k].clear), None)
            start, end = (None if k is None else float(budgets[k]) for k in (low, high))
            places.append((float(budgets[i]), start, end))
    leads = {
        n: stats.compare(distilled, labelled, of=len(counts))
        for n, labelled, distilled in zip(counts, *(own for _, own in sides), strict=True)
    }
    price = usd[0, -1] / counts[-1]
    return Crossing(float(budgets[0]), float(budgets[-1]), tuple(places), leads, float(price))


def _at(usd: float, paid: NDArray[np.float64], scores: Sequence[NDArray[np.bool_]]) -> Any:
    """(seeds, texts) scores at a budget, between those that were `paid`."""
    place = np.interp(math.log(usd), np.log(paid), np.arange(len(paid)))
    i = min(int(place), len(paid) - 2)
    return (1 - (place - i)) * scores[i] + (place - i) * scores[i + 1]


def worth(runs: pd.DataFrame, model: str) -> dict[int, float | None]:
    """By N, how many labels a student on labels alone needs to be as good as the distilled one.

    Linear between the measured N, on means over seeds; N itself where labels alone are already as
    good, None where not even the most labels measured are enough.
    """
    mean = summary(runs).query("model == @model").set_index(["strategy", "labels"])["mean"]
    curve = mean["annotate"].sort_index()
    found: dict[int, float | None] = {}
    for n, wanted in mean["distill"].items():
        reached = curve[(curve >= wanted) & (curve.index >= n)]
        if reached.empty:
            found[int(n)] = None
            continue
        last = int(reached.index[0])
        low = last if last == n else int(curve.index[curve.index < last][-1])
        found[int(n)] = float(np.interp(wanted, [curve[low], curve[last]], [low, last]))
    return found
