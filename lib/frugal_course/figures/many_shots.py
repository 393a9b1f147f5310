"""What more examples in the prompt bring (chapter 3): accuracy, and what they cost."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from frugal import stats
from frugal.costs.prices import usd
from frugal_course.figures.style import BLUE, GREEN, ORANGE, across, beside, heading, panels

LOOKS = ((False, BLUE, "o", "as it is", -0.08), (True, GREEN, "^", "calibrated", 0.08))


def by_shots(
    curve: pd.DataFrame, tuned: Mapping[str, float], chances: Mapping[str, float], title: str
) -> Figure:
    """Accuracy of ICL against the number of shots, a panel a task, with its 95 % interval.

    curve: `many_shots.curve`; tuned: T-Few's mean accuracy, by task, with as many labels as the
    longest prompt has examples; chances: of guessing
    """
    tasks, shots = list(dict.fromkeys(curve["task"])), sorted(curve["shots"].unique())
    figure, axes = panels(len(tasks), title, width=10.5, sharey=True)
    for at, task in zip(axes, tasks, strict=True):
        mine = curve[curve["task"] == task].sort_values("shots")
        ends = mine.groupby("calibrated")["accuracy"].last()
        for calibrated, colour, mark, name, aside in LOOKS:
            rows = mine[mine["calibrated"] == calibrated]
            if rows.empty:
                continue
            x = [shots.index(k) + aside for k in rows["shots"]]
            at.plot(x, rows["accuracy"], color=colour, marker=mark, markersize=7)
            at.vlines(x, rows["low"], rows["high"], color=colour, linewidth=2, alpha=0.6)
            higher = (ends[calibrated], calibrated) == max(zip(ends, ends.index, strict=True))
            up = 14 if higher else -22
            beside(at, name, x[-1], ends[calibrated], colour, right=-1, up=up)
        if task in tuned:
            at.axhline(tuned[task], color=ORANGE, linewidth=2, linestyle="--")
            where = ("axes fraction", "data")
            beside(
                at, f"T-Few, {max(shots)} labels", 0.02, tuned[task], ORANGE, up=4, xycoords=where
            )
        across(at, chances[task])
        at.set_xticks(range(len(shots)), [str(k) for k in shots])
        at.set(xlabel="examples in the prompt", ylim=(0, 1.02), xlim=(-0.4, len(shots) - 0.6))
        heading(at, task)
    axes[0].set(ylabel="accuracy")
    return figure


def by_shots_title(gains: Sequence[stats.Difference], most: int, few: int) -> str:
    """Direction and size of what many shots add to few, over tasks; gains: one a task."""
    found = stats.average(gains)
    return f"{found.between(f'{most}-shot ICL', f'{few}-shot ICL')}, over {len(gains)} tasks"


def shots_sentence(found: Mapping[str, Mapping[str, stats.Difference]]) -> str:
    """Differences by what they are of, then by task: a sentence each."""
    lines = []
    for what, each in found.items():
        said = "; ".join(f"{task} {difference}" for task, difference in each.items())
        lines.append(f"{what}: {said}.")
    return "\n".join(lines)


def shots_priced(costs: pd.DataFrame, dollars: pd.DataFrame, queries: int) -> pd.DataFrame:
    """`many_shots.costs` and `many_shots.dollars`, of so many queries, as people read them."""
    table = costs.merge(dollars, on="shots", suffixes=("", "_usd"))
    many = f"USD, {queries:,} queries"
    return pd.DataFrame(
        {
            "examples": table["shots"],
            "tokens of a prompt": table["prefix"] + table["query"],
            "FLOPs of a query": [f"{flops:.1e}" for flops in table["flops"]],
            "behind a cache": [f"{flops:.1e}" for flops in table["cached"]],
            many: [usd(amount) for amount in table["uncached"]],
            f"{many}, cached": [usd(amount) for amount in table["cached_usd"]],
        }
    )
