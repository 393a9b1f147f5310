"""Chapter 4 in words, about a search and how sure it is: titles, takeaways, small tables.

A takeaway has at most 240 letters; what does not fit stands in a table below it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from frugal import stats
from frugal_course.figures.pool import HALVES, PAPERS
from frugal_course.names import name


def judged(low: float | None, high: float | None, ahead: int = 1) -> str:
    """A claim's verdict in a word, by the interval of what it says is positive (-1: negative)."""
    if low is None or high is None or low <= 0 <= high:
        return "open"
    return "confirmed" if ahead * low > 0 else "contradicted"


def interval(points: float, low: float, high: float) -> str:
    """Points with their interval, as they are: "+1.1 [-0.8, +3.0]"."""
    return f"{points:+.1f} [{low:+.1f}, {high:+.1f}]"


def search_title(summary: pd.DataFrame, scope: str) -> str:
    """How far winners lead, or which leads are excluded where no interval leaves out 0.

    summary: as `spaces.record.summary` gives it
    """
    leads: list[stats.Difference] = list(summary["over_second"])
    if not leads:
        return f"{scope}: nothing is decided yet"
    most = 100 * max(lead.difference for lead in leads)
    if any(lead.low is None for lead in leads):
        return (
            f"{scope}: winners lead by up to {most:.1f} points, of too few designs for an interval"
        )
    if clear := [lead for lead in leads if lead.clear]:
        least, most = (f(100 * lead.difference for lead in clear) for f in (min, max))
        count = f"{len(clear)} of {len(leads)}"
        return f"{scope}: {count} winners lead, by {least:.1f} to {most:.1f} points"
    bound = 100 * max(lead.high or 0 for lead in leads)
    return (
        f"{scope}: winners lead by at most {most:.1f} points, and every interval holds 0 (a lead "
        "of "
        f"{bound:.0f} or more is excluded)"
    )


def search_sentence(summary: pd.DataFrame) -> str:
    """Who wins each stage, and how many of the winners are the paper's."""
    won = "; ".join(f"{row.stage} {row.winner}" for row in summary.itertuples())
    same = int((summary["papers"] == summary["winner"]).sum())
    last = summary.iloc[-1]
    return (
        f"Winners: {won}; {same or 'none'} of them the paper's. {last['stage']}: {last['winner']} "
        f"over {last['second']}, {last['runs']} designs: {last['over_second']}."
    )


def search_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Each decision of a search, a row a stage, as people read it."""
    rows = []
    for row in summary.to_dict("records"):
        theirs = row["papers"]
        behind = "the same" if theirs == row["winner"] else str(row["over_papers"] or "–")
        rows.append(
            {
                "stage": row["stage"],
                "winner": row["winner"],
                "runner-up": row["second"],
                "winner less runner-up": str(row["over_second"]),
                "wins again in": f"{row['again']:.0%}",
                "score": f"{100 * row['mean']:.1f}",
                "shrunk": f"{100 * row['shrunk']:.1f}",
                "paper's winner": theirs or "no candidate",
                "winner less it": behind if theirs else "–",
            }
        )
    return pd.DataFrame(rows).set_index("stage") if rows else pd.DataFrame()


def certainty_title(summary: pd.DataFrame) -> str:
    """How much of a winner's score was luck, beside how far it leads."""
    lost = 100 * (summary["mean"] - summary["shrunk"])
    return (
        f"Luck made {lost.min():.1f} to {lost.max():.1f} points of the winners' scores; they "
        "lead by "
        f"{100 * summary['lead'].min():.1f} to {100 * summary['lead'].max():.1f}"
    )


def certainty_sentence(summary: pd.DataFrame) -> str:
    """How often winners win again when their designs are drawn again."""
    least, most = summary["again"].idxmin(), summary["again"].idxmax()
    return (
        f"Winners win again in {summary.loc[least, 'again']:.0%} ({summary.loc[least, 'stage']}) "
        "to "
        f"{summary.loc[most, 'again']:.0%} ({summary.loc[most, 'stage']}) of resamples of their "
        "designs; a guess would in one of as many as there are candidates."
    )


