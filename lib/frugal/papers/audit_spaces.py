"""Audit of the Design Spaces paper: 94 averages, the bold cells, the stars of significance."""

from collections.abc import Iterator
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from frugal.papers import audit_spaces_cells, tables
from frugal.papers.rules import (
    Item,
    cut,
    finding,
    judge,
    mean_of_row,
    mean_slack,
    number,
    rounds,
    show,
)
from frugal.papers.rules import two_sample_t as t_statistic

RESULTS = ("spaces_table4_t5", "spaces_table5_roberta")
TABLES = [
    "spaces_table1_grouping",
    "spaces_table2_allocation",
    "spaces_table3_groups",
    *(f"spaces_strategy_g{g}" for g in (1, 2, 3, 4)),
    *RESULTS,
]
RUNS = 20  # captions of tables 4 and 5
# Two-sided 5 % point of Student's t with 2 × 20 − 2 = 38 degrees of freedom.
CRITICAL_T = 2.024
PEFT = ("Adapter", "Prefix", "BitFit", "LoRA")


def items() -> Iterator[Item]:
    for name in TABLES:
        yield from averages(name)
        yield from bold_is_best(name)
        yield from winners(name)
    yield from rounding_of_averages()
    yield from significance()
    yield from gains_over_full()
    yield from audit_spaces_cells.items()


def averages(name: str) -> Iterator[Item]:
    """Each printed average against the mean of the row's cells."""
    for (group, row), cells in tables.scores(name).items():
        if "average" not in cells:
            continue
        texts = [c["printed"] for k, c in cells.items() if k not in ("average", "params")]
        printed = cells["average"]["printed"]
        value = mean_of_row([number(t) for t in texts])
        verdict = judge(printed, value, slack=mean_slack(texts))
        note = ""
        if verdict == "rounded":
            how = (
                "cut off instead of rounded"
                if cut(value, Decimal("0.1")) == number(printed)
                else "within the rounding of its cells"
            )
            note = f"{value:.4f} is {how}"
        elif verdict == "failed":
            note = f"the row's mean is {value:.2f}; rounding cannot explain the difference"
        yield finding(
            f"{name}/{'/'.join(filter(None, (group, row)))}/average",
            f"{tables.place(cells['average'])}: {row}, average",
            "mean_of_row",
            printed,
            f"{value:.4f}",
            verdict,
            note,
        )


def rounding_of_averages() -> Iterator[Item]:
    """How the averages were shortened to one digit."""
    step, found = Decimal("0.1"), [item for name in TABLES for item in averages(name)]
    values = [(number(item.printed), Decimal(item.recomputed)) for item in found]
    rounded = [rounds(v, step) == p for p, v in values]
    only_cut = [not r and cut(v, step) == p for r, (p, v) in zip(rounded, values, strict=True)]
    rest = len(values) - sum(rounded) - sum(only_cut)
    yield finding(
        "spaces/averages",
        "tables 1 to 5 and the strategy assignments: averages",
        "rounded, or cut off",
        f"{len(values)} averages",
        f"{sum(rounded)} rounded, {sum(only_cut)} only cut off, {rest} neither",
        "failed" if rest else "rounded" if any(only_cut) else "reproduced",
        "digits were mostly cut off, and some averages are not those of their rows",
    )


def winners(name: str) -> Iterator[Item]:
    """Whether the best average is still the best one recomputed, and by how much."""
    groups: dict[str, dict[str, tuple[Decimal, Decimal]]] = {}
    for (group, row), cells in tables.scores(name).items():
        own = mean_of_row([number(c["printed"]) for k, c in cells.items() if k != "average"])
        groups.setdefault(group, {})[row] = (number(cells["average"]["printed"]), own)
    for group, rows in groups.items():
        (first, gap), (best, true_gap) = (
            (max(rows, key=lambda r: rows[r][i]), _lead([pair[i] for pair in rows.values()]))
            for i in (0, 1)
        )
        moved = rounds(true_gap, Decimal("0.1")) != gap
        yield finding(
            "/".join(filter(None, (name, group, "winner"))),
            f"{tables.place(tables.records(name)[0])}: best average {group}".rstrip(),
            "highest mean_of_row",
            f"{first} by {gap}",
            f"{best} by {show(true_gap)}",
            "failed" if first != best else "rounded" if moved else "reproduced",
            "the winner stays, its lead does not" if first == best and moved else "",
        )


def _lead(values: list[Decimal]) -> Decimal:
    """The highest less the second highest."""
    second, first = sorted(values)[-2:]
    return first - second


