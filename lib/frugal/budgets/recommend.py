"""Which way should I spend my budget on this task? Every way is tried on it, then priced.

All ways are scored on the same examples, none of which they have seen. What is recommended is the
most accurate way that the budget pays for, with its margin, and what that margin is worth.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugal.budgets import trials
from frugal.budgets.classifier import Fit
from frugal.costs import check, memory, prices, scenario
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import tfew
from frugal.fewshot.tasks import Task

LEVEL = 1.96  # of a normal distribution: 95 % intervals
RESAMPLES = 4000


@dataclass(frozen=True)
class Prices:
    """USD for a label and a GPU hour; what share of the GPU's peak FLOP/s is reached (assumed)."""

    usd_per_label: float
    gpu: str = "a100-40gb"
    usd_per_hour: float | None = None  # by default the listed price of `gpu`
    mfu: float = 0.4

    def compute(self, flops: float) -> float:
        """USD for so many FLOPs."""
        rate = self.usd_per_hour
        rate = prices.get("gpu", self.gpu).usd if rate is None else rate
        peak = memory.gpu(self.gpu).peak_flops
        return scenario.hours(flops, peak_flops=peak, mfu=self.mfu) * rate


@dataclass(frozen=True)
class Option:
    """One way to answer, as measured here and priced for `queries` queries.

    accuracy, low, high: on the scored examples, and its 95 % interval (Wilson)
    usd_labels, usd_training, usd_serving: what usd_total is the sum of; usd_per_query: serving one
    seconds: of training and scoring here; affordable: whether the budget pays for it
    """

    strategy: str
    model: str
    accuracy: float
    low: float
    high: float
    usd_total: float
    usd_labels: float
    usd_training: float
    usd_serving: float
    usd_per_query: float
    train_flops: float
    flops_per_query: float
    labels: int
    seconds: float
    affordable: bool
    note: str


@dataclass(frozen=True)
class Plan:
    """All options in the order of their accuracy, and which of them to take.

    recommendation: its `strategy`; None where the budget pays for none
    margin: accuracy of the recommended one minus that of the next best affordable one, with its
        95 % interval (paired bootstrap); None where there is no other
    left_out: ways that this task does not allow, and why
    """

    task: str
    labels: int
    budget: float
    queries: float
    scored: int
    chance: float
    recommendation: str | None
    reason: str
    margin: dict[str, Any] | None
    options: list[Option]
    left_out: list[dict[str, str]]


def plan(
    task: Task,
    lm: Backbone,
    encoder: Backbone,
    *,
    labels: int,
    budget: float,
    queries: float,
    price: Prices,
    recipe: tfew.Recipe,
    small: Fit,
    icl_shots: int = 16,
    seed: int = 0,
    limit: int | None = None,
    truncate: bool = False,
    progress: Callable[[str], Any] = lambda message: None,
) -> Plan:
    """Try every way on `task` with `labels` labelled examples, price them, recommend one.

    lm, encoder, recipe, small, icl_shots: as `trials.run` takes them; limit: examples to score

    Raises FrugalError for nonsense, and where too few examples are left to score.
    """
    money = {"budget": budget, "queries": queries, "usd_per_label": price.usd_per_label}
    for name, value in money.items():
        if check.number(name, value) < 0:
            raise FrugalError(f"{name} must not be negative, but is {value!r}")
    price.compute(1.0)  # a wrong GPU or price is said now, not after minutes
    check.whole("labels", labels, least=1)
    shots = task.draw(labels, seed)
    scored = task.test(limit, shots=labels, seed=seed)
    if len(scored) < 2:
        raise FrugalError(f"{task.name}: one example is left to score; use fewer labels")
    tried, left_out = trials.run(
        task,
        lm,
        encoder,
        shots,
        scored,
        recipe=recipe,
        small=small,
        icl_shots=icl_shots,
        truncate=truncate,
        progress=progress,
    )
    options = [_priced(t, budget, queries, price) for t in tried]
    chosen, reason, margin = recommend(options, [t.hits for t in tried], task.chance)
    order = sorted(options, key=lambda o: (-o.accuracy, o.usd_total))
    return Plan(
        task=task.name,
        labels=labels,
        budget=budget,
        queries=queries,
        scored=len(scored),
        chance=task.chance,
        recommendation=chosen,
        reason=reason,
        margin=margin,
        options=order,
        left_out=left_out,
    )