def draws_sentence(ratio: "pd.Series[float]") -> str:
    """By how much the draw of the labels moves scores more than the candidate; by stage."""
    return (
        f"Which labels are drawn moves scores {ratio.min():.1f} to {ratio.max():.1f} times as "
        "much as "
        "which candidate is trained: a search on one draw mostly finds out which draw it was."
    )


def climb(found: pd.DataFrame) -> tuple[float, float]:
    """Points from S0 to the last stage's winner: printed, and here.

    found: as `spaces.pool.side_by_side` gives it
    """
    gains = []
    for column, won in (("printed", "theirs"), ("here", "ours")):
        path = found[found[won] & found[column].notna()][column]
        gains.append(float(path.iloc[-1] - path.iloc[0]))
    return gains[0], gains[1]


def tables_title(found: pd.DataFrame) -> str:
    """How far the winners climb, printed and here."""
    theirs, ours = climb(found)
    return (
        f"From S0 to the last stage, printed winners climb {theirs:+.1f} points; here {ours:+.1f}"
    )


def tables_sentence(found: pd.DataFrame, path: pd.DataFrame, summary: pd.DataFrame) -> str:
    """What of the climb is left without the winner's curse, and whether candidates rank alike."""
    both = found.dropna(subset=["printed", "here"])
    ranks = [
        mine["printed"].rank().corr(mine["here"].rank())
        for _, mine in both.groupby("stage", sort=False)
        if len(mine) > 5
    ]
    start = float(found.loc[found["stage"] == "S0", "here"].iloc[0])
    left = 100 * float(summary["shrunk"].iloc[-1]) - start
    end = path.iloc[-1]
    rank = (
        "; candidates of a stage rank differently here (correlation "
        f"{min(ranks):+.1f} to {max(ranks):+.1f})"
        if ranks
        else ""
    )
    return (
        f"Scored on tasks that did not choose, the climb is "
        f"{interval(end['greedy'], end['low'], end['high'])} points; shrunk {left:+.1f}"
        f"{rank}. A stage of the paper prints averages without a spread."
    )


def winners_title(theirs: pd.DataFrame) -> str:
    """How the paper's winners fare here: those whose interval leaves out 0, else what is excluded.

    theirs: of `spaces.pool.winners`, the rows of the paper's
    """
    above, below = theirs[theirs["low"] > 0], theirs[theirs["high"] < 0]
    parts = [
        f"{word} by {abs(row.points):.1f} ({row.stage} {row.candidate})"
        for rows, word in ((above, "is ahead"), (below, "falls behind"))
        for row in rows.itertuples()
    ]
    rest = theirs.drop([*above.index, *below.index])
    bound = max(rest["high"].max(), -rest["low"].min()) if len(rest) else 0.0
    text = (
        f"{len(rest)} of the paper's {len(theirs)} winners are within {bound:.1f} points of the "
        "mean here"
    )
    return "; one ".join([text, *parts])


def winners_sentence(theirs: pd.DataFrame) -> str:
    """Each of the paper's winners here, in points over its stage's mean."""
    return (
        "Over their stage's mean here: "
        + "; ".join(
            f"{row.stage} {row.candidate} {interval(row.points, row.low, row.high)}"
            for row in theirs.itertuples()
        )
        + "."
    )


def depth_title(found: pd.DataFrame, names: Mapping[str, str]) -> str:
    """What `by_depth` finds: which methods are worth more in one half, or how little any is."""
    alone = found[found["method"].isin(list(names))]
    sure = alone[alone["low"] * alone["high"] > 0]
    if sure.empty:
        most = max(alone["high"].max(), -alone["low"].min())
        return (
            f"No method is worth {most:.1f} points more in one half of the layers than in the other"
        )
    return "; ".join(
        f"{name(names[row.method])} is worth {abs(row.points):.1f} points more "
        f"{HALVES[1 if row.points > 0 else -1]} [{row.low:+.1f}, {row.high:+.1f}]"
        for row in sure.itertuples()
    )


