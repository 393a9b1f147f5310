"""What a budget buys in Distill or Annotate? (Kang et al., ACL 2023), and what it scores there.

Costs follow the fitted model of `table3`; scores are read from table 3, linear between the
printed ones, and every estimate says on what it rests.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from frugal.costs import check, prices
from frugal.errors import FrugalError, unknown
from frugal.papers import tables
from frugal.papers.audit_annotate import STARTING_LABELS
from frugal.papers.table3 import (
    STRATEGIES,
    Curve,
    Strategy,
    cells,
    gpu_usd,
    interpolate,
    label_usd,
    throughput,
)

if TYPE_CHECKING:
    import pandas as pd

HELD = "extrapolated: held at the last printed score"
STEP = 250  # labels, between the splits of a total that are looked at
MOST_USD = 1e12  # of a budget; whoever has more must not be told a price
UNPRINTED = "below the printed range"


@dataclass(frozen=True)
class Purchase:
    """What one strategy makes of `budget` USD on top of `labels` labels.

    usd:        really spent: whole labels, never more than the budget; GPU hours rounded up as
                table 3 rounds them, so by up to one hour more
    extra_labels, gpu_hours, teacher_hours (h0, of gpu_hours), unlabelled: what it buys
    score:      the student's, in percent; None where table 3 says nothing about it
    basis:      what the score rests on: "printed", "interpolated", HELD, or why there is none
    """

    task: str
    strategy: Strategy
    labels: int
    budget: float
    usd: float
    extra_labels: int
    gpu_hours: int
    teacher_hours: float
    unlabelled: float
    score: float | None
    basis: str


def buy(task: str, strategy: str, *, labels: int, budget: float) -> Purchase:
    """`budget` USD in more labels, or in GPU hours for a teacher trained on the `labels` there are.

    Raises FrugalError for an unknown task or strategy, a negative budget, or N outside table 3's.
    """
    model = throughput(task)
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    check.whole("labels", labels, least=1)
    check.number("budget", check.amount("budget", budget), most=MOST_USD)
    h0 = model.h0(labels)
    if strategy == "annotate":
        # A hair more, so that a budget that was computed as labels × price buys those labels.
        bought = math.floor(budget / label_usd(task) + 1e-9)
        score, basis = _read(_annotation_curve(task), labels + bought)
        usd = bought * label_usd(task)
        return Purchase(task, "annotate", labels, budget, usd, bought, 0, 0, 0, score, basis)
    hours = math.ceil(budget / gpu_usd() - 1e-9)
    made = model.unlabelled(hours, labels)
    if hours <= h0:
        score, basis = None, f"not affordable: training the teacher alone takes {h0:.1f} GPU hours"
    else:
        score, basis = _distilled_score(task, labels, made)
    usd, teacher = hours * gpu_usd(), min(h0, hours)
    return Purchase(task, "distill", labels, budget, usd, 0, hours, teacher, made, score, basis)


@lru_cache
def _annotation_curve(task: str) -> Curve:
    """Score by labels in all: annotation does not care which of them came first."""
    found = [c for c in cells() if c.task == task and c.strategy == "annotate"]
    return sorted((c.labels + c.bought, c.score) for c in found if c.score is not None)


@lru_cache
def _distillation_curve(task: str, labels: int) -> Curve:
    """Score by examples distilled (as the model counts them), for a printed N."""
    model = throughput(task)
    rows = [c for c in cells() if (c.task, c.labels) == (task, labels) and c.strategy == "distill"]
    return [(model.unlabelled(c.bought, labels), c.score) for c in rows if c.score is not None]


def _distilled_score(task: str, labels: int, unlabelled: float) -> tuple[float | None, str]:
    """Linear in the examples, and between the two printed N in N."""
    known = sorted(throughput(task).overhead)
    if labels in known:
        return _read(_distillation_curve(task, labels), unlabelled)
    reads = [_read(_distillation_curve(task, n), unlabelled) for n in known]
    if any(score is None for score, _ in reads):
        return None, UNPRINTED
    scores = [s for s, _ in reads if s is not None]
    score = interpolate(list(zip(known, scores, strict=True)), labels)
    return score, HELD if any(basis == HELD for _, basis in reads) else "interpolated"


def _read(curve: Curve, at: float) -> tuple[float | None, str]:
    """The curve at `at`, and what that rests on."""
    for place, score in curve:
        if math.isclose(place, at, abs_tol=1e-6):
            return score, "printed"
    if at < curve[0][0]:
        return None, UNPRINTED
    return interpolate(curve, at), HELD if at > curve[-1][0] else "interpolated"


def winner(annotated: Purchase, distilled: Purchase) -> Strategy | None:
    """Whose score is higher; None in a tie, and where a score of what is bought is not printed."""
    if distilled.basis == UNPRINTED or annotated.score is None:
        return None
    if distilled.score is None:  # the budget does not even train the teacher
        return "annotate"
    if annotated.score == distilled.score:
        return None
    return "distill" if distilled.score > annotated.score else "annotate"


@dataclass(frozen=True)
class Span:
    """Added budgets, in whole USD, over which the same strategy wins; None: nobody can say."""

    low: int
    high: int
    winner: Strategy | None


def break_even(task: str, labels: int) -> list[Span]:
    """Who wins at which added budget, from $0 to the last printed one, on top of N labels."""
    throughput(task)  # an unknown task is refused here
    last = max(c.budget for c in cells() if c.task == task)
    spans: list[Span] = []
    for budget in range(last + 1):
        pair = [buy(task, s, labels=labels, budget=budget) for s in STRATEGIES]
        best = winner(*pair)
        start = spans.pop().low if spans and spans[-1].winner == best else budget
        spans.append(Span(start, budget, best))
    return spans


def splits(task: str, total: float) -> list[Purchase]:
    """`total` USD from nothing: N labels first, and the rest on either strategy.

    N runs over table 3's range in steps of STEP, as far as the money goes; FrugalError where it
    does not buy the first.
    """
    known = sorted(throughput(task).overhead)
    price = label_usd(task)
    found = [
        buy(task, strategy, labels=n, budget=total - n * price)
        for n in range(known[0], known[-1] + 1, STEP)
        if n * price <= total
        for strategy in STRATEGIES
    ]
    if not found:
        raise FrugalError(f"budget: {known[0]:,} labels of {task} cost ${known[0] * price:.0f}")
    return found


def best_splits(task: str, totals: Iterable[float]) -> "pd.DataFrame":
    """The frontier: the best score that each total buys by either strategy, split as in `splits`.

    Columns: task, total (USD, ascending), strategy, labels (N of that split), score. Money may be
    left over, so a larger total is never worse; scores that are extrapolated do not count.
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    best: dict[Strategy, Purchase] = {}
    for total in sorted(totals):
        for bought in splits(task, total):
            if bought.score is None or bought.basis == HELD:
                continue
            known = best.get(bought.strategy)
            if known is None or bought.score > (known.score or 0):
                best[bought.strategy] = bought
        rows += [(task, total, p.strategy, p.labels, p.score) for p in best.values()]
    return pd.DataFrame(rows, columns=["task", "total", "strategy", "labels", "score"])