def _priced(tried: trials.Trial, budget: float, queries: float, price: Prices) -> Option:
    accuracy = float(tried.hits.mean())
    low, high = wilson(int(tried.hits.sum()), len(tried.hits))
    usd_labels = tried.labels * price.usd_per_label
    training = price.compute(tried.train_flops)
    per_query = price.compute(tried.flops_per_query)
    total = usd_labels + training + queries * per_query
    return Option(
        strategy=tried.strategy,
        model=tried.model,
        accuracy=accuracy,
        low=low,
        high=high,
        usd_total=total,
        usd_labels=usd_labels,
        usd_training=training,
        usd_serving=queries * per_query,
        usd_per_query=per_query,
        train_flops=tried.train_flops,
        flops_per_query=tried.flops_per_query,
        labels=tried.labels,
        seconds=tried.seconds,
        affordable=total <= budget,
        note=tried.note,
    )


def wilson(right: int, of: int) -> tuple[float, float]:
    """95 % interval of a share, `right` of `of` (Wilson 1927)."""
    share, z2 = right / of, LEVEL**2
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = LEVEL * math.sqrt(share * (1 - share) / of + z2 / (4 * of**2)) / (1 + z2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    first: NDArray[np.bool_], second: NDArray[np.bool_], *, seed: int = 0
) -> tuple[float, float, float]:
    """Accuracy of `first` minus that of `second` on the same examples, and its 95 % interval.

    The percentiles of the mean paired difference over examples drawn again with replacement.
    """
    differences = first.astype(float) - second.astype(float)
    draws = np.random.default_rng(seed).integers(
        len(differences), size=(RESAMPLES, len(differences))
    )
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return float(differences.mean()), float(low), float(high)


def recommend(
    options: Sequence[Option], hits: Sequence[NDArray[np.bool_]], chance: float
) -> tuple[str | None, str, dict[str, Any] | None]:
    """The strategy to take, why in one sentence, and the margin over the next best.

    It is the most accurate one that the budget pays for; where these examples do not tell a cheaper
    one apart from it, the sentence says so.
    """
    able = [i for i, o in enumerate(options) if o.affordable]
    if not able:
        least = min(options, key=lambda o: o.usd_total)
        costs = f"{least.strategy}, the cheapest, costs ${least.usd_total:.2f}"
        return None, f"nothing fits the budget: {costs}", None
    best, *others = sorted(able, key=lambda i: (-options[i].accuracy, options[i].usd_total))
    mine = options[best]
    reason = (
        f"{mine.strategy} answers {mine.accuracy:.3f} [{mine.low:.3f}, {mine.high:.3f}] of "
        f"{len(hits[best])} right for ${mine.usd_total:.2f}; "
        "no other way that the budget pays for answers more"
    )
    # Zero within the interval of the difference: the examples do not tell the two apart.
    alike = [options[i] for i in others if bootstrap(hits[best], hits[i])[1] <= 0]
    if cheaper := [o for o in alike if o.usd_total < mine.usd_total]:
        less = min(cheaper, key=lambda o: o.usd_total)
        reason += (
            f"; {less.strategy} ({less.accuracy:.3f}) costs ${less.usd_total:.2f}, "
            "and these examples do not tell the two apart"
        )
    if mine.low <= chance:
        reason += f"; nothing here is clearly better than guessing ({chance:.3f})"
    if not others:
        return mine.strategy, reason, None
    difference, low, high = bootstrap(hits[best], hits[others[0]])
    margin = {"over": options[others[0]].strategy, "difference": difference}
    return mine.strategy, reason, {**margin, "low": low, "high": high}
