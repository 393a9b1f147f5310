"""Chapter 6 in words: titles, takeaways and tables of every way; the finding first."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from frugal import stats
from frugal.costs.prices import usd
from frugal.stats import Difference
from frugal_course.figures.closing import Claim, compared
from frugal_course.figures.style import about, flops
from frugal_course.names import name

THESE = "for these labels"  # the others were not drawn


def price_sentence(price: Any, gpu: Any) -> str:
    """What a label and an hour cost, and how much computing a label would pay for.

    price: `choice.options.Prices`; gpu: its row of prices
    """
    return (
        f"A label costs ${price.usd_per_label:g}, an hour of one {name(gpu.sku)} ${gpu.usd:g} "
        f"({gpu.known_on}). At an assumed {price.mfu:.0%} of its peak, 1e15 FLOPs cost "
        f"{usd(price.compute(1e15))}, as much as {price.compute(1e15) / price.usd_per_label:.2g} "
        "labels."
    )


def tried_table(table: pd.DataFrame) -> pd.DataFrame:
    """What was tried, a row a way: index strategy; model, labels, accuracy, train_flops,
    flops_per_query."""
    return pd.DataFrame(
        {
            "model": table["model"].map(name),
            "labels": table["labels"].astype(str),
            "accuracy": table["accuracy"].map("{:.3f}".format),
            "FLOPs of training": table["train_flops"].map(lambda n: flops(n) if n else "–"),
            "FLOPs of a query": table["flops_per_query"].map(flops),
        }
    ).rename(index=name)


def notes_table(table: pd.DataFrame, left_out: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """How each way was done, or why it was left out. table: index strategy, column note"""
    rows = {name(str(way)): name(note) for way, note in table["note"].items() if note}
    rows |= {name(row["strategy"]): f"left out: {row['why']}" for row in left_out}
    return pd.DataFrame({"way": list(rows), "how": list(rows.values())})


def tried_sentence(table: pd.DataFrame, scored: int, chance: float) -> str:
    """On how many examples, against which level, and what queries cost beside each other.

    table: index strategy, columns accuracy and flops_per_query
    """
    cost = table["flops_per_query"]
    best = table["accuracy"].idxmax()
    return (
        f"{scored} examples were scored; guessing gets {chance:.2f}, {name(str(best))} "
        f"{table['accuracy'].max():.2f}. A query to the language model costs "
        f"{cost.get('t-few', cost.max()) / cost.min():.0f} times the FLOPs of one to the small "
        "model; "
        f"behind solved examples {cost.max() / cost.get('t-few', cost.max()):.0f} times that."
    )


def margin(found: Any) -> Difference | None:
    """By how much the recommended way is ahead of the next. found: `choice.recommend.Plan`"""
    if not found.margin:
        return None
    size, low, high = (found.margin[key] for key in ("difference", "low", "high"))
    return Difference(size, low, high, 0, found.scored, math.nan, math.nan)


def ahead_title(found: Any) -> str:
    """Direction and size of the margin, or what it excludes. found: as `margin` takes it"""
    apart = margin(found)
    if apart is None:
        return f"{name(found.recommendation)} is all that the budget pays for"
    both = name(found.recommendation), name(found.margin["over"])
    return f"{apart.between(*both)}, {THESE}"


def recommended_sentence(found: Any, task: str) -> str:
    """What is recommended, for how much, and how sure that is. found: as `margin` takes it"""
    best, apart = found.chosen, margin(found)
    text = (
        f"{name(best.strategy)} answers {best.accuracy:.2f} [{best.low:.2f}, {best.high:.2f}] of "
        f"{found.scored} right for {usd(best.usd_total)}, the most for this budget."
    )
    if apart is None:
        return text
    both = name(best.strategy), name(found.margin["over"])
    return f"{text} {apart.of(*both, name(task), THESE)}."


def _small(dollars: float) -> str:
    """Dollars in a table, where a millionth of a cent is next to nothing."""
    return usd(dollars) if dollars == 0 or dollars >= 1e-4 else "< $0.0001"


def options_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Every way with its interval, its dollars and the margin of the recommended one over it."""

    def behind(row: Mapping[str, Any]) -> str:
        if pd.isna(row["behind"]) or (not row["behind"] and not row["behind_low"]):
            return "–"
        return stats.in_points(*(row[key] for key in ("behind", "behind_low", "behind_high")))

    return pd.DataFrame(
        {
            "way": name(row["strategy"]),
            "accuracy": f"{row['accuracy']:.2f} [{row['low']:.2f}, {row['high']:.2f}]",
            "labels": _small(row["usd_labels"]),
            "training": _small(row["usd_training"]),
            "serving": _small(row["usd_serving"]),
            "in all": _small(row["usd_total"]),
            "behind by": behind(row),
            "wins again": f"{row['best']:.0%}",
        }
        for row in frame.to_dict("records")
    ).set_index("way")


