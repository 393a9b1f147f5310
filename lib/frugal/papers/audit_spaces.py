"""Audit of the Design Spaces paper: 94 averages, the bold cells, the stars of significance."""

from collections.abc import Iterator
from decimal import Decimal

from frugal.papers import tables
from frugal.papers.rules import Item, cut, judge, mean_of_row, mean_slack, number, show
from frugal.papers.rules import two_sample_t as t_statistic

TABLES = [
    "spaces_table1_grouping",
    "spaces_table2_allocation",
    "spaces_table3_groups",
    *(f"spaces_strategy_g{g}" for g in (1, 2, 3, 4)),
    "spaces_table4_t5",
    "spaces_table5_roberta",
]
RUNS = 20  # captions of tables 4 and 5
# Two-sided 5 % point of Student's t with 2 × 20 − 2 = 38 degrees of freedom.
CRITICAL_T = 2.024
PEFT = ("Adapter", "Prefix", "BitFit", "LoRA")


def items() -> Iterator[Item]:
    for name in TABLES:
        yield from averages(name)
        yield from bold_is_best(name)
    yield from significance()
    yield from repeated_columns()
    yield from outlier()


def averages(name: str, paper: str = "spaces") -> Iterator[Item]:
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
        yield Item(
            id=f"{name}/{'/'.join(filter(None, (group, row)))}/average",
            paper=paper,
            where=f"{cells['average']['source']}: {row}, average",
            rule="mean_of_row",
            printed=printed,
            recomputed=f"{value:.4f}",
            verdict=verdict,
            note=note,
        )


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
            yield Item(
                id="/".join(filter(None, (name, group, "bold"))),
                paper="spaces",
                where=f"{records[0]['source']}: bold cells {group}".rstrip(),
                rule="bold_is_best",
                printed=f"{marked} columns",
                recomputed=f"{marked - len(wrong)} columns",
                verdict="failed" if wrong else "reproduced",
                note="; ".join(wrong),
            )


def significance() -> Iterator[Item]:
    """The S4 row against the best other PEFT method: a two-sample t-test with the printed std.

    Only the S4 rows print a standard deviation, which is taken for both sides; the paper does not
    say which test it ran, and if its runs were paired, a paired test could decide otherwise.
    """
    claim = tables.claims()["significance"]
    for name in ("spaces_table4_t5", "spaces_table5_roberta"):
        scores = tables.scores(name)
        for (group, _), cells in scores.items():
            tested = {c: r for c, r in cells.items() if r["spread"]}
            survived = []
            for column, cell in tested.items():
                rivals = {m: number(scores[group, m][column]["printed"]) for m in PEFT}
                rival = max(rivals, key=lambda m: rivals[m])
                own = number(cell["printed"])
                t = t_statistic(float(own), float(rivals[rival]), float(cell["spread"]), RUNS)
                holds = t > CRITICAL_T
                survived += [column] if holds else []
                yield Item(
                    id=f"{name}/{group}/{column}/significance",
                    paper="spaces",
                    where=f"{cell['source']}: {group}, {column}",
                    rule="two_sample_t",
                    printed=f"{own} {cell['mark'] or '(no star)'}",
                    recomputed=f"t = {t:.2f} against {rival} {rivals[rival]}",
                    verdict="reproduced" if holds == bool(cell["mark"]) else "failed",
                    note=""
                    if holds == bool(cell["mark"])
                    else f"|t| must exceed {CRITICAL_T} for p < 0.05 with {RUNS} runs each",
                )
            if tested:
                yield Item(
                    id=f"{name}/{group}/significance",
                    paper="spaces",
                    where=f"{claim['where']}: {group}",
                    rule="two_sample_t",
                    printed=f"{claim['printed']} of 8 datasets",
                    recomputed=f"{len(survived)} of 8 datasets",
                    verdict="reproduced" if len(survived) == 8 else "failed",
                    note=f"survives a t-test: {', '.join(survived) or 'none'}",
                )


def repeated_columns() -> Iterator[Item]:
    """Columns of different tasks that hold the same numbers, or differ by a constant."""
    name = "spaces_table3_groups"
    rows = tables.scores(name)
    for first, second, gap in (("QNLI", "MRPC", "0"), ("MRPC", "CoLA", "50.0")):
        same = [
            row
            for (_, row), cells in rows.items()
            if number(cells[second]["printed"]) + Decimal(gap) == number(cells[first]["printed"])
        ]
        yield Item(
            id=f"{name}/{first}-{second}/repeated",
            paper="spaces",
            where=f"table 3: {first} and {second}",
            rule="repeated_columns",
            printed=f"{len(rows)} rows of two different tasks",
            recomputed=f"differ by exactly {gap} in {len(same)} rows",
            verdict="failed" if len(same) > 2 else "reproduced",
            note="two tasks would hardly agree so often: a slip of copying is likely",
        )


def outlier() -> Iterator[Item]:
    """A cell far above all others of its column, and the average without the likely slip."""
    name, group, row, column = "spaces_table5_roberta", "RoBERTa-base", "S_0-model", "MNLI"
    scores = tables.scores(name)
    cells = scores[group, row]
    others = [
        number(c[column]["printed"]) for (g, r), c in scores.items() if g == group and r != row
    ]
    own, best = number(cells[column]["printed"]), max(others)
    spread = best - min(others)
    values = {k: number(c["printed"]) for k, c in cells.items() if k != "average"}
    mended = mean_of_row(list((values | {column: own - 10}).values()))
    yield Item(
        id=f"{name}/{group}/{row}/{column}/outlier",
        paper="spaces",
        where=f"table 5: {group}, {row}, {column}",
        rule="outlier",
        printed=str(own),
        recomputed=f"others {min(others)} to {best}",
        verdict="failed" if own > best + spread else "reproduced",
        note=f"probably {own - 10}: the row's average would then be {show(mended)}",
    )