def depth_sentence(
    found: pd.DataFrame, printed: pd.DataFrame, names: Mapping[str, str], trainings: int
) -> str:
    """What the paper recommends, what its own tables add up to, and what the trainings here say."""
    worth = printed.set_index(["method", "group"])["points"]
    first, last = printed["group"].min(), printed["group"].max()
    parts = []
    for row in found[found["method"].isin([m for m in PAPERS if len(m) == 1])].itertuples():
        one, other = worth[row.method, first], worth[row.method, last]
        own = f"{one:+.1f} in G{first}, {other:+.1f} in G{last}"
        parts.append(
            f"{name(names[row.method])} {HALVES[PAPERS[row.method]]}: {own} printed; here "
            f"{interval(row.points, row.low, row.high)} ({place_verdict(row)})"
        )
    return f"{'; '.join(parts)}. From {trainings:,} trainings."


def place_verdict(row: Any) -> str:
    """Of a row of `spaces.pool.by_depth`: what it says of the place that the paper recommends."""
    return judged(row.low, row.high, PAPERS[row.method])


def greedy_title(path: pd.DataFrame) -> str:
    """What a greedy search has after its last stage, beside a random one of the same FLOPs."""
    end = path.iloc[-1]
    return (
        f"Greedy is {end['greedy']:+.1f} points up after {end['stage']} [{end['low']:+.1f}, "
        f"{end['high']:+.1f}]; a random search of the same FLOPs {end['estimate']:+.1f}"
    )


def greedy_sentence(path: pd.DataFrame) -> str:
    """On what the two were compared, and to whose advantage."""
    end = path.iloc[-1]
    word = "not told apart" if end["low"] <= end["estimate"] <= end["high"] else "apart"
    return (
        f"The two are {word}: {end['designs']:,} random designs cost the same. Greedy decided its "
        "earlier stages with the task that scores it, which is to its advantage."
    )


def halving_sentence(found: pd.DataFrame) -> str:
    """How often successive halving picks what all designs favour, and what it costs."""
    return (
        f"For {found['share'].min():.0%} to {found['share'].max():.0%} of a stage's FLOPs, "
        "halving picks "
        f"what all designs favour in {found['halved'].min():.0%} to {found['halved'].max():.0%} "
        "of replays "
        f"(an even split: {found['even'].min():.0%} to {found['even'].max():.0%}), and loses at "
        "most "
        f"{found['halved_loss'].max():.1f} points."
    )


def recorded_sentence(runs: pd.DataFrame, done: pd.DataFrame, missing: Sequence[str]) -> str:
    """Of which search the recorded rows are.

    runs: `spaces.record.read`; done: the trainings among them, once each; missing: stages without
    a winner
    """
    first = runs.iloc[0]
    hours = done["seconds"].sum() / 3600
    tasks = ", ".join(name(task) for task in runs["task"].unique())
    text = (
        f"{len(done)} trainings of {name(first['backbone'])} on {tasks}: {first['labels']} labels, "
        f"{first['epochs']} epochs, {first['limit']} test texts; {hours:.1f} hours on "
        f"{first['machine']}, {runs['date'].max()}."
    )
    return text + (f" Without a winner yet: {', '.join(missing)}." if missing else "")


def halving_table(found: pd.DataFrame) -> pd.DataFrame:
    """`spaces.pool.halving`, as people read it."""
    text = {
        "candidates": found["candidates"].astype(str),
        "share of FLOPs": found["share"].map("{:.0%}".format),
        "halving picks the best": found["halved"].map("{:.0%}".format),
        "an even split does": found["even"].map("{:.0%}".format),
        "halving loses, points": found["halved_loss"].map("{:.2f}".format),
        "an even split loses": found["even_loss"].map("{:.2f}".format),
    }
    return pd.DataFrame(text).set_axis(found["stage"], axis="index")