@dataclass(frozen=True)
class Annotator:
    """What an LLM's labels cost, and whether a budget for them is what binds (Figure 6).

    usd_per_label: of one answer; human: what a person takes for a label (table 1)
    budget: USD; affordable: labels that it pays for; texts: that there are to label
    """

    task: str
    usd_per_label: float
    human: float
    budget: float
    affordable: int
    texts: int

    @property
    def binds(self) -> bool:
        """Whether the budget ends before the texts do."""
        return self.affordable < self.texts

    def __str__(self) -> str:
        people = self.human / self.usd_per_label
        if self.binds:
            so = f" of the {self.texts:,} texts: the budget binds"
        else:
            whole = prices.usd(self.texts * self.usd_per_label)
            so = f", and all {self.texts:,} texts take {whole}: it is texts that are too few"
        return (
            f"{self.task}: a label costs {prices.usd(self.usd_per_label)}, a person's "
            f"{people:,.0f} times that; ${self.budget:,.0f} pay for {self.affordable:,}{so}"
        )


def annotator(
    task: str,
    *,
    budget: float,
    read: float,
    written: float,
    usd_in: float,
    usd_out: float,
    cached: float = 0.0,
    usd_cached: float | None = None,
    share: float = 1.0,
    texts: int | None = None,
) -> Annotator:
    """A budget in an LLM's labels, by the prices of any day: Figure 6's question asked again.

    read, written: tokens of a prompt and of an answer, thoughts included; means over the task
    usd_in, usd_out, usd_cached: USD of a million tokens read, written, and read from a cache (else
        as usd_in); cached: those of `read` that are in one, as shots are that stand in front
    share: of these prices, what is paid: 0.5 where answers come in a batch
    texts: that there are to label; else as many as the paper trains on (table 1)

    Raises FrugalError for an unknown task, a count or price below 0, and a label that is free.
    """
    given = {"budget": budget, "read": read, "written": written, "usd_in": usd_in}
    given |= {"usd_out": usd_out, "cached": cached, "share": share}
    for name, value in given.items():
        check.amount(name, value)
    check.number("cached", cached, most=read)
    old = usd_in if usd_cached is None else check.amount("usd_cached", usd_cached)
    usd = share * ((read - cached) * usd_in + cached * old + written * usd_out) / 1e6
    check.number("the price of a label", usd, above=0)
    sizes = {r["dataset"]: int(r["n_train"]) for r in tables.records("annotate_table1_costs")}
    if task not in sizes:
        raise unknown("task", task, sizes)
    there = sizes[task] if texts is None else check.whole("texts", texts, least=1)
    affordable = math.floor(check.number("budget", budget, most=MOST_USD) / usd + 1e-9)
    return Annotator(task, usd, label_usd(task), budget, affordable, there)


