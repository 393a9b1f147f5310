"""Chapter 4 in words, about designs and the paper's tables: titles, takeaways, closing rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from frugal import stats
from frugal.stats import Difference
from frugal_course.figures.closing import Claim, compared
from frugal_course.figures.pool import HALVES, PAPERS
from frugal_course.figures.words_search import climb, judged, place_verdict
from frugal_course.names import name

SUPER = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def large(count: float) -> str:
    """A count for people: three digits of millions, and a power of ten above."""
    if count < 1e9:
        return f"{float(f'{count:.3g}') if count >= 1e5 else count:,.0f}"
    digits, power = f"{count:.1e}".split("e+")
    return f"{digits} · 10{power.lstrip('0').translate(SUPER)}"


def patterns_title(members: Mapping[str, Sequence[object]]) -> str:
    """How many groupings a name stands for."""
    spindles, every = len(members["spindle"]), sum(map(len, members.values()))
    return (
        f"A spindle is a family of {spindles}, not one design, among {every} ways to group 24 "
        "layers"
    )


def patterns_sentence(members: Mapping[str, Sequence[object]], example: Sequence[int]) -> str:
    """What `patterns` shows: how many members each has, and whose one the paper's example is."""
    counts = ", ".join(f"{len(every)} {pattern}" for pattern, every in members.items())
    word = "is" if example in members["spindle"] else "is not"
    shape = "-".join(map(str, example))
    return (
        f"A pattern is a family, not a choice: {counts}. The paper's example {shape} {word} one of "
        f"the spindles."
    )


def funnel_sentence(largest: float, trained: int, kept: int, small: int) -> str:
    """How small a part of the spaces a search sees.

    largest: designs of S0; trained: of each candidate, in the paper; kept: of S4, on 24 layers;
    small: on six
    """
    return (
        f"The paper trains {trained} designs of each candidate, of {large(largest)} in S0. What it "
        f"settles leaves {kept} in S4, the spindles; on six layers {small}. The search below "
        "decides by "
        "itself."
    )


def stars_title(tests: pd.DataFrame, critical: float) -> str:
    """How many of the paper's stars survive a test under an assumption.

    tests: columns model, dataset, t, mark
    """
    kept, stars = int((tests["t"] > critical).sum()), int((tests["mark"] != "").sum())
    return f"{kept} of {stars} stars survive a t-test, if the rival's runs vary as S4's do"


def stars_sentence(tests: pd.DataFrame, critical: float) -> str:
    """By model; and which starred cells are not even above the best single method."""
    holds = tests.assign(holds=tests["t"] > critical).groupby("model", sort=False)["holds"].sum()
    below = tests[(tests["t"] <= 0) & (tests["mark"] != "")]
    return (
        "Of 8 datasets each: "
        + ", ".join(f"{name(model)} {count}" for model, count in holds.items())
        + f". {len(below)} starred cells are no gain at all ("
        + ", ".join(f"{name(row.model)} {row.dataset}" for row in below.itertuples())
        + "). A paired test could decide otherwise."
    )


def cola_title(gains: pd.DataFrame) -> str:
    """In how many models one task carries the whole lead over full fine-tuning.

    gains: columns model, dataset, gain (points)
    """
    whole, rest = cola_means(gains)
    turned = [str(model) for model in whole.index if whole[model] > 0 >= rest[model]]
    parts = ", ".join(f"{name(m)}: {whole[m]:+.1f} with it, {rest[m]:+.1f} without" for m in turned)
    return (
        f"CoLA alone carries S4's lead over full fine-tuning in {len(turned)} of {len(whole)} "
        "models" + (f" ({parts})" if parts else "")
    )


def cola_means(gains: pd.DataFrame) -> "tuple[pd.Series[float], pd.Series[float]]":
    """The mean gain of each model over all tasks, and over all but CoLA."""
    whole = gains.groupby("model", sort=False)["gain"].mean()
    rest = gains[gains["dataset"] != "CoLA"].groupby("model", sort=False)["gain"].mean()
    return whole, rest


def cola_sentence(gains: pd.DataFrame) -> str:
    """Each model's mean gain with CoLA, and without."""
    whole, rest = cola_means(gains)
    return (
        "S4 over full fine-tuning, in points, all tasks and all but CoLA: "
        + "; ".join(f"{name(str(m))} {whole[m]:+.2f}, {rest[m]:+.2f}" for m in whole.index)
        + "."
    )


