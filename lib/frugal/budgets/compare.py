"""What the runs of a study say: means and spread, differences with intervals, labels' worth."""

from typing import Any

import numpy as np
import pandas as pd

from frugal import data, stats
from frugal.errors import unknown


def recorded(name: str = "study") -> pd.DataFrame:
    """The runs of a study that is committed in `data/results`; columns as `study.run` gives them.

    name: "study", in which MiniLM teaches movie reviews, "study_fever", likewise, or "study_tfew",
        in which SmolLM2 teaches them
    """
    return pd.read_csv(data.ROOT / "results" / f"{name}.csv", dtype={"hits": str})


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
    wide = runs.pivot(index=["labels", "model", "seed"], columns="strategy", values="hits")
    records: list[dict[str, Any]] = []
    for (n, model), pairs in wide[[first, second]].dropna().groupby(level=["labels", "model"]):
        ours, theirs = (stats.hits(pairs[name]) for name in (first, second))
        each = ours.mean(1) - theirs.mean(1)
        span = {"low": 100 * each.min(), "high": 100 * each.max()}
        found = {"labels": n, "model": model, "seeds": len(each), **span}
        records.append({**found, "gap": stats.compare(ours, theirs)})
    return pd.DataFrame(records)


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