def table3() -> "pd.DataFrame":
    """Every count and price of table 3 beside what the model gives: a row a printed number.

    Columns: task, labels (N), strategy, header, budget (the true column, USD), what, printed,
    model, residual (model − printed), step (what the table's last digit is worth).
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for c in cells():
        bought = buy(c.task, c.strategy, labels=c.labels, budget=c.budget)
        compared = [("initial USD", c.initial_usd, c.labels * label_usd(c.task), 1.0)]
        if c.strategy == "annotate":
            compared += [("labels", c.bought, bought.extra_labels, 1)]
        elif c.budget:
            compared += [("GPU hours", c.bought, bought.gpu_hours, 1)]
            compared += [("unlabelled", c.unlabelled or 0, bought.unlabelled, 1000)]
        if c.score is not None:
            model = math.nan if bought.score is None else bought.score
            compared += [("score", c.score, model, 0.1)]
        cell = (c.task, c.labels, c.strategy, c.header, c.budget)
        for what, printed, model, step in compared:
            rows.append((*cell, what, printed, model, model - printed, step))
    columns = ["task", "labels", "strategy", "header", "budget"]
    columns += ["what", "printed", "model", "residual", "step"]
    return pd.DataFrame(rows, columns=columns)


def table4() -> "pd.DataFrame":
    """Table 4's cells beside the model: scores at the printed budgets, and the upper bounds' cost.

    Columns: row, task, what, printed, model, residual, basis. Where table 3 has no curve for a task
    the model is NaN and `basis` says so. All rows are taken to start from 5,000 labels.
    """
    import pandas as pd

    size = {r["dataset"]: int(r["n_train"]) for r in tables.records("annotate_table1_costs")}
    curves, rows = {c.task for c in cells()}, []
    for r in tables.records("annotate_table4_equivalents"):
        task, model, basis = r["task"], math.nan, "table 3 has no curve of this task"
        if r["score"] == "N/A":
            continue  # annotation never gets there
        budget, what, printed = float(r["budget_usd"]), "score", float(r["score"])
        if "Upper Bound" in r["model"]:
            what, printed, basis = "USD", budget, f"(labels − {STARTING_LABELS:,}) × price"
            model = (size[task] - STARTING_LABELS) * label_usd(task)
        elif task in curves:
            strategy = "distill" if "Dist." in r["model"] else "annotate"
            bought = buy(task, strategy, labels=STARTING_LABELS, budget=budget)
            model, basis = math.nan if bought.score is None else bought.score, bought.basis
        rows.append((r["model"], task, what, printed, model, model - printed, basis))
    columns = ["row", "task", "what", "printed", "model", "residual", "basis"]
    return pd.DataFrame(rows, columns=columns)