def budgets_sentence(solved: Mapping[str, Any]) -> str:
    """How near designs that `spaces.sizes.solve` gave come to their budgets, by model."""
    return (
        "Sizes are whole numbers, and still meet the budget: "
        + "; ".join(
            f"{name(model)} {found.params:,} of {found.budget:,} parameters "
            f"({found.params / found.budget - 1:+.2%})"
            for model, found in solved.items()
        )
        + "."
    )


def sizes_by_layer(parts: pd.DataFrame, methods: Mapping[str, str]) -> pd.DataFrame:
    """What a design trains in each layer, a column a group.

    parts: as `spaces.sizes.parts` gives them; methods: the names of the letters
    """
    called = parts["method"].map(lambda letter: name(methods[letter]) if letter else "")
    what = called + parts["size"].map(lambda size: f" {size}" if size else "")
    by = parts.assign(what=what).groupby(["group", "layer"])["what"].agg(", ".join)
    table = by.unstack("group", fill_value="")
    return table.rename(columns=lambda group: f"G{group}").rename_axis(None, axis="columns")


def counted_sentence(counted: Sequence[tuple[int, int]], drawn: Sequence[Any], model: str) -> str:
    """Whether attached designs train what they declare, and how far they are from the budget.

    counted: declared and trained parameters of each; drawn: of them, those with one budget
    """
    equal = sum(declared == trained for declared, trained in counted)
    off = max(abs(found.params / found.budget - 1) for found in drawn)
    return (
        f"{equal} of {len(counted)} designs train on {name(model)} exactly what they declare, and "
        f"{'that' if equal == len(counted) else 'what they declare'} is within {off:.1%} of the "
        "budget."
    )


def designs_title(looks: Sequence[tuple[str, Any]]) -> str:
    """What designs of several stages have in common: what they train."""
    sizes = [found.params for _, found in looks]
    return (
        f"A stage fixes the shape, not the size: draws from S0 to S4 all train {min(sizes):,} to "
        f"{max(sizes):,} parameters"
    )


def averages_sentence(items: pd.DataFrame) -> str:
    """How many printed averages are those of their rows, and how close the winners were.

    items: `papers.audit.frame` of the design spaces
    """
    averages = items[items["rule"] == "mean_of_row"]
    counts = averages["verdict"].value_counts()
    leads = items[items["id"].str.endswith("winner")]
    ahead = leads.loc[leads["id"].str.contains("strategy"), "recomputed"]
    ahead = ahead.str.partition(" by ")[2].astype(float)
    changed = int((leads["verdict"] == "failed").sum())
    return (
        f"{counts.get('failed', 0)} of {len(averages)} averages are not those of their rows "
        f"({counts.get('rounded', 0)} are with rounding), and {changed or 'no'} winner changes. "
        "Among "
        f"twelve sets of methods the winner leads by {ahead.min():g} to {ahead.max():g} points."
    )


def rivals_sentence(draws: int, single: str, over_single: Difference, over_full: Difference) -> str:
    """S4 beside the best single method and full fine-tuning."""
    return (
        f"Measured here over {draws} draws. "
        f"{over_single.of('S4', f'{name(single)}, the best single method')}; "
        f"{over_full.of('S4', 'full fine-tuning')}."
    )


