"""Audit of the Design Spaces paper, cell by cell: what was copied, misread or left out."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import combinations

from frugal.costs import arch
from frugal.papers import tables
from frugal.papers.rules import Item, finding, judge, mean_of_row, number, show


def items() -> Iterator[Item]:
    yield from repeated_columns()
    yield from repeated_in_row()
    yield from outlier()
    yield from assignments()
    yield from layers()


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
        yield finding(
            f"{name}/{first}-{second}/repeated",
            f"table 3: {first} and {second}",
            "repeated_columns",
            f"{len(rows)} rows of two different tasks",
            f"differ by exactly {gap} in {len(same)} rows",
            len(same) <= 2,
            "two tasks would hardly agree so often: a slip of copying is likely",
        )


def repeated_in_row() -> Iterator[Item]:
    """Rows that hold one number for three tasks or more."""
    found = []
    for (_, row), cells in tables.scores("spaces_table3_groups").items():
        printed, times = Counter(c["printed"] for c in cells.values()).most_common(1)[0]
        if times > 2:
            names = [k for k, c in cells.items() if c["printed"] == printed]
            found.append(f"{row}: {', '.join(names)} are all {printed}")
    yield finding(
        "spaces_table3_groups/rows/repeated",
        "table 3: one number for three tasks",
        "repeated_cells",
        f"{len(tables.scores('spaces_table3_groups'))} rows",
        f"{len(found)} such rows",
        not found,
        "; ".join(found),
    )


def assignments() -> Iterator[Item]:
    """Which of the non-empty subsets of four strategies S4 tried for a group."""
    tried = {frozenset(record["methods"]) for record in tables.records("spaces_strategy_g1")}
    every = [frozenset(c) for n in range(1, 5) for c in combinations("APBL", n)]
    missing = [f"({', '.join(s for s in 'APBL' if s in c)})" for c in every if c not in tried]
    yield finding(
        "spaces/assignments",
        "strategy assignment: candidates of a group",
        "2⁴ − 1",
        f"{len(tried)} rows",
        f"{len(every)} subsets",
        not missing,
        f"never tried: {', '.join(missing)}",
    )


def layers() -> Iterator[Item]:
    """Whose layers S1 groups."""
    claim, t0, t5 = tables.claims()["layers-deck"], arch.get("t0-11b"), arch.get("t5-base")
    count = t0.layers + t0.decoder_layers
    yield finding(
        "spaces/layers-deck",
        f"{claim['where']}: {claim['text']}",
        "encoder + decoder layers",
        claim["printed"],
        str(count),
        judge(claim["printed"], count),
        f"T5-base is meant: {t5.layers} + {t5.decoder_layers} layers",
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
    yield finding(
        f"{name}/{group}/{row}/{column}/outlier",
        f"table 5: {group}, {row}, {column}",
        "outlier",
        str(own),
        f"others {min(others)} to {best}",
        own <= best + spread,
        f"probably {own - 10}: the row's average would then be {show(mended)}",
    )