def bold_is_best(name: str) -> Iterator[Item]:
    """Whether the bold cells of a table's columns are the highest, full fine-tuning included."""
    by_group: dict[str, list[tables.Record]] = {}
    for record in tables.records(name):
        by_group.setdefault(record["group"], []).append(record)
    for group, records in by_group.items():
        columns = list(dict.fromkeys(r["column"] for r in records))
        wrong, marked = [], 0
        for column in columns:
            cells = [r for r in records if r["column"] == column]
            bold = [number(r["printed"]) for r in cells if r["bold"]]
            best = max(cells, key=lambda r: number(r["printed"]))
            if bold:
                marked += 1
                if min(bold) < number(best["printed"]):
                    wrong.append(f"{column}: bold {min(bold)}, {best['row']} {best['printed']}")
        if marked:
            yield finding(
                "/".join(filter(None, (name, group, "bold"))),
                f"{tables.place(records[0])}: bold cells {group}".rstrip(),
                "bold_is_best",
                f"{marked} columns",
                f"{marked - len(wrong)} columns",
                not wrong,
                "; ".join(wrong),
            )


class Comparison(NamedTuple):
    """S4 on one dataset against the best other PEFT method there.

    t: Student's, of two samples of RUNS runs that both have the printed standard deviation
    """

    table: str
    model: str
    row: str
    dataset: str
    printed: str
    spread: str
    mark: str
    rival: str
    rival_printed: str
    t: float

    @property
    def holds(self) -> bool:
        return self.t > CRITICAL_T


def comparisons() -> Iterator[Comparison]:
    """Every cell of tables 4 and 5 that prints a standard deviation, tested.

    Only the S4 rows print one, which is taken for both sides; the paper does not say which test
    it ran, and if its runs were paired, a paired test could decide otherwise.
    """
    for name in RESULTS:
        scores = tables.scores(name)
        for (model, row), cells in scores.items():
            for dataset, cell in cells.items():
                if not cell["spread"]:
                    continue
                rivals = {m: scores[model, m][dataset]["printed"] for m in PEFT}
                rival = max(rivals, key=lambda m: number(rivals[m]))
                own, other = number(cell["printed"]), number(rivals[rival])
                t = t_statistic(float(own), float(other), float(cell["spread"]), RUNS)
                yield Comparison(
                    name, model, row, dataset, cell["printed"], cell["spread"], cell["mark"],
                    rival, rivals[rival], t
                )  # fmt: skip


def significance() -> Iterator[Item]:
    """Whether the stars of S4's rows survive a two-sample t-test."""
    claim = tables.claims()["significance"]
    for (name, model, _), found in groupby(comparisons(), attrgetter("table", "model", "row")):
        survived = []
        for test in found:
            survived += [test.dataset] if test.holds else []
            agrees = test.holds == bool(test.mark)
            yield finding(
                f"{name}/{model}/{test.dataset}/significance",
                f"{tables.place(tables.records(name)[0])}: {model}, {test.dataset}",
                "two_sample_t",
                f"{test.printed} {test.mark or '(no star)'}",
                f"t = {test.t:.2f} against {test.rival} {test.rival_printed}",
                agrees,
                why=f"|t| must exceed {CRITICAL_T} for p < 0.05 with {RUNS} runs each",
            )
        yield finding(
            f"{name}/{model}/significance",
            f"{claim['where']}: {model}",
            "two_sample_t",
            f"{claim['printed']} of 8 datasets",
            f"{len(survived)} of 8 datasets",
            len(survived) == 8,
            f"survives a t-test: {', '.join(survived) or 'none'}",
        )


def gains() -> dict[tuple[str, str], dict[str, Decimal]]:
    """S4 less full fine-tuning, in points, by table and model, then by column, average included."""
    found = {}
    for name in RESULTS:
        scores = tables.scores(name)
        for model, own in scores:
            if own.startswith("S_4"):
                ours, full = scores[model, own], scores[model, "full"]
                found[name, model] = {
                    k: number(c["printed"]) - number(full[k]["printed"]) for k, c in ours.items()
                }
    return found


def gains_over_full() -> Iterator[Item]:
    """S4's average less that of full fine-tuning, and what CoLA alone adds to it."""
    for (name, model), found in gains().items():
        tasks = {k: gain for k, gain in found.items() if k != "average"}
        printed, value = found["average"], mean_of_row(list(tasks.values()))
        others = mean_of_row([gain for k, gain in tasks.items() if k != "CoLA"])
        yield finding(
            f"{name}/{model}/gain",
            f"{tables.place(tables.records(name)[0])}: {model}, S4 less full fine-tuning",
            "mean of the differences",
            f"{printed:+}",
            f"{value:+.4f}",
            judge(str(printed), value, slack=Decimal("0.1")),
            f"CoLA alone adds {tasks['CoLA'] / len(tasks):+.2f}; "
            f"on the other {len(tasks) - 1} tasks S4 is at {others:+.2f}",
        )
