"""Chapter 5 in words, about prices and the paper's tables: takeaways and the closing table."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from frugal.costs.prices import usd
from frugal_course.figures.tables import named
from frugal_course.names import name

PRICED = {
    "wlp": "WLP",
    "stanceosaurus": "Stanceosaurus",
    "multipit-id": "MultiPIT-Id",
    "multipit-gen": "MultiPIT-Gen",
    "nq": "Natural Questions",
    "a40": "A40",
    "davinci": "GPT-3 davinci",
}


def price_table(prices: Iterable[Any]) -> pd.DataFrame:
    """Prices (`costs.prices`) as people read them: what, for how much, known when and how well."""
    rows = [
        {
            "what": PRICED.get(price.sku) or name(price.sku),
            "unit": price.unit,
            "USD": f"{price.usd:g}",
            "known on": price.known_on,
            "state": price.state,
        }
        for price in prices
        if price.kind != "api"
    ]
    return pd.DataFrame(rows).set_index("what")


def label_table(each: pd.DataFrame) -> pd.DataFrame:
    """What a human label and a distilled example cost, in USD, and their ratio, by task."""
    return pd.DataFrame(
        {
            "human label": each["human label"].map(usd),
            "distilled example": each["distilled example"].map(usd),
            "labels are dearer by": each.iloc[:, 2].map("{:.0f} times".format),
        }
    ).rename(index=name)


def label_sentence(totals: pd.DataFrame, each: pd.DataFrame) -> str:
    """What a label costs beside a distilled example; whether Table 1's totals come out."""
    good = int((totals["verdict"] != "failed").sum())
    return (
        f"A human label costs as much as {each.iloc[:, 2].min():.0f} to "
        f"{each.iloc[:, 2].max():.0f} "
        f"distilled examples, once the teacher is there (section 3). {good} of {len(totals)} "
        "totals of "
        "Table 1 reproduce."
    )


def lost_cells(scores: pd.DataFrame) -> pd.DataFrame:
    """Table 3's cells that labels win, of the columns annotate, distill and lead."""
    return scores[scores["lead"] <= 0]


def budget_curves_title(scores: pd.DataFrame) -> str:
    """How many printed cells distillation wins, and by how much."""
    won = len(scores) - len(lost_cells(scores))
    return (
        f"For the same added dollars distillation wins {won} of {len(scores)} printed cells, by "
        "up to "
        f"{scores['lead'].max():.1f} points"
    )


def budget_curves_sentence(scores: pd.DataFrame, teachers: Mapping[tuple[str, int], float]) -> str:
    """The cells that labels win, and how far below its teacher a student stays at its best.

    teachers: printed scores, by task and N
    """
    lost = "; ".join(
        f"{name(task)}, N = {n:,}, +${dollars}: {row['distill']} against {row['annotate']}"
        for (task, n, dollars), row in lost_cells(scores).iterrows()
    )
    best = scores["distill"].groupby(["task", "labels"]).max().to_dict()
    below = [level - best[place] for place, level in teachers.items()]
    return (
        f"Labels win {len(lost_cells(scores))}: {lost or 'none'}. Published, T5-Small, under the "
        "budgets "
        f"that the counts imply. At its best a student stays {min(below):.1f} to "
        f"{max(below):.1f} points "
        "below its teacher."
    )


def equivalents(rows: pd.DataFrame) -> pd.DataFrame:
    """Table 4 (`papers.tables`) a row a task and way: task, way, usd, score; N/A left out."""
    ways = {"(Dist.)": "distill", "Upper Bound": "all", "(Ann.)": "annotate"}
    way = rows["model"].map(lambda text: next(w for key, w in ways.items() if text.endswith(key)))
    found = rows.assign(way=way, usd=rows["budget_usd"])
    return found[found["usd"].notna()][["task", "way", "usd", "score"]].astype({"score": float})


def ratios(cells: pd.DataFrame) -> tuple["pd.Series[float]", list[str]]:
    """By task how many times the dollars labels cost that are as good; tasks where none are.

    cells: as `equivalents` gives them
    """
    wide = cells.pivot(index="task", columns="way", values="usd")
    times = wide["annotate"] / wide["distill"]
    return times.dropna().sort_values(), sorted(times[times.isna()].index)


def equivalents_title(cells: pd.DataFrame) -> str:
    """What labels cost that are as good as distillation."""
    times, never = ratios(cells)
    return (
        f"Labels that are as good cost {times.min():.1f} to {times.max():.1f} times the dollars on "
        f"{len(times)} tasks, and never get there on {len(never)}"
    )


def equivalents_sentence(cells: pd.DataFrame, back: pd.DataFrame) -> str:
    """On which tasks labels never get there; how near the model of cost comes to Table 4.

    back: `papers.purchases.table4`
    """
    times, never = ratios(cells)
    scored = back[(back["what"] == "score") & back["residual"].notna()]
    return (
        f"{times.min():.1f} to {times.max():.1f} times. On {' and '.join(map(name, never))} all "
        "labels there are do not reach it. "
        f"Table 3's curves give these scores within {scored['residual'].abs().max():.1f} points, "
        "where it "
        "has the task."
    )


