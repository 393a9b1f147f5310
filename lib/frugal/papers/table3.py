"""The cost model of Distill or Annotate? (Kang et al., ACL 2023), recovered from its table 3.

The paper prints prices, GPU hours and counts, no formula. Its counts follow one:

    unlabelled = r · (hours − h0)

r is the examples that a teacher labels and a student learns from in a GPU hour, one for a task; h0
the hours before the first example, the teacher's fine-tuning on N labels, one for a task and N.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean as mean
from typing import Literal

from frugal.costs import prices
from frugal.errors import FrugalError, unknown
from frugal.papers import tables

Strategy = Literal["annotate", "distill"]
STRATEGIES: tuple[Strategy, Strategy] = ("annotate", "distill")
_NAMES = {"Ann": "annotate", "Dist": "distill"}  # as table 3 prints them


def tasks() -> list[str]:
    """The tasks with a cost model: those of table 3."""
    return list(dict.fromkeys(cell.task for cell in cells()))


@dataclass(frozen=True)
class Cell:
    """One printed budget of table 3.

    labels: N, the labels both strategies begin with; header: USD as the deck's heading says
    budget: USD that the counts fit (see `true_budget`)
    bought: additional labels, or GPU hours; unlabelled: examples distilled, None for annotation
    score:  the student's, in percent; None where the table prints N/A
    """

    task: str
    labels: int
    strategy: Strategy
    header: int
    budget: int
    bought: int
    unlabelled: int | None
    score: float | None
    initial_usd: float


@lru_cache
def cells() -> tuple[Cell, ...]:
    """Table 3, each cell under the budget its counts imply."""
    records = tables.records("annotate_table3_budgets")
    budgets = {
        (task, header): true_budget(task, [r for r in records if _column(r) == (task, header)])
        for task, header in map(_column, records)
    }
    return tuple(
        Cell(
            task=r["task"],
            labels=_thousands(r["n_initial"]),
            strategy=_NAMES[r["strategy"]],  # type: ignore[arg-type]
            header=int(r["header"].removeprefix("+$")),
            budget=budgets[_column(r)],
            bought=int(r["n_additional_labels"] or r["gpu_hours"] or 0),
            unlabelled=_thousands(r["n_unlabeled_K"] + "K") if r["n_unlabeled_K"] else None,
            score=None if r["student_score"] == "N/A" else float(r["student_score"]),
            initial_usd=float(r["initial_usd"]),
        )
        for r in records
    )


def teachers() -> dict[tuple[str, int], float]:
    """The printed score of the teacher that learnt the N labels, in per cent, by task and N."""
    return {
        (r["task"], _thousands(r["n_initial"])): float(r["teacher_score"])
        for r in tables.records("annotate_table3_budgets")
        if r["teacher_score"]
    }


def _column(record: tables.Record) -> tuple[str, str]:
    return record["task"], record["header"]


def _thousands(text: str) -> int:
    return round(float(text.removesuffix("K")) * 1000)


def true_budget(task: str, column: Sequence[tables.Record]) -> int:
    """The whole number of USD that every count of a column of table 3 fits.

    A budget B buys ⌊B / price⌋ labels, or is spent in ⌈B / rate⌉ GPU hours; so a label count bounds
    B to one label's price, and the hours must agree. Raises FrugalError where no B fits. The deck
    puts WLP's headings over all tasks; the audit lists where they are wrong.
    """
    price, rate = label_usd(task), gpu_usd()
    low, high = 0.0, math.inf  # low <= B < high from labels, low < B <= high from hours
    for r in column:
        if r["n_additional_labels"]:
            count = int(r["n_additional_labels"])
            low, high = max(low, count * price), min(high, (count + 1) * price)
        elif r["gpu_hours"]:
            count = int(r["gpu_hours"])
            low, high = max(low, (count - 1) * rate), min(high, count * rate)
    fits = [b for b in range(math.ceil(low), math.ceil(high) + 1) if low <= b <= high]
    if not fits:
        raise FrugalError(f"table 3, {task}: no budget fits ${low:.2f} to ${high:.2f}")
    return fits[0]


def label_usd(task: str) -> float:
    """USD for one human label (table 1)."""
    return prices.get("label", {"NATURAL QUESTIONS": "nq"}.get(task, task)).usd


def gpu_usd() -> float:
    """USD for one GPU hour of table 3: an A40, at half an A100's price."""
    return prices.get("gpu", "a40").usd


@dataclass(frozen=True)
class Throughput:
    """unlabelled = r · (hours − h0), fitted to table 3's counts.

    per_hour: r, examples in a GPU hour; overhead: h0 in GPU hours, by N
    residual: the largest |printed − fitted|, in examples; the table prints thousands
    """

    task: str
    per_hour: float
    overhead: dict[int, float]
    residual: float

    def h0(self, labels: int) -> float:
        """GPU hours before the first example; linear between the printed N.

        Raises FrugalError outside them: a teacher's training there is not printed.
        """
        known = sorted(self.overhead)
        if not known[0] <= labels <= known[-1]:
            raise FrugalError(
                f"labels: table 3 prints N from {known[0]:,} to {known[-1]:,}, not {labels:,}"
            )
        return interpolate([(n, self.overhead[n]) for n in known], labels)

    def unlabelled(self, hours: float, labels: int) -> float:
        """Examples distilled in `hours`; 0 while the teacher is still being trained."""
        return max(0.0, self.per_hour * (hours - self.h0(labels)))

    @property
    def usd_per_example(self) -> float:
        """USD for one more distilled example, once the teacher is there."""
        return gpu_usd() / self.per_hour


@lru_cache
def throughput(task: str) -> Throughput:
    """r and h0 of `task`, by least squares over its distillation cells, r shared by both N."""
    if task not in tasks():
        raise unknown("task", task, tasks())
    rows = [c for c in cells() if c.task == task and c.unlabelled is not None]
    groups = [[c for c in rows if c.labels == n] for n in sorted({c.labels for c in rows})]
    # With the hours and counts of each N taken from their means, one slope is left: Σ x y / Σ x x.
    means = {
        g[0].labels: (mean(c.bought for c in g), mean(c.unlabelled or 0 for c in g)) for g in groups
    }
    apart = [
        (c.bought - means[c.labels][0], (c.unlabelled or 0) - means[c.labels][1]) for c in rows
    ]
    rate = sum(x * y for x, y in apart) / sum(x * x for x, _ in apart)
    overhead = {n: hours - count / rate for n, (hours, count) in means.items()}
    misses = [rate * (c.bought - overhead[c.labels]) - (c.unlabelled or 0) for c in rows]
    return Throughput(task, rate, overhead, max(map(abs, misses)))


Curve = Sequence[tuple[float, float]]  # (x, y), rising in x


def interpolate(curve: Curve, at: float) -> float:
    """`curve` at `at`, linear between its points; beyond them, the value at the end."""
    if at <= curve[0][0]:
        return curve[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if at < x1:
            return y0 + (y1 - y0) / (x1 - x0) * (at - x0)
    return curve[-1][1]
