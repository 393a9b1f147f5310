"""Figures and tables of our own Table 1 (chapter 3): T-Few and its rivals on many tasks."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal import stats
from frugal_course.figures.style import BLUE, GREY, ORANGE, WIDE, heading, panels, picture, say
from frugal_course.names import name as called

NAMED = 4  # tasks of one verdict, at most: more are counted, and stand in the table

# How the ways of our own Table 1 and of many shots are called (data/table1.toml, many_shots.toml).
WAYS = {
    "ia3": "T-Few, (IA)³",
    "lora": "T-Few, LoRA",
    "bitfit": "T-Few, BitFit",
    "layernorm": "T-Few, LayerNorm",
    "full": "T-Few, all weights",
    "head": "linear head on MiniLM",
    "8 nearest": "ICL with the 8 nearest of 128",
    "4 + 4 nearest": "ICL with 4 for all and the 4 nearest of 128",
    "L_LM": "(IA)³ by L_LM",
    "L_LM + L_UL": "(IA)³ by L_LM + L_UL",
    "L_LM + L_LN": "(IA)³ by L_LM + L_LN",
}


def way(name: str) -> str:
    """How a way of our own Table 1 is called."""
    first, _, rest = name.partition(", ")
    if first.startswith("icl-"):
        first = f"{first.removeprefix('icl-')}-shot ICL"
    return ", ".join(filter(None, (WAYS.get(first, first), rest)))


def against_icl(verdicts: pd.DataFrame, overall: stats.Difference, title: str) -> Figure:
    """Our own Table 1: T-Few and ICL on every task, by cost; and their difference, how sure.

    verdicts: a row a task: task, ours, theirs (accuracies), ours_flops, theirs_flops (of a query),
              difference, low, high
    overall:  the mean of the differences
    """
    height = max(3.9, 1.6 + 0.27 * len(verdicts))
    figure, (at, forest) = panels(2, title, width=WIDE, height=height, width_ratios=[4, 5])
    for row in verdicts.itertuples():
        flops, accuracy = [row.ours_flops, row.theirs_flops], [row.ours, row.theirs]
        at.plot(flops, accuracy, color=GREY, linewidth=0.8, alpha=0.6, zorder=1)
    at.plot(verdicts["theirs_flops"], verdicts["theirs"], "o", color=BLUE, markersize=6)
    at.plot(verdicts["ours_flops"], verdicts["ours"], "D", color=ORANGE, markersize=6)
    at.set(xlabel="FLOPs per query", ylabel="accuracy, a line a task", xscale="log")
    heading(at, "◆ T-Few, ● 16-shot ICL")
    places = [*range(len(verdicts), 0, -1)]
    for y, row in zip(places, verdicts.itertuples(), strict=True):
        _interval(forest, y, row.difference, row.low, row.high)
    _interval(forest, 0, overall.difference, overall.low, overall.high, bold=True)
    forest.axvline(0, color=GREY, linewidth=1)
    forest.set_yticks(
        [*places, 0], [*map(called, verdicts["task"]), "mean of these tasks"], fontsize=9
    )
    forest.set(xlabel="T-Few less 16-shot ICL, points", ylim=(-0.8, len(verdicts) + 0.8))
    forest.grid(axis="x", color="#eeeeee")
    forest.grid(visible=False, axis="y")
    heading(forest, "with its 95 % interval")
    return figure


def show_against_icl(
    verdicts: pd.DataFrame, each: Mapping[str, stats.Difference], planned: int
) -> None:
    """Show `against_icl` under the question about it; in words, while hardly a task is recorded.

    each: the difference on every task that both ways are recorded on; planned: tasks, which title
    and sentence give where some are missing
    """
    found = against_icl_sentence(verdicts, planned)
    if len(each) < stats.FEWEST:
        say(found, answer=True)
        return
    mean = stats.average([*each.values()])
    over = mean.of("T-Few", "16-shot ICL", f"mean of {len(each)} tasks", "recorded")
    figure = against_icl(verdicts, mean, against_icl_title(mean, len(each), planned))
    picture(figure, f"{over}.\n{found}", answer=True)


def _interval(
    at: Axes, y: float, middle: float, low: float | None, high: float | None, bold: bool = False
) -> None:
    """A difference and its interval: orange above 0, blue below, grey where it holds 0."""
    if low is None or high is None or pd.isna(low) or low <= 0 <= high:
        colour, mark = GREY, "s"
    else:
        colour, mark = (ORANGE, "D") if low > 0 else (BLUE, "o")
    if low is not None and high is not None:
        at.hlines(y, 100 * low, 100 * high, color=colour, linewidth=4 if bold else 2)
    at.plot(100 * middle, y, mark, color=colour, markersize=10 if bold else 7)


def against_icl_title(overall: stats.Difference, tasks: int, planned: int) -> str:
    """Direction and size of the mean difference over so many tasks, and its interval."""
    over = f"{tasks} tasks" if tasks == planned else f"{tasks} of {planned} tasks"
    return f"{overall.between(way('ia3'), way('icl-16'))}, over {over}"


def against_icl_sentence(verdicts: pd.DataFrame, planned: int) -> str:
    """What `against_icl` shows, with its numbers; of how many tasks, where some are missing."""
    if verdicts.empty:
        return f"None of the {planned} tasks is recorded yet for both: make reproduce CH=3 does it."
    clear = verdicts.dropna(subset=["low", "high"])
    above, below = (list(clear.loc[c, "task"]) for c in (clear["low"] > 0, clear["high"] < 0))
    unclear = [t for t in verdicts["task"] if t not in above + below]
    ratio = (verdicts["theirs_flops"] / verdicts["ours_flops"]).mean()
    parts = [
        f"{word} on {len(names)}"
        + (f" ({', '.join(map(called, names))})" if len(names) <= NAMED else "")
        for word, names in (("above", above), ("below", below), ("not told apart", unclear))
        if names
    ]
    count = len(verdicts)
    return (
        (f"Recorded so far: {count} of {planned} tasks. " if count < planned else "")
        + f"T-Few is, by 95 % intervals, {'; '.join(parts)}. A query of 16-shot ICL takes "
        f"{ratio:.0f} times the FLOPs, nothing cached."
    )


def differences(over_tasks: pd.DataFrame) -> pd.DataFrame:
    """`table1_record.over_tasks` as people read it."""
    return pd.DataFrame(
        {
            "what less what": [
                f"{way(row.ours)} less {way(row.theirs)}" for row in over_tasks.itertuples()
            ],
            "tasks": [
                f"{row.tasks} of {row.planned}" if row.tasks < row.planned else str(row.tasks)
                for row in over_tasks.itertuples()
            ],
            "mean difference, these tasks": over_tasks["difference"],
            "tasks as a sample": over_tasks["sample"],
            "FLOPs of a query, times": [f"{ratio:.2g}" for ratio in over_tasks["flops"]],
        }
    )


def accuracies(means: pd.DataFrame) -> pd.DataFrame:
    """`table1_record.means` as people read it: "" where a way is not recorded on a task."""
    table = means.map(lambda value: "" if pd.isna(value) else f"{value:.2f}")
    return table.rename(columns=way, index=called)


def precisions(name: str, each: Mapping[str, stats.Difference]) -> pd.DataFrame:
    """What `table1_record.against_float32` found of T-Few, a row a task, and their mean."""
    if not each:
        return pd.DataFrame()
    rows = {**each, "mean of these tasks": stats.average([*each.values()])}
    return pd.DataFrame(
        {"task": [*map(called, rows)], f"{name} less float32": [*map(str, rows.values())]}
    )


def precisions_sentence(name: str, each: Mapping[str, stats.Difference]) -> str:
    """What a precision costs T-Few in accuracy, where it was tried beside float32."""
    if not each:
        return "T-Few is not recorded in two precisions."
    where = f"mean of {len(each)} tasks" if len(each) > 1 else next(iter(each))
    mean = stats.average([*each.values()])
    said = mean.of(f"T-Few in {name}", "T-Few in float32", where, "recorded")
    return f"{said}, with the same draws of labels and texts."
