"""Audit of Distill or Annotate: unit price × labels, GPU hours × price, the budget headings."""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from frugal.costs import arch, prices
from frugal.papers import tables
from frugal.papers.rules import Item, finding, judge, show, significant

# The larger of each table's two sizes of labelled data that annotation starts from (table 3).
STARTING_LABELS = 5000
MODELS = {
    "student-small": "t5-small",
    "student-heading": "t5-base",
    "student-small-repo": "t5-v1_1-small",
    "student-base": "t5-base",
    "student-large": "t5-large",
    "teacher-xxl": "t5-v1_1-xxl",
}


def items() -> Iterator[Item]:
    costs = {r["dataset"]: r for r in tables.records("annotate_table1_costs")}
    price = {task: Decimal(r["usd_per_label"]) for task, r in costs.items()}
    size = {task: int(r["n_train"]) for task, r in costs.items()}
    rate = Decimal(str(prices.get("gpu", "a40").usd))
    yield from totals(costs, price, size)
    yield from table3(price, rate)
    yield from table4(price, size, rate)
    yield from students()


def totals(
    costs: dict[str, tables.Record], price: dict[str, Decimal], size: dict[str, int]
) -> Iterator[Item]:
    """Table 1: #train × $/label; the price is known to half a tenth of a cent."""
    for task, r in costs.items():
        printed, value = r["total_usd"], size[task] * price[task]
        twins = [o for o, other in costs.items() if other["total_usd"] == printed and o != task]
        yield finding(
            f"annotate/table1/{task}",
            f"table 1: {task}, total",
            "labels × price",
            f"${printed}",
            f"${value:.2f}",
            judge(printed, value, slack=size[task] * Decimal("0.0005")),
            why=f"the total implies ${Decimal(printed) / size[task]:.5f} a label"
            + (f", and is also that of {twins[0]}" if twins else ""),
        )


def table3(price: dict[str, Decimal], rate: Decimal) -> Iterator[Item]:
    """What labels and GPU hours really cost, beside the headings that the slides give them."""
    budgets = tables.records("annotate_table3_budgets")
    # The price of the N labels that both strategies begin with.
    for (task, initial), r in {(r["task"], r["n_initial"]): r for r in budgets}.items():
        value = int(initial.removesuffix("K")) * 1000 * price[task]
        yield finding(
            f"annotate/table3/{task}/{initial}/initial",
            f"table 3: {task}, N = {initial}",
            "labels × price",
            f"${r['initial_usd']}",
            f"${value:.2f}",
            judge(r["initial_usd"], value),
        )

    # A budget buys floor(budget / price) additional labels, or is spent in ceil(budget / rate)
    # hours; a heading is right where that gives the printed count.
    headings: dict[str, dict[str, str]] = {}
    for r in budgets:
        task, header, strategy = r["task"], r["header"], r["strategy"]
        budget = Decimal(header.removeprefix("+$"))
        if strategy == "Ann":
            count, each, how = r["n_additional_labels"], price[task], ROUND_FLOOR
            what, rule = "labels", "labels × price"
        else:
            count, each, how = r["gpu_hours"], rate, ROUND_CEILING
            what, rule = "GPU hours", "GPU hours × A40 price"
        if budget and strategy == "Ann":
            headings.setdefault(task, {})[header] = f"+${int(count) * each:.0f}"
        if not budget or r["student_score"] == "N/A":
            continue
        spent, bought = int(count) * each, int((budget / each).to_integral_value(how))
        yield finding(
            f"annotate/table3/{task}/{r['n_initial']}/{strategy}/{header}",
            f"table 3: {task}, N = {r['n_initial']}, {strategy}., column {header}",
            rule,
            header,
            f"${spent:.2f}",
            bought == int(count),
            why=f"{count} {what} cost ${spent:.2f}; the heading would give {bought}",
        )

    # The headings of a task's columns beside what its additional labels cost.
    for task, real in headings.items():
        yield finding(
            f"annotate/table3/{task}/headings",
            f"table 3: {task}, columns",
            "labels × price",
            ", ".join(real),
            ", ".join(real.values()),
            list(real) == list(real.values()),
            why="the slides print one row of headings for three tasks",
        )


def table4(price: dict[str, Decimal], size: dict[str, int], rate: Decimal) -> Iterator[Item]:
    """Annotating all data beyond the labels one starts from, and what distilling costs instead."""
    budgets = tables.records("annotate_table3_budgets")
    equivalents = tables.records("annotate_table4_equivalents")
    for r in equivalents:
        if "Upper Bound" not in r["model"]:
            continue
        task, printed = r["task"], r["budget_usd"]
        rest = size[task] - STARTING_LABELS
        value = rest * price[task]
        step, slack = significant(printed, 2), rest * Decimal("0.0005")
        implied = size[task] - Decimal(printed) / price[task]
        yield finding(
            f"annotate/table4/{task}/upper-bound",
            f"table 4: {task}, annotation, upper bound",
            f"(labels − {STARTING_LABELS}) × price",
            f"${printed}",
            f"${value:.2f}",
            judge(printed, value, slack=slack, step=step),
            why=f"the printed budget implies a start from {implied:,.0f} labels",
        )

    # The distilled students beside table 3's of the same cost from 5K labels.
    for r in equivalents:
        if not r["model"].endswith("(Dist.)"):
            continue
        budget = Decimal(r["budget_usd"])
        same = (
            run
            for run in budgets
            if run["gpu_hours"]
            and (run["task"], run["n_initial"]) == (r["task"], "5K")
            and abs(int(run["gpu_hours"]) * rate / budget - 1) < Decimal("0.01")
        )
        if (run := next(same, None)) is None:
            continue
        score, hours = run["student_score"], run["gpu_hours"]
        yield finding(
            f"annotate/table4/{r['task']}/distilled",
            f"table 4: {r['task']}, distilled for ${budget}",
            "table 3 at the same cost",
            r["score"],
            score,
            score == r["score"],
            why=f"table 3 prints {score} for {hours} GPU hours: another run, or mean",
        )


def students() -> Iterator[Item]:
    """The parameters of the students and of the teacher; half an hour of an A40."""
    claims = tables.claims()
    for id_, name in MODELS.items():
        claim, a = claims[id_], arch.get(name)
        printed = claim["printed"]
        verdict = judge(printed, a.params, step=significant(printed, 2), cuts=True)
        note = ""
        if verdict == "failed":
            rest = a.params - a.vocabulary * a.d_model
            note = f"{a.name} has {a.params / 1e6:.1f}M parameters" + (
                "" if a.tied else f", {rest / 1e6:.1f}M without its own output projection"
            )
        yield finding(
            f"annotate/params/{id_}",
            f"{claim['where']}: {claim['text']}",
            f"parameters of {name}",
            printed,
            str(a.params),
            verdict,
            note,
        )

    claim, usd = claims["student-dollars"], prices.cost("gpu", "a40", 0.5)
    yield finding(
        "annotate/student-dollars",
        f"{claim['where']}: {claim['text']}",
        "hours × price",
        claim["printed"],
        f"${show(usd)}",
        judge(claim["printed"], usd),
    )