def spaces_claims(
    summary: pd.DataFrame, found: pd.DataFrame, path: pd.DataFrame, depths: pd.DataFrame
) -> list[Claim]:
    """Chapter 4's claims about the search, by the recorded one.

    summary, found, path, depths: `spaces.record.summary`, `spaces.pool.side_by_side`,
        `spaces.pool.against_random` and `spaces.pool.by_depth`
    """
    rows = []
    what = {"S1": "grouping (Table 1)", "S2": "allocation (Table 2)", "S3": "groups (Table 3)"}
    printed = found[found["theirs"]].set_index("stage")
    for row in summary[summary["stage"].isin(list(what))].to_dict("records"):
        best = printed.loc[row["stage"]]
        claim = f"Best {what[row['stage']]}: {best['candidate']}"
        tested = f"{row['runs']} designs of each of {row['candidates']} candidates"
        own = row["over_papers"]
        if own is None:
            result, interval = f"{row['winner']} leads", ""
            verdict = "confirmed" if row["winner"] == row["papers"] else "open"
        else:
            away = stats.in_points(-own.difference, -(own.high or 0), -(own.low or 0))
            size, _, ends = away.partition(" [")
            result, interval = f"{size} to {row['winner']}, the best here", f"[{ends}"
            verdict = judged(own.low, own.high, -1)
        rows.append(Claim(claim, f"{best['printed']:.1f}", result, tested, interval, verdict))
    methods = summary[summary["stage"].str.startswith("S4")]
    theirs = " – ".join(str(printed["candidate"][f"S4-G{n}"]) for n in range(1, 5))
    ours = " – ".join(str(row.winner) for row in methods.itertuples())
    same = int((methods["winner"] == methods["papers"]).sum())
    clear = sum(lead.clear for lead in methods["over_second"])
    if len(methods):
        rows.append(
            Claim(
                "The methods of the groups",
                theirs,
                f"{ours}: {same} the same, {clear} of {len(methods)} clear of the runner-up",
                f"12 sets a group, {methods['runs'].min()} designs of each",
                "",
                "open" if not clear else "contradicted" if not same else "qualified",
            )
        )
    end, climbs = path.iloc[-1], climb(found)
    ends = f"[{end['low']:+.1f}, {end['high']:+.1f}]"
    rows.append(
        Claim(
            "Averages climb from S0 to S4",
            f"{climbs[0]:+.1f} points",
            f"{end['greedy']:+.1f} points",
            "chosen on half of the tasks, scored on the rest",
            ends,
            judged(end["low"], end["high"]),
        )
    )
    rows.append(
        Claim(
            "The greedy path is worth its price",
            "implied",
            f"{end['greedy']:+.1f} against {end['estimate']:+.1f} points",
            f"a random search of the same FLOPs ({end['designs']:,} designs)",
            ends,
            judged(end["low"] - end["estimate"], end["high"] - end["estimate"]),
        )
    )
    for row in depths[depths["method"].isin(["A", "B"])].itertuples():
        method = {"A": "Adapters", "B": "BitFit"}[str(row.method)]
        rows.append(
            Claim(
                f"{method} belong{'s' * (method == 'BitFit')} {HALVES[PAPERS[str(row.method)]]}",
                "stated",
                f"{row.points:+.1f} points",
                "all trainings: near the output less near the input",
                f"[{row.low:+.1f}, {row.high:+.1f}]",
                place_verdict(row),
            )
        )
    return rows


def rivals_claims(
    printed: "pd.Series[float]",
    singles: Sequence[str],
    over_single: stats.Difference,
    over_full: stats.Difference,
    draws: int,
) -> list[Claim]:
    """Chapter 4's claims about S4 and its rivals, measured live.

    printed: averages of Table 4 for T5-base, by row; singles: rows of single methods
    """
    own = printed[[row for row in printed.index if row.startswith("S_4")]].iloc[0]
    best = printed[[row for row in printed.index if row in singles]].max()
    tested = f"live, {draws} draws of the labels"
    return [
        compared(
            "S4 beats each single method (Table 4)", f"{own} against {best}", tested, over_single
        ),
        compared(
            "S4 beats full fine-tuning (Table 4)",
            f"{own} against {printed['full']}",
            tested,
            over_full,
        ),
    ]


def table_claims(tests: pd.DataFrame, critical: float, gains: pd.DataFrame) -> list[Claim]:
    """Chapter 4's claims about the paper's own tables.

    tests, critical: as `stars_title` takes them; gains: as `cola_title` does
    """
    kept, below = int((tests["t"] > critical).sum()), tests[tests["mark"] != ""]
    stars = len(below)
    whole, rest = cola_means(gains)
    model = whole.index[0]
    return [
        Claim(
            f"S4 beats full fine-tuning on average (Table 4, {name(str(model))})",
            f"{whole.iloc[0]:+.1f} points",
            f"{rest.iloc[0]:+.1f} points",
            "the same table without CoLA",
            "",
            "confirmed" if rest.iloc[0] > 0 else "qualified",
        ),
        Claim(
            "S4 is significantly better",
            "all 8 datasets",
            f"{kept} of {stars} stars hold",
            "Student's t, both sides with S4's deviation",
            "",
            "confirmed"
            if kept == stars
            else "contradicted"
            if (below["t"] <= 0).any()
            else "qualified",
        ),
    ]
