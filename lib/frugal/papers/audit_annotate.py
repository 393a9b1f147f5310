"""Audit of Distill or Annotate: unit price × labels, GPU hours × price, the budget headings."""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from frugal.costs import arch, prices
from frugal.papers import tables
from frugal.papers.rules import Item, judge, show, significant

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
    yield from totals()
    yield from starting_costs()
    yield from budget_headings()
    yield from heading_rows()
    yield from upper_bounds()
    yield from same_runs()
    yield from model_sizes()
    yield from student_dollars()


def _price_per_label() -> dict[str, Decimal]:
    """USD by dataset, as table 1 prints it; table 3 and 4 use the same names."""
    costs = tables.records("annotate_table1_costs")
    return {r["dataset"]: Decimal(r["usd_per_label"]) for r in costs}


def totals() -> Iterator[Item]:
    """Table 1: #train × $/label against the total; the price is known to half a tenth of a cent."""
    costs = tables.records("annotate_table1_costs")
    for r in costs:
        count, price = int(r["n_train"]), Decimal(r["usd_per_label"])
        value = count * price
        verdict = judge(r["total_usd"], value, slack=count * Decimal("0.0005"))
        implied = Decimal(r["total_usd"]) / count
        note = ""
        if verdict != "reproduced":
            twins = [o["dataset"] for o in costs if o["total_usd"] == r["total_usd"] and o is not r]
            note = f"the total implies ${implied:.5f} a label"
            note += f", and is also that of {twins[0]}" if twins else ""
        yield _item(
            f"table1/{r['dataset']}",
            f"table 1: {r['dataset']}, total",
            "labels × price",
            f"${r['total_usd']}",
            f"${value:.2f}",
            verdict,
            note,
        )


def starting_costs() -> Iterator[Item]:
    """Table 3: the price of the N labels that both strategies begin with."""
    price = _price_per_label()
    seen = {(r["task"], r["n_initial"]): r for r in tables.records("annotate_table3_budgets")}
    for (task, initial), r in seen.items():
        value = int(initial.removesuffix("K")) * 1000 * price[task]
        verdict = judge(r["initial_usd"], value)
        where = f"table 3: {task}, N = {initial}"
        yield _item(
            f"table3/{task}/{initial}/initial",
            where,
            "labels × price",
            f"${r['initial_usd']}",
            f"${value:.2f}",
            verdict,
        )


def budget_headings() -> Iterator[Item]:
    """Table 3: what the additional labels, or the GPU hours, of a cell really cost.

    A budget buys floor(budget / price) labels, or is spent in ceil(budget / rate) hours; a heading
    is right where that gives the printed count.
    """
    price = _price_per_label()
    rate = Decimal(str(prices.get("gpu", "a40").usd))
    for r in tables.records("annotate_table3_budgets"):
        budget = Decimal(r["header"].removeprefix("+$"))
        if not budget or r["student_score"] == "N/A":
            continue
        if r["strategy"] == "Ann":
            count, each, rule = int(r["n_additional_labels"]), price[r["task"]], "labels × price"
            bought = (budget / each).to_integral_value(ROUND_FLOOR)
            what = "labels"
        else:
            count, each, rule = int(r["gpu_hours"]), rate, "GPU hours × A40 price"
            bought = (budget / each).to_integral_value(ROUND_CEILING)
            what = "GPU hours"
        spent = count * each
        right = bought == count
        real = f"{count} {what} cost ${spent:.2f}; the heading would give {int(bought)}"
        yield _item(
            f"table3/{r['task']}/{r['n_initial']}/{r['strategy']}/{r['header']}",
            f"table 3: {r['task']}, N = {r['n_initial']}, {r['strategy']}., column {r['header']}",
            rule,
            r["header"],
            f"${spent:.2f}",
            "reproduced" if right else "failed",
            "" if right else real,
        )


