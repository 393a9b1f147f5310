"""Chapter 5's closing table: each claim by the printed tables and by the recorded runs."""

from collections.abc import Mapping, Sequence

import pandas as pd

from frugal import stats
from frugal_course.figures.closing import Claim, compared
from frugal_course.figures.words_purchases import ratios


def budgets_claims(
    recorded: Mapping[str, pd.DataFrame],
    apart: Mapping[int, stats.Difference],
    shrinks: stats.Difference,
    taught: stats.Difference,
    value: Mapping[int, float | None],
    live: Mapping[str, float],
    tables: Mapping[str, str],
) -> list[Claim]:
    """Chapter 5's claims, by the recorded runs of a student.

    recorded: `compare.gaps` by "distill" (less labels), "people" and "students" (an LLM's labels
        less either), and "tfew" (distilled less labels, taught by T-Few)
    apart:    what the smaller student gains less what the larger does, by N
    shrinks:  what the student gains at the fewest labels, less at the most
    taught:   few labels and a T-Few teacher, less many labels
    value:    `compare.worth`
    live:     here: examples a label costs ("examples"), teacher's share of a distillation ("share")
    tables:   what is printed: "label", "cells", "headings", "equal", "share", "leads"
    """
    gaps, most = recorded["distill"], max(value)
    where = f"recorded, mean of N = {', '.join(f'{n:,}' for n in gaps['labels'])}"
    few = recorded["people"].iloc[0]
    alone = "; ".join(
        f"{f'> {most:,}' if count is None else f'{count:,.0f}'} ({n:,})"
        for n, count in value.items()
    )
    better = all(count is None or count > n for n, count in value.items())
    tfew = recorded["tfew"]
    points = [100 * gap.difference for gap in tfew["gap"]]
    drawn = min(gap.draws for gap in tfew["gap"])
    return [
        Claim(
            "A label costs as much as many distilled examples (Tables 1, 3)",
            tables["label"],
            f"{live['examples']:,.0f} examples",
            "live: this machine's seconds, at an A40's price",
            "",
            "confirmed" if live["examples"] > 1 else "contradicted",
        ),
        compared(
            "Distillation beats more labels (Table 3)",
            tables["cells"],
            where,
            stats.average(list(gaps["gap"])),
        ),
        Claim(
            "… also when a language model teaches, tuned by T-Few",
            "T5-XXL teaches",
            f"{min(points):+.0f} to {max(points):+.0f} points ({drawn} draws)",
            f"recorded, N = {tfew['labels'].iloc[0]:,}, {len(tfew)} students",
            "",
            "open" if drawn < stats.FEWEST else "confirmed" if min(points) > 0 else "open",
        ),
        Claim(
            "Budget headings of Table 3 (the slides)",
            "one row for all tasks",
            tables["headings"],
            "labels and hours below them, at their price",
            "",
            "contradicted",
        ),
        Claim(
            "Labels alone that are as good cost more (Table 4)",
            tables["equal"],
            alone,
            "recorded: labels needed, by N",
            "",
            "confirmed" if better else "contradicted",
        ),
        Claim(
            "The teacher's training eats small budgets (Table 3)",
            tables["share"],
            f"{live['share']:.0%}",
            "live: seconds of a distillation",
            "",
            "confirmed",
        ),
        compared(
            "The lead shrinks with N (Figure 3, by Table 3)",
            tables["leads"],
            f"recorded: gain at N = {min(value):,} less gain at {most:,}",
            shrinks,
        ),
        compared(
            "Small students gain most (Figure 4)",
            "stated",
            f"{where}: one layer less two",
            stats.average(list(apart.values())),
        ),
        compared(
            "An LLM's labels beat people's, per dollar (Figure 6)",
            "stated",
            f"recorded: {tables['llm']} against {few['labels']:,} human labels",
            few["gap"],
        ),
        compared(
            "… and stay below distillation (Figure 6)",
            "stated",
            where,
            stats.average(list(recorded["students"]["gap"])),
            above=False,
        ),
        compared(
            f"{min(value):,} labels and a T-Few teacher match {most:,} labels",
            "not asked",
            "recorded, two layers",
            taught,
        ),
    ]


def printed(
    each: pd.DataFrame,
    scores: pd.DataFrame,
    headings: pd.DataFrame,
    equal: pd.DataFrame,
    shares: Sequence[float],
    by_n: pd.DataFrame,
    asked: pd.DataFrame,
) -> dict[str, str]:
    """What the paper prints for each claim, as `budgets_claims` takes it.

    each, scores, equal: as `words_purchases` takes them; headings: their audit; shares: of the
    teacher's training; by_n: mean leads, index N, a column a task; asked: runs of an LLM's labels
    """
    dearer, right = each.iloc[:, 2], int((headings["verdict"] == "reproduced").sum())
    times, never = ratios(equal)
    return {
        "label": f"{dearer.min():.0f} to {dearer.max():.0f}",
        "cells": f"{(scores['lead'] > 0).sum()} of {len(scores)} cells",
        "headings": f"right for {right} of {len(headings)} tasks",
        "equal": f"{times.min():.1f} to {times.max():.1f} times; on {len(never)} tasks never",
        "share": f"{min(shares):.0%} to {max(shares):.0%} of the smallest",
        "leads": ", ".join(f"{lead:+.1f} ({n:,})" for n, lead in by_n.mean(axis=1).items()),
        "llm": f"{asked['trained_on'].max():,} LLM labels for ${asked['usd_labels'].max():.2f}",
    }
