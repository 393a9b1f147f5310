"""Audit of the Design Spaces paper, cell by cell: what was copied, misread or left out."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import combinations

from frugal.costs import arch
from frugal.papers import tables
from frugal.papers.rules import Item, judge, mean_of_row, number, show


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


def repeated_in_row() -> Iterator[Item]:
    """Rows that hold one number for three tasks or more."""
    found = []
    for (_, row), cells in tables.scores("spaces_table3_groups").items():
        printed, times = Counter(c["printed"] for c in cells.values()).most_common(1)[0]
        if times > 2:
            names = [k for k, c in cells.items() if c["printed"] == printed]
            found.append(f"{row}: {', '.join(names)} are all {printed}")
    yield Item(
        id="spaces_table3_groups/rows/repeated",
        paper="spaces",
        where="table 3: one number for three tasks",
        rule="repeated_cells",
        printed=f"{len(tables.scores('spaces_table3_groups'))} rows",
        recomputed=f"{len(found)} such rows",
        verdict="failed" if found else "reproduced",
        note="; ".join(found),
    )


def assignments() -> Iterator[Item]:
    """Which of the non-empty subsets of four strategies S4 tried for a group."""
    tried = {frozenset(record["methods"]) for record in tables.records("spaces_strategy_g1")}
    every = [frozenset(c) for n in range(1, 5) for c in combinations("APBL", n)]
    missing = [f"({', '.join(s for s in 'APBL' if s in c)})" for c in every if c not in tried]
    yield Item(
        id="spaces/assignments",
        paper="spaces",
        where="strategy assignment: candidates of a group",
        rule="2⁴ − 1",
        printed=f"{len(tried)} rows",
        recomputed=f"{len(every)} subsets",
        verdict="failed" if missing else "reproduced",
        note=f"never tried: {', '.join(missing)}",
    )


def layers() -> Iterator[Item]:
    """Whose layers S1 groups."""
    claim, t0, t5 = tables.claims()["layers-deck"], arch.get("t0-11b"), arch.get("t5-base")
    count = t0.layers + t0.decoder_layers
    yield Item(
        id="spaces/layers-deck",
        paper="spaces",
        where=f"{claim['where']}: {claim['text']}",
        rule="encoder + decoder layers",
        printed=claim["printed"],
        recomputed=str(count),
        verdict=judge(claim["printed"], count),
        note=f"T5-base is meant: {t5.layers} + {t5.decoder_layers} layers",
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