def heading_rows() -> Iterator[Item]:
    """Table 3: the headings of a task's columns beside what its additional labels cost."""
    price = _price_per_label()
    columns: dict[str, dict[str, Decimal]] = {}
    for r in tables.records("annotate_table3_budgets"):
        if r["strategy"] == "Ann" and r["header"] != "+$0":
            usd = int(r["n_additional_labels"]) * price[r["task"]]
            columns.setdefault(r["task"], {})[r["header"]] = usd
    for task, spent in columns.items():
        real = [f"+${usd:.0f}" for usd in spent.values()]
        right = sum(a == b for a, b in zip(spent, real, strict=True))
        note = "the slides print one row of headings for three tasks" if right < len(real) else ""
        yield _item(
            f"table3/{task}/headings",
            f"table 3: {task}, columns",
            "labels × price",
            ", ".join(spent),
            ", ".join(real),
            "reproduced" if right == len(real) else "failed",
            note,
        )


def upper_bounds() -> Iterator[Item]:
    """Table 4: the cost of annotating all data beyond the labels one starts from."""
    price = _price_per_label()
    size = {r["dataset"]: int(r["n_train"]) for r in tables.records("annotate_table1_costs")}
    for r in tables.records("annotate_table4_equivalents"):
        if "Upper Bound" not in r["model"]:
            continue
        task, printed = r["task"], r["budget_usd"]
        rest = size[task] - STARTING_LABELS
        value = rest * price[task]
        two_digits = significant(printed, 2)
        verdict = judge(printed, value, slack=rest * Decimal("0.0005"), step=two_digits)
        note = ""
        if verdict != "reproduced":
            implied = size[task] - Decimal(printed) / price[task]
            note = f"the printed budget implies a start from {implied:,.0f} labels"
        yield _item(
            f"table4/{task}/upper-bound",
            f"table 4: {task}, annotation, upper bound",
            f"(labels − {STARTING_LABELS}) × price",
            f"${printed}",
            f"${value:.2f}",
            verdict,
            note,
        )


def same_runs() -> Iterator[Item]:
    """Table 4's distilled students beside table 3's of the same cost from 5K labels."""
    rate = Decimal(str(prices.get("gpu", "a40").usd))
    runs = [r for r in tables.records("annotate_table3_budgets") if r["gpu_hours"]]
    for r in tables.records("annotate_table4_equivalents"):
        if not r["model"].endswith("(Dist.)"):
            continue
        budget = Decimal(r["budget_usd"])
        same = [
            run
            for run in runs
            if (run["task"], run["n_initial"]) == (r["task"], "5K")
            and abs(int(run["gpu_hours"]) * rate / budget - 1) < Decimal("0.01")
        ]
        if not same:
            continue
        score, hours = same[0]["student_score"], same[0]["gpu_hours"]
        agree = score == r["score"]
        yield _item(
            f"table4/{r['task']}/distilled",
            f"table 4: {r['task']}, distilled for ${budget}",
            "table 3 at the same cost",
            r["score"],
            score,
            "reproduced" if agree else "failed",
            "" if agree else f"table 3 prints {score} for {hours} GPU hours: another run, or mean",
        )


def model_sizes() -> Iterator[Item]:
    """The parameters of the students and of the teacher."""
    for id_, name in MODELS.items():
        claim = tables.claims()[id_]
        a = arch.get(name)
        verdict = judge(
            claim["printed"], a.params, step=significant(claim["printed"], 2), cuts=True
        )
        note = ""
        if verdict == "failed":
            rest = a.params - a.vocabulary * a.d_model
            note = f"{a.name} has {a.params / 1e6:.1f}M parameters" + (
                "" if a.tied else f", {rest / 1e6:.1f}M without its own output projection"
            )
        yield _item(
            f"params/{id_}",
            f"{claim['where']}: {claim['text']}",
            f"parameters of {name}",
            claim["printed"],
            str(a.params),
            verdict,
            note,
        )


def student_dollars() -> Iterator[Item]:
    """Half an hour of an A40."""
    claim = tables.claims()["student-dollars"]
    value = prices.cost("gpu", "a40", 0.5)
    yield _item(
        "student-dollars",
        f"{claim['where']}: {claim['text']}",
        "hours × price",
        claim["printed"],
        f"${show(value)}",
        judge(claim["printed"], value),
    )


def _item(
    id_: str, where: str, rule: str, printed: str, recomputed: str, verdict: str, note: str = ""
) -> Item:
    return Item(f"annotate/{id_}", "annotate", where, rule, printed, recomputed, verdict, note)  # type: ignore[arg-type]
