"""A budget in Distill or Annotate?: more labels, or a teacher that labels; what each scores."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from frugal.costs import check
from frugal.papers import purchases, table3
from frugal_course.explorers.view import Controls, Explorer, View, choice, number, slider, start
from frugal_course.figures.style import BLUE, GREY, ORANGE, WIDE, beside, heading, panels

WAYS = {"annotate": "labels alone", "distill": "distilled"}
_LOOKS = {"annotate": (BLUE, "o", "-"), "distill": (ORANGE, "D", "--")}


def pair(
    task: str,
    *,
    labels: int,
    budget: float,
    usd_per_label: float,
    usd_per_hour: float,
    hours: float,
) -> dict[str, purchases.Purchase]:
    """Both purchases of `plan.buy` at prices of your own, and with no more than `hours` GPU hours.

    What is bought decides what is scored: so a budget at other prices is the one that buys the same
    labels, or hours, at the paper's.
    """
    for name, value in (("usd_per_label", usd_per_label), ("usd_per_hour", usd_per_hour)):
        check.number(name, value, above=0)
    # A hair more, so that a budget that was computed as labels × price buys those labels.
    bought = math.floor(budget / usd_per_label + 1e-9)
    taken = min(budget / usd_per_hour, hours)
    as_printed = {
        "annotate": bought * table3.label_usd(task),
        "distill": taken * table3.gpu_usd(),
    }
    return {
        strategy: purchases.buy(task, strategy, labels=labels, budget=usd)
        for strategy, usd in as_printed.items()
    }


def look(
    *,
    task: str = "WLP",
    labels: int = 1000,
    budget: float = 200.0,
    usd_per_label: float | None = None,
    usd_per_hour: float | None = None,
    hours: float = 300.0,
) -> View:
    """Which way to spend `budget` USD on top of N `labels`; scores are read from table 3.

    A price that is not given is the paper's; hours: GPU hours that can be had at most. Raises
    FrugalError for nonsense, and for N outside table 3's.
    """
    usd_per_label = table3.label_usd(task) if usd_per_label is None else usd_per_label
    usd_per_hour = table3.gpu_usd() if usd_per_hour is None else usd_per_hour
    terms = {"usd_per_label": usd_per_label, "usd_per_hour": usd_per_hour, "hours": hours}
    found = pair(task, labels=labels, budget=budget, **terms)
    best = purchases.winner(found["annotate"], found["distill"])
    human, machine = found["annotate"], found["distill"]
    spent = {
        "annotate": human.extra_labels * usd_per_label,
        "distill": machine.gpu_hours * usd_per_hour,
    }
    table = pd.DataFrame(
        [
            {
                "strategy": name,
                "USD": spent[name],
                "labels bought": p.extra_labels,
                "GPU hours": p.gpu_hours,
                "of them for the teacher": p.teacher_hours,
                "examples distilled": p.unlabelled,
                "student's score": p.score,
                "which is": p.basis,
            }
            for name, p in found.items()
        ]
    )
    verdict = f"the paper's numbers say: {best}" if best else "the paper's numbers do not decide"
    sentence = (
        f"${budget:g} on top of {labels:,} labels of {task} buy {human.extra_labels:,} labels at "
        f"${usd_per_label:g} ({_score(human)}), or {machine.gpu_hours} GPU hours (at most "
        f"{hours:g}) at ${usd_per_hour:g}, of which {machine.teacher_hours:.1f} train the "
        f"teacher; the rest distills {machine.unlabelled:,.0f} examples ({_score(machine)}): "
        f"{verdict}."
    )
    title = f"{task}, {labels:,} labels and ${budget:g}: {best or 'undecided'}"
    return View(_figure(task, labels, budget, found, terms, title), sentence, table)


def _score(purchase: purchases.Purchase) -> str:
    if purchase.score is None:
        return f"no score: {purchase.basis}"
    return f"score {purchase.score:.1f}, {purchase.basis}"


def _figure(
    task: str,
    labels: int,
    budget: float,
    found: dict[str, purchases.Purchase],
    terms: dict[str, float],
    title: str,
) -> Figure:
    figure, (at,) = panels(1, title, height=4.0, width=WIDE)
    last = max(budget, *(c.budget for c in table3.cells() if c.task == task))
    grid = np.linspace(0, last, 81)
    curves = [pair(task, labels=labels, budget=float(b), **terms) for b in grid]
    heights = []
    for name, (colour, mark, line) in _LOOKS.items():
        scores = [math.nan if (s := p[name].score) is None else s for p in curves]
        at.plot(grid, scores, color=colour, linestyle=line, linewidth=2)
        if (score := found[name].score) is not None:
            at.plot(budget, score, mark, color=colour, markersize=10, zorder=3)
        heights.append((scores[-1], WAYS[name], colour))
    known = [h for h in heights if not math.isnan(h[0])]
    gap = 3.0 if len(known) == 2 and abs(known[0][0] - known[1][0]) < 3 else 0.0
    for i, (score, name, colour) in enumerate(sorted(known)):
        height = score + (gap / 2 if i else -gap / 2)
        beside(at, name, last, height, colour, right=9, fontsize=11)
    for cell in table3.cells():
        if (cell.task, cell.labels) == (task, labels) and cell.score is not None:
            colour, mark, _ = _LOOKS[cell.strategy]
            price = terms["usd_per_label"] if cell.strategy == "annotate" else terms["usd_per_hour"]
            at.plot(cell.bought * price, cell.score, mark, color=colour, markerfacecolor="white")
    at.axvline(budget, color=GREY, linewidth=1, linestyle=":")
    at.set(
        xlim=(-0.02 * last, 1.18 * last),
        xlabel=f"USD on top of {labels:,} labels",
        ylabel="student's score",
    )
    heading(at, "open marks: printed (table 3); lines: between them")
    return figure


def budget(**given: Any) -> Explorer:
    """Explore budgets of Distill or Annotate?; takes what `look` takes."""
    at = start(look, given)
    task, labels = at["task"], at["labels"]
    label = at["usd_per_label"] or table3.label_usd(task)
    hour = at["usd_per_hour"] or table3.gpu_usd()
    controls = {
        "task": choice("task", task, table3.tasks()),
        "labels": slider("labels there are (N)", labels, 1000, 5000, 250),
        "budget": slider("budget, USD", float(at["budget"]), 0.0, 500.0, 10.0),
        "usd_per_label": number("USD for a label", label, 100.0, step=0.01),
        "usd_per_hour": number("USD for a GPU hour", hour, 100.0, step=0.1),
        "hours": slider("GPU hours at most", float(at["hours"]), 0.0, 300.0, 10.0),
    }
    return Explorer("budget", look, controls, _follow)


def _follow(moved: str, controls: Controls) -> None:
    """Another task's labels have another price."""
    if moved == "task":
        controls["usd_per_label"].value = table3.label_usd(controls["task"].value)