def parts_sentence(best: Any, thriftiest: str, its_usd: float) -> str:
    """What the dollars of the recommended way are, and the cheapest that may be as good."""
    parts = ", ".join(
        f"{part} {getattr(best, f'usd_{part}') / best.usd_total:.1%}"
        for part in ("labels", "training", "serving")
    )
    same = thriftiest == best.strategy
    cheap = "itself" if same else f"{name(thriftiest)}, for {usd(its_usd)}"
    return (
        f"Of the dollars of {name(best.strategy)}: {parts}. The cheapest way that these examples "
        "do not "
        f"tell apart from it is {cheap}."
    )


def turns_title(turns: Sequence[tuple[int, str]]) -> str:
    """Which way is cheapest, and from which number of queries on another one is."""
    later = [f", {name(way)} from {about(count)} queries on" for count, way in turns[1:]]
    return f"{name(turns[0][1])} is cheapest at first{''.join(later)}"


def turns_sentence(evens: pd.DataFrame, chosen: str) -> str:
    """Where the chosen way pays off, and against what it never will from some number of queries on.

    evens: cheaper_below, cheaper_from, queries
    """
    mine, lost = (evens[evens[side] == chosen] for side in ("cheaper_from", "cheaper_below"))
    parts = [
        f"less than {name(r.cheaper_below)} from {about(r.queries)} on" for r in mine.itertuples()
    ]
    parts += [
        f"more than {name(r.cheaper_from)} from {about(r.queries)} on" for r in lost.itertuples()
    ]
    costs = "; ".join(parts) or "the same as all others, at any volume"
    return f"By queries, {name(chosen)} costs {costs}."


def map_title(areas: pd.DataFrame, budget: float, queries: float) -> str:
    """The way to take at the budget asked for, and where it changes with the volume.

    areas: as `choice_by_volume` takes them
    """
    row = areas.loc[areas.index[(areas.index <= budget * 1.001)].max()]
    changes = row[row != row.shift()]
    first, *later = changes.items()
    text = f"With {usd(budget)}: {name(first[1])}"
    return text + "".join(f", {name(way)} from {about(count)} queries on" for count, way in later)


def map_sentence(steps: Sequence[Any], queries: float) -> str:
    """From which budget on another way is the most accurate, at the volume asked for.

    steps: `choice.options.ladder`
    """
    best = {step.strategy: step for step in steps}
    ways = "; ".join(
        f"from {usd(s.usd_total)} on {name(s.strategy)} ({s.accuracy:.2f})" for s in best.values()
    )
    return f"For {about(queries)} queries: below {usd(steps[0].usd_total)} nothing; {ways}."


def evens_table(evens: pd.DataFrame, ways: Sequence[str], most: int = 8) -> pd.DataFrame:
    """Pairs of ways that change places, those of `ways` alone; at most so many rows."""
    mine = evens[evens["cheaper_below"].isin(ways) | evens["cheaper_from"].isin(ways)].head(most)
    return pd.DataFrame(
        {
            "cheaper below": mine["cheaper_below"].map(name),
            "cheaper from there on": mine["cheaper_from"].map(name),
            "queries": mine["queries"].map(about),
            "spent by then": mine["usd"].map(usd),
        }
    ).set_index("cheaper below")


def volumes_table(moves: pd.DataFrame) -> pd.DataFrame:
    """What to take at each volume, and the cheapest that is not told apart from it.

    moves: `choice.recommend.by_volume`
    """

    def text(row: Mapping[str, Any], way: str, its: str) -> str:
        if not row[way] or pd.isna(row[f"{its}accuracy"]):
            return "nothing"
        return f"{name(row[way])}: {row[f'{its}accuracy']:.2f} for {usd(row[f'{its}usd'])}"

    return pd.DataFrame(
        {
            "queries": about(row["queries"]),
            "the most accurate": text(row, "recommendation", ""),
            "the cheapest not told apart": text(row, "thriftiest", "its_"),
        }
        for row in moves.to_dict("records")
    ).set_index("queries")


def redraw_table(both: pd.DataFrame) -> pd.DataFrame:
    """Accuracies after two draws of the labels. both: index strategy; first draw, second draw"""
    text = both[["first draw", "second draw"]].map("{:.3f}".format)
    change = 100 * (both["second draw"] - both["first draw"])
    return text.assign(**{"change, points": change.map("{:+.0f}".format)}).rename(index=name)


def redraw_sentence(both: pd.DataFrame, first: str, second: str, lead: float) -> str:
    """Whether another draw of the labels recommends the same, and how far it moves accuracies.

    lead: of the first recommendation over the next way, a fraction
    """
    moved = 100 * (both["second draw"] - both["first draw"]).abs()
    answer = (
        f"The second draw recommends {name(second)}, the same."
        if first == second
        else f"No: the second draw recommends {name(second)}, not {name(first)}."
    )
    return (
        f"{answer} Accuracies move by up to {moved.max():.0f} points "
        f"({name(str(moved.idxmax()))}), in the "
        f"median by {moved.median():.0f}; the margin was {100 * lead:.0f}."
    )


