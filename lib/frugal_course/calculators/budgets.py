"""A budget in Distill or Annotate?: more labels, or a teacher that labels; what each scores."""

import math
from collections.abc import Mapping
from typing import Any

from frugal.costs import check
from frugal.papers import purchases, table3
from frugal_course.calculators.answer import (
    Answer,
    Calculator,
    Control,
    State,
    choice,
    number,
    slider,
)
from frugal_course.calculators.picture import Axis, Line, Mark, Panel, Picture, Rule

WAYS = {"annotate": "labels alone", "distill": "distilled"}
_LOOKS: dict[str, Any] = {
    "annotate": ("blue", "circle", ""),
    "distill": ("orange", "diamond", "dashed"),
}

POINTS = 40  # of a line


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
    check.amount("budget", budget)
    check.amount("hours", hours)
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
) -> Answer:
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
    rows = [
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
    verdict = f"the paper's numbers say: {best}" if best else "the paper's numbers do not decide"
    sentence = (
        f"${budget:g} on top of {labels:,} labels of {task} buy {human.extra_labels:,} labels at "
        f"${usd_per_label:g} ({_score(human)}), or {machine.gpu_hours} GPU hours (at most "
        f"{hours:g}) at ${usd_per_hour:g}, of which {machine.teacher_hours:.1f} train the "
        f"teacher; the rest distills {machine.unlabelled:,.0f} examples ({_score(machine)}): "
        f"{verdict}."
    )
    title = f"{task}, {labels:,} labels and ${budget:g}: {best or 'undecided'}"
    return Answer(_picture(task, labels, budget, found, terms, title), sentence, rows)


def _score(purchase: purchases.Purchase) -> str:
    if purchase.score is None:
        return f"no score: {purchase.basis}"
    return f"score {purchase.score:.1f}, {purchase.basis}"


def _picture(
    task: str,
    labels: int,
    budget: float,
    found: Mapping[str, purchases.Purchase],
    terms: dict[str, float],
    title: str,
) -> Picture:
    last = max(budget, *(c.budget for c in table3.cells() if c.task == task))
    grid = [last * i / POINTS for i in range(POINTS + 1)]
    curves = [pair(task, labels=labels, budget=usd, **terms) for usd in grid]
    things: list[Line | Mark | Rule] = [Rule("x", budget, f"${budget:g}")]
    for name, (colour, _, dash) in _LOOKS.items():
        points = [(usd, p[name].score) for usd, p in zip(grid, curves, strict=True)]
        if points[-1][1] is not None:
            things.append(Line(points, colour, WAYS[name], dash))
    for cell in table3.cells():
        if (cell.task, cell.labels) == (task, labels) and cell.score is not None:
            colour, shape, _ = _LOOKS[cell.strategy]
            price = terms["usd_per_label"] if cell.strategy == "annotate" else terms["usd_per_hour"]
            things.append(Mark(cell.bought * price, cell.score, colour, shape, filled=False))
    for name, (colour, shape, _) in _LOOKS.items():
        if (score := found[name].score) is not None:
            things.append(Mark(budget, score, colour, shape))
    scores = [p.score for both in curves for p in both.values() if p.score is not None]
    scores += [thing.y for thing in things if isinstance(thing, Mark)]
    low, high = min(scores, default=0.0), max(scores, default=100.0)
    room = max(0.12 * (high - low), 1.0)
    right = max([last, *(thing.x for thing in things if isinstance(thing, Mark))])
    x = Axis(f"USD on top of {labels:,} labels", -0.02 * right, 1.04 * right)
    y = Axis("student's score", low - room, high + 1.5 * room)
    return Picture(title, [Panel("open: printed (table 3); lines: between them", x, y, things)])


def controls(state: State, moved: str) -> list[Control]:
    """Another task's labels have another price."""
    task = state["task"]
    label = None if moved == "task" else state["usd_per_label"]
    return [
        choice("task", "task", task, table3.tasks()),
        slider("labels", "labels there are (N)", state["labels"], 1000, 5000, 250),
        slider("budget", "budget, USD", float(state["budget"]), 0.0, 500.0, 10.0),
        number("usd_per_label", "USD for a label", label or table3.label_usd(task), 100.0, 0.01),
        number(
            "usd_per_hour",
            "USD for a GPU hour",
            state["usd_per_hour"] or table3.gpu_usd(),
            100.0,
            0.1,
        ),
        slider("hours", "GPU hours at most", float(state["hours"]), 0.0, 300.0, 10.0),
    ]


CALCULATOR = Calculator("budget", "More labels, or a teacher?", look, controls)
