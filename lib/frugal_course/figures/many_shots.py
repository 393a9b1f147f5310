"""What more examples in the prompt bring (chapter 3): accuracy, and what they cost."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from frugal import stats
from frugal.costs.prices import usd
from frugal_course.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    WIDE,
    across,
    beside,
    flops,
    heading,
    panels,
)
from frugal_course.figures.table1 import way
from frugal_course.names import name as called

# By pair of ways, then by task: `many_shots.differences`.
Found = Mapping[tuple[str, str], Mapping[str, stats.Difference]]
LOOKS = ((False, BLUE, "o", -0.08), (True, GREEN, "^", 0.08))


def by_shots(
    curve: pd.DataFrame, tuned: Mapping[str, float], chances: Mapping[str, float], title: str
) -> Figure:
    """Accuracy of ICL against the number of shots, a panel a task, with its 95 % interval.

    curve: `many_shots.curve`; tuned: T-Few's mean accuracy, by task, with as many labels as the
    longest prompt has examples; chances: of guessing
    """
    tasks, shots = list(dict.fromkeys(curve["task"])), sorted(curve["shots"].unique())
    figure, axes = panels(len(tasks), title, width=WIDE, sharey=True)
    for at, task in zip(axes, tasks, strict=True):
        mine = curve[curve["task"] == task].sort_values("shots")
        for calibrated, colour, mark, aside in LOOKS:
            rows = mine[mine["calibrated"] == calibrated]
            if rows.empty:
                continue
            x = [shots.index(k) + aside for k in rows["shots"]]
            at.plot(x, rows["accuracy"], color=colour, marker=mark, markersize=7)
            at.vlines(x, rows["low"], rows["high"], color=colour, linewidth=2, alpha=0.6)
        if task in tuned:
            at.axhline(tuned[task], color=ORANGE, linewidth=2, linestyle="--")
            where = ("axes fraction", "data")
            beside(
                at, f"T-Few, {max(shots)} labels", 0.02, tuned[task], ORANGE, up=4, xycoords=where
            )
        across(at, chances[task])
        at.set_xticks(range(len(shots)), [str(k) for k in shots])
        at.set(xlabel="examples in the prompt", xlim=(-0.4, len(shots) - 0.6))
        heading(at, task)
    axes[0].set(ylabel="accuracy: ● as it is, ▲ calibrated", ylim=(0, 1.02))
    return figure


def by_shots_title(curve: pd.DataFrame, found: Found) -> str:
    """Direction and size of what the most shots add to a few, over tasks."""
    most = curve["shots"].max()
    if gains := found.get((f"icl-{most}", "icl-16")):
        mean = stats.average([*gains.values()])
        over = "1 task" if len(gains) == 1 else f"{len(gains)} tasks"
        return f"{mean.between(way(f'icl-{most}'), way('icl-16'))}, over {over}"
    return f"ICL with up to {most} examples in the prompt"


def shots_sentence(
    curve: pd.DataFrame, orders: Mapping[str, tuple[float, float]], planned: int
) -> str:
    """What `by_shots` shows; orders: by task, how much orders and how much draws move 16 shots.

    planned: points of the whole curve
    """
    told = []
    for task, mine in curve.groupby("task", sort=False):
        best = mine.loc[mine["accuracy"].idxmax()]
        how = " calibrated" if best["calibrated"] else ""
        none = mine[(mine["shots"] == 0) & ~mine["calibrated"]]["accuracy"]
        start = f"from {none.iloc[0]:.2f} without any " if len(none) else ""
        told.append(
            f"{task}: {start}to {best['accuracy']:.2f} with {best['shots']}{how}, "
            "the highest of these"
        )
    moved = [
        f"{task} {100 * order:.1f} and {100 * draw:.1f}" for task, (order, draw) in orders.items()
    ]
    some = f" so far: {len(curve)} of {planned} points" if len(curve) < planned else ""
    text = f"Recorded{some}. {'; '.join(told)}."
    if moved:
        text += (
            "\nOrders of the same 16 examples, and draws of other ones, move accuracy by standard "
            f"deviations of {'; '.join(moved)} points."
        )
    return text


def shots_differences(found: Found) -> pd.DataFrame:
    """`many_shots.differences` as people read them: a row a pair, a column a task."""
    rows = {
        f"{way(ours)} less {way(theirs)}": {called(task): str(gain) for task, gain in each.items()}
        for (ours, theirs), each in found.items()
    }
    return pd.DataFrame(rows).T.fillna("")


def price_sentence(task: str, model: str, api: Any) -> str:
    """Whose price `shots_priced` takes. api: an `ApiPrice`."""
    return (
        f"{task} with {model}'s tokens, {api.model}'s price of {api.row.known_on} "
        f"({api.row.state}); answers are not counted."
    )


def shots_priced(costs: pd.DataFrame, dollars: pd.DataFrame, queries: int) -> pd.DataFrame:
    """`many_shots.costs` and `many_shots.dollars`, of so many queries, as people read them."""
    table = costs.merge(dollars, on="shots", suffixes=("", "_usd"))
    many = f"USD, {queries:,} queries"
    return pd.DataFrame(
        {
            "examples": table["shots"],
            "tokens of a prompt": (table["prefix"] + table["query"]).map("{:,}".format),
            "FLOPs of a query": [*map(flops, table["flops"])],
            "behind a cache": [*map(flops, table["cached"])],
            many: [usd(amount) for amount in table["uncached"]],
            f"{many}, cached": [usd(amount) for amount in table["cached_usd"]],
        }
    )
