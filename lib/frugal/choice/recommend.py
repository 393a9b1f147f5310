"""Which way should I spend my budget on this task? Every way is tried on it, then priced.

All ways are scored on the same examples, none of which they have seen. What is recommended is the
most accurate way that the budget pays for, with its margin, and how sure that margin is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from frugal import stats
from frugal.choice import ways as every
from frugal.choice.options import Option, Prices, compared, priced
from frugal.choice.served import Served
from frugal.choice.trials import Attempt, Tried, Ways
from frugal.costs import check
from frugal.costs.prices import usd
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.tasks import Task

MOST_QUERIES = 1e18


@dataclass(frozen=True, kw_only=True)
class Plan(Tried):
    """What was tried as options, in the order of their accuracy, and which of them to take.

    recommendation: its `strategy`; None where the budget pays for none
    reason: one sentence, every number of which is in the table
    margin: what is `over` the next best affordable one: `difference`, `low`, `high`, as its
        `behind` says; None where there is no other
    thriftiest: the cheapest way that these examples do not tell apart from the recommended one
    """

    budget: float
    queries: float
    recommendation: str | None
    reason: str
    margin: dict[str, Any] | None
    thriftiest: str | None
    options: list[Option]

    @property
    def chosen(self) -> Option:
        """The recommended option; FrugalError where there is none."""
        for option in self.options:
            if option.strategy == self.recommendation:
                return option
        raise FrugalError(f"budget: {self.reason}")

    def record(self) -> dict[str, Any]:
        """All of it as JSON: of a way that was tried, its option."""
        own = {name: value for name, value in vars(self).items() if name != "trials"}
        return own | {"options": [option.record() for option in self.options]}


def attempt(task: Task, lm: Backbone, encoder: Backbone, ways: Ways, **how: Any) -> Tried:
    """Every way on the same examples of `task`; nothing is priced. how: as `Attempt.on` takes it"""
    return every.run(Attempt.on(task, lm, encoder, ways, **how))


def plan(
    task: Task,
    lm: Backbone,
    encoder: Backbone,
    ways: Ways,
    *,
    labels: int,
    budget: float,
    queries: float,
    price: Prices,
    served: Served | None = None,
    **how: Any,
) -> Plan:
    """Try every way on `task` with `labels` labelled examples, price them, recommend one.

    ways: how each is done; served: a server's model to ask as well; how: as `Attempt.on` takes it

    Raises FrugalError for nonsense, and where the budget pays for nothing; before any work.
    """
    _sound(budget, queries)  # what is wrong is said now, not after minutes
    mine = Attempt.on(task, lm, encoder, ways, labels=labels, **how)
    serving = queries * price.compute(mine.query_flops)
    bought = labels * price.usd_per_label
    check.amount(f"the price of {labels} labels", bought)
    check.amount(f"the price of {queries:g} queries", serving)
    if budget < min(serving, bought):
        raise FrugalError(
            f"budget: ${budget:g} pays for nothing: {labels} labels cost {usd(bought)}, and "
            f"without any, {queries:g} queries to {lm.name} cost {usd(serving)}"
        )
    return decide(every.run(mine, served), budget=budget, queries=queries, price=price)


def _sound(budget: float, queries: float) -> None:
    check.amount("budget", budget)
    if check.number("queries", queries, most=MOST_QUERIES) < 1:
        raise FrugalError(f"queries must be at least 1, not {queries:g}: there is none to serve")


def decide(tried: Tried, *, budget: float, queries: float, price: Prices) -> Plan:
    """What was tried, priced for so many queries, and what to take of it.

    It is the most accurate way that the budget pays for, the cheaper of two equal ones; where these
    examples do not tell a cheaper one apart from it, the reason says so.
    """
    _sound(budget, queries)
    options = compared([priced(t, budget, queries, price) for t in tried.trials])
    margin = chosen = thrift = None
    if able := [o for o in options if o.affordable]:
        chosen, *others = able
        alike = [o for o in others if (o.behind_low or 0) <= 0 and o.usd_total < chosen.usd_total]
        thrift = min([chosen, *alike], key=lambda o: o.usd_total)
        reason = _reason(tried, chosen, others, thrift)
        if others:
            margin = {"over": others[0].strategy, **_margin(others[0])}
    else:
        least = min(options, key=lambda o: o.usd_total)
        cost = usd(least.usd_total)
        reason = f"nothing fits the budget: {least.strategy}, the cheapest, costs {cost}"
    return Plan(
        **vars(tried),
        budget=budget,
        queries=queries,
        recommendation=chosen.strategy if chosen else None,
        reason=reason,
        margin=margin,
        thriftiest=thrift.strategy if thrift else None,
        options=options,
    )


def by_volume(
    tried: Tried, queries: Sequence[float], *, budget: float, price: Prices
) -> pd.DataFrame:
    """What `decide` says at each number of queries; a row each.

    Columns: queries; recommendation, accuracy, usd; thriftiest, its_accuracy, its_usd; NaN where
    the budget pays for nothing.
    """
    rows = []
    for count in queries:
        found = decide(tried, budget=budget, queries=count, price=price)
        row: dict[str, Any] = {"queries": count}
        by = {o.strategy: o for o in found.options}
        for role, its in (("recommendation", ""), ("thriftiest", "its_")):
            option = by.get(getattr(found, role))
            row[role] = option and option.strategy
            row[f"{its}accuracy"] = option and option.accuracy
            row[f"{its}usd"] = option and option.usd_total
        rows.append(row)
    return pd.DataFrame(rows)


def _margin(other: Option) -> dict[str, Any]:
    """By how much the recommended way is ahead of another."""
    names = {"difference": "behind", "low": "behind_low", "high": "behind_high"}
    return {name: getattr(other, own) for name, own in names.items()}


def _reason(tried: Tried, mine: Option, others: Sequence[Option], thrift: Option) -> str:
    text = (
        f"{mine.strategy} answers {mine.accuracy:.3f} [{mine.low:.3f}, {mine.high:.3f}] of "
        f"{tried.scored} right for {usd(mine.usd_total)}; "
        "no other way that the budget pays for answers more"
    )
    if others:
        other = others[0]
        apart, task = stats.in_points(*_margin(other).values()), tried.task.rsplit("/", 1)[-1]
        text += (
            f". {mine.strategy} less {other.strategy}, {task}, for these labels: {apart}; "
            f"it wins again in {mine.best:.0%} of resamples of these examples"
        )
    if thrift.strategy != mine.strategy:
        text += (
            f"; {thrift.strategy} ({thrift.accuracy:.3f}) costs {usd(thrift.usd_total)}, and these "
            "examples do not tell the two apart"
        )
    if mine.elsewhere:
        text += f"; such a way, with other labels elsewhere: {mine.elsewhere}"
    if mine.low <= tried.chance:
        text += f"; nothing here is clearly better than guessing ({tried.chance:.3f})"
    return text