def hours_title(shares: Iterable[float]) -> str:
    """What of the smallest budgets the teacher's training takes."""
    each = list(shares)
    return (
        f"The teacher's training takes {min(each):.0%} to {max(each):.0%} of the smallest budgets"
    )


def hours_sentence(shares: Iterable[float], rates: Mapping[str, float], worst: float) -> str:
    """The teacher's share, the fitted rates, and how far a printed count is from its line."""
    each, text = (
        list(shares),
        ", ".join(f"{name(task)} {rate:,.0f}" for task, rate in rates.items()),
    )
    return (
        f"{min(each):.0%} to {max(each):.0%}. After that examples come at a constant rate an "
        f"hour: {text}. "
        "Open marks are printed, lines fitted; no count is further from its line than "
        f"{worst:,.0f}."
    )


def counts_sentence(back: pd.DataFrame) -> str:
    """How many of Table 3's numbers the model of cost gives back.

    back: `papers.purchases.table3`
    """
    off = back[back["residual"].abs() > 0.5 * back["step"] + 1e-9]
    return (
        f"{len(back) - len(off)} of Table 3's {len(back)} counts, prices and scores come back "
        "from the "
        f"model; of the {len(off)} others the largest miss is {off['residual'].abs().max():,.0f} "
        "examples."
    )


def counts_table(back: pd.DataFrame) -> pd.DataFrame:
    """Table 4's cells beside the model, where it has one (`papers.purchases.table4`)."""
    known = back[back["model"].notna()]
    digits = known["what"].map({"USD": "{:,.0f}", "score": "{:.1f}"})
    text = {
        column: [form.format(value) for form, value in zip(digits, known[column], strict=True)]
        for column in ("printed", "model", "residual")
    }
    rows = {"row": known["row"], "task": known["task"].map(name), "what": known["what"]}
    return pd.DataFrame(rows | text).set_index("row")


def spans_title(switch: "pd.Series[float]", crossed: "pd.Series[float]") -> str:
    """Where distillation takes the lead: at the first printed budget, or between two."""
    places = ", ".join(
        f"+${dollars:.0f} ({name(task)}, N = {n:,})" for (task, n), dollars in crossed.items()
    )
    return (
        f"Distillation leads from the first printed budget on in {len(switch) - len(crossed)} of "
        f"{len(switch)} rows; labels are overtaken at {places or 'none'}"
    )


def spans_sentence(first: "pd.Series[float]", crossed: "pd.Series[float]") -> str:
    """Where labels lead first, and the first printed budgets, below which nobody can say.

    first, crossed: USD by task and N, of rows that distillation leads from the start, or from there
    """
    rows = " and ".join(
        f"on {name(task)} with N = {n:,} labels lead up to +${dollars:.0f}, then a teacher"
        for (task, n), dollars in crossed.items()
    )
    rows = rows[:1].upper() + rows[1:]
    return (
        f"{rows}{'. ' if rows else ''}Elsewhere a teacher leads from the first printed budget on, "
        f"+${first.min():.0f} to +${first.max():.0f}; below it nobody can say, and below the "
        "teacher's "
        "own hours labels win."
    )


def splits_title(ahead: "pd.Series[bool]") -> str:
    """On how many tasks distillation leads wherever it is affordable."""
    return (
        f"Split freely between labels and hours, distillation leads wherever it is affordable, on "
        f"{ahead.sum()} of {len(ahead)} tasks"
    )


def splits_sentence(need: Mapping[str, tuple[float, float]]) -> str:
    """What distillation needs to match the best of labels alone, and what that costs, by task."""
    text = "; ".join(f"${a:,.0f} against ${b:,.0f} ({name(t)})" for t, (a, b) in need.items())
    return (
        f"To match the best that labels reach in the table: {text}. Lines end where the table does."
    )


def figure3_sentence(by_n: pd.DataFrame) -> str:
    """Figure 3 by Table 3: distillation's mean lead. by_n: points, index N, a column a task"""
    text = "; ".join(
        f"N = {n:,}: " + ", ".join(f"{lead:+.1f} ({name(task)})" for task, lead in row.items())
        for n, row in by_n.iterrows()
    )
    return f"Figure 3, from Table 3, distillation's mean lead in points: {text}."


def figure6_sentence(each: pd.DataFrame, answers: float, token: Any, read: int) -> str:
    """Figure 6's dollars: how many labels of people, or answers of its LLM, they buy.

    each: as `label_sentence` takes it; answers: to prompts of `read` tokens, at the price `token`
    """
    most, least = 200 / each["human label"].min(), 200 / each["human label"].max()
    return (
        f"Figure 6's $200 buy {least:,.0f} to {most:,.0f} human labels, or {answers:,.0f} "
        "answers to "
        f"prompts of {read} tokens at ${token.usd} for 1,000 ({token.state} price)."
    )


def sizes_table(items: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the paper's models, printed and counted (`papers.audit.frame`)."""
    found = items[["where", "printed", "recomputed", "note"]].set_index("where")
    return named(found.assign(recomputed=found["recomputed"].map(lambda text: f"{int(text):,}")))