def own_title(owned: pd.DataFrame, recommended: str) -> str:
    """Who answers most on a task of one's own. owned: strategy, accuracy, low, high"""
    best = owned[owned["strategy"] == recommended].iloc[0]
    tied = int((owned["accuracy"] == best["accuracy"]).sum()) - 1
    more = f", as much as {tied} other{'s' * (tied > 1)}" if tied else ""
    return (
        f"Own task: {name(recommended)} answers {best['accuracy']:.2f} right "
        f"[{best['low']:.2f}, {best['high']:.2f}]{more}"
    )


def since_sentence(since: pd.DataFrame) -> str:
    """How many of the papers' answers have held up. since: a column verdict"""
    counts = ", ".join(
        f"{(since['verdict'] == v).sum()} {v}" for v in ("fallen", "qualified", "open")
    )
    return f"Of {len(since)} questions since 2023: {counts}."


def llm_only(hits: Mapping[str, Any], cost: "pd.Series[float]", task: str) -> list[str]:
    """What a language model adds to ways without one, and what a small model takes over from it.

    hits: of each text, by way; cost: FLOPs of a query, by way
    """
    alone = [way for way in ("linear-head", "setfit", "small-full", "small-s4") if way in hits]
    tuned = [way for way in ("t-few", "lora") if way in hits]
    accuracy = {way: float(pd.Series(own).mean()) for way, own in hits.items()}
    small, large = max(alone, key=accuracy.__getitem__), max(tuned, key=accuracy.__getitem__)
    added = stats.compare(hits[large], hits[small], of=len(alone) * len(tuned))
    told = [
        f"Without one {accuracy[small]:.2f}, with one {accuracy[large]:.2f} at "
        f"{cost[large] / cost[small]:.0f} times the FLOPs: "
        f"{added.of(name(large), name(small), name(task), THESE)}."
    ]
    if "small-distilled" in hits:
        taught = stats.compare(hits["small-distilled"], hits[large], of=len(tuned))
        both = name("small-distilled"), name(large)
        told.append(
            "A small model that it teaches keeps the small model's price: "
            f"{taught.of(*both, name(task), THESE)}."
        )
    return told


def choice_claims(
    hits: Mapping[str, Any],
    cost: "pd.Series[float]",
    evens: pd.DataFrame,
    found: Any,
    other: str,
    printed: Mapping[str, str],
) -> list[Claim]:
    """Chapter 6's claims: what each paper would say to this task, labels and budget.

    hits: of each text, by way; cost: FLOPs of a query; evens: break-evens; found: the plan
    other: what other labels recommend; printed: "tfew", "query", "spaces", "annotate"
    """
    on = f"live, {name(found.task.rsplit('/', 1)[-1])}, {found.scored} texts, {THESE}"

    def against(claim: str, paper: str, one: str, two: str) -> Claim:
        tested = f"{on}: {name(one)} less {name(two)}"
        if not {one, two} <= hits.keys():
            return Claim(claim, paper, "left out here", tested, "", "open")
        return compared(claim, paper, tested, stats.compare(hits[one], hits[two], of=len(hits) - 1))

    rows = [
        against(
            "Tune on your labels, do not prompt with them (T-Few)", printed["tfew"], "t-few", "icl"
        )
    ]
    times = cost.get("icl", float("nan")) / cost["t-few"]
    rows.append(
        Claim(
            "A query behind solved examples costs many times as much (T-Few)",
            printed["query"],
            f"{times:.0f} times" if times == times else "left out here",
            "exact FLOPs, the same model",
            "",
            "confirmed" if times > 2 else "open",
        )
    )
    rows.append(
        against(
            "S4 beats full fine-tuning (design spaces)", printed["spaces"], "small-s4", "small-full"
        )
    )
    rows.append(
        against(
            "A large tuned model should teach the small one (distill or annotate)",
            printed["annotate"],
            "small-distilled",
            "small-full",
        )
    )
    over = evens.query("cheaper_below == 't-few' and cheaper_from == 'small-distilled'")["queries"]
    rows.append(
        Claim(
            "A student serves for less than its teacher",
            "not priced",
            f"from {about(over.iloc[0])} queries on" if len(over) else "never",
            "dollars in all: labels, training, serving",
            "",
            "confirmed" if len(over) else "contradicted",
        )
    )
    rows.append(against("… and is more accurate than it", "not asked", "small-distilled", "t-few"))
    apart = margin(found)
    rows.append(
        Claim(
            "What to take here",
            "T-Few; S4; a student that T-Few teaches",
            f"{name(found.recommendation)}; after another draw {name(other)}",
            f"{on}: over {name(found.margin['over'])}" if apart else on,
            apart.interval if apart else "",
            "confirmed" if apart and apart.clear and other == found.recommendation else "open",
        )
    )
    return rows
