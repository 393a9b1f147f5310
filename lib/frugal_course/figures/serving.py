"""Chapter 1's prices: what a prompt costs through an API, and on a GPU of one's own."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from frugal.costs import prices
from frugal.costs.prices import usd
from frugal.costs.serving import ApiQuery, OwnGpu, saving
from frugal_course.figures.style import BLUE, GREEN, GREY, ORANGE, WIDE, apart, beside, panels
from frugal_course.figures.tables import named
from frugal_course.names import said

COLOURS = {"OpenAI": BLUE, "Anthropic": ORANGE, "Google": GREEN, "DeepSeek": GREY}
LINES = ("-", "--", "-.", ":")  # of one vendor's models, in the file's order
IDLE = 0.1  # the share of hours in which a GPU of one's own answers, where it mostly waits
NONE = "–"


def price_list(served: Sequence[ApiQuery]) -> pd.DataFrame:
    """What a million tokens cost, a row a model, with the day and the state of each price."""

    def text(amount: float | None) -> str:
        return NONE if amount is None else f"${amount:g}"

    rows = {
        p.model: {
            "input": text(p.input),
            "read from a cache": text(p.cached_input),
            "written to one": text(p.cache_write),
            "output": text(p.output),
            "in a batch": NONE if p.batch is None else f"{p.batch:.0%}",
            "a cache lives": NONE if p.cache_minutes is None else f"{p.cache_minutes:g} minutes",
            "seen on": p.row.known_on,
            "state": p.row.state,
        }
        for p in (q.price for q in served)
    }
    return named(pd.DataFrame(rows).T.rename_axis("USD for a million tokens", axis=1))


def price_doubts(served: Sequence[ApiQuery], gpu: str, today: date | None = None) -> str:
    """What is to be known of these prices and of a GPU's, a line each: state, age, what changes."""
    rows = [q.price.row for q in served]
    sources = ", ".join(dict.fromkeys(row.source for row in rows))
    changes = [line for q in served for line in q.price.warnings(today) if "changes on" in line]
    told: dict[str, list[str]] = {}
    for q in served:
        note = q.price.row.note.removeprefix(q.price.row.state).removeprefix("; ")
        for line in (note, *q.assumed()):
            told.setdefault(line, []).append(q.price.model)
    notes = [f"{', '.join(models)}: {line}" for line, models in told.items() if line]
    doubts = prices.summary([*rows, prices.get("gpu", gpu, today)], today)
    return said("\n".join([f"source: {sources}", *doubts, *changes, *notes]))


def saving_sentence(served: Sequence[ApiQuery]) -> str:
    """How many times less a query costs behind a cache: by the rule of FLOPs, and by each price."""
    prefix, own = served[0].prefix_tokens, served[0].query_tokens
    shares = sorted({q.price.of("cached_input") / q.price.input for q in served})
    ratios = [q.price.output / q.price.input for q in served]
    return (
        f"By price a cache saves {_span([saving(prefix, own, s) for s in shares], '.1f')} times, "
        f"by "
        f"the rule of FLOPs {saving(prefix, own):.1f}: a cached token costs "
        f"{_span(shares, '.0%')} of "
        f"a new one, not nothing. A token of an answer costs as much as {_span(ratios, '.2g')} "
        f"of a "
        f"prompt."
    )


def api_bills(served: Sequence[ApiQuery], own: OwnGpu, queries: int) -> pd.DataFrame:
    """USD for so many queries, a row a way, with and without a cache and in a batch.

    own: T-Few, whose training is in its bill
    """

    def rate(asked: ApiQuery) -> str:
        found = asked.pays_from()
        return "never" if found is None else f"{found:.2g}" if found else "any"

    rows = {
        q.price.model: {
            "uncached": usd(queries * q.uncached()),
            "cached": usd(q.total(queries)),
            "batch": NONE if q.price.batch is None else usd(queries * q.batch()),
            "a cache saves": f"{q.uncached() / q.hit():.1f}×",
            "it pays from, queries an hour": rate(q),
        }
        for q in served
    }
    for share in (1.0, IDLE):
        bill = usd(own.total(queries, share))
        rows[f"T-Few, own {own.gpu}, {share:.0%} busy"] = {"uncached": bill}
    table = pd.DataFrame(rows).T.fillna(NONE)
    return named(table.rename_axis(f"USD for {queries:,} queries", axis=1))


def by_arrivals(served: Sequence[ApiQuery], own: OwnGpu, title: str) -> Figure:
    """Dollars of 1,000 queries against how often they come: cached at each API, and on one's GPU.

    A cross marks from which rate on a cache pays; a GPU of one's own is paid for while it waits.
    """
    figure, (at,) = panels(1, title, height=4.6, width=WIDE)
    rates = np.logspace(-1, 5, 241)
    curves = [(q, 1000 * np.array([q.cached(rate) for rate in rates])) for q in served]
    top = max(curve.max() for _, curve in curves)
    looks: dict[str, int] = {}
    named: list[tuple[float, str, str]] = []
    for q, curve in curves:
        vendor = q.price.row.provider
        looks[vendor] = looks.get(vendor, -1) + 1
        colour, line = COLOURS.get(vendor, GREY), LINES[looks[vendor] % len(LINES)]
        at.plot(rates, curve, color=colour, linestyle=line, linewidth=2)
        named.append((float(curve[-1]), q.price.model, colour))
        if pays := q.pays_from():
            at.plot(pays, 1000 * q.uncached(), "X", color=colour, markersize=9, zorder=3)
    mine = 1000 * np.maximum(own.usd_per_hour / rates, own.query_usd())
    at.plot(rates, mine, color="black", linestyle=":", linewidth=2.5)
    named.append((float(mine[-1]), f"T-Few, own {own.gpu}", "black"))
    named.sort()
    lowest = named[0][0]
    gap = 0.055 * np.log10(4 * top / lowest)
    heights = apart([float(np.log10(end)) for end, *_ in named], gap)
    for (_, name, colour), height in zip(named, heights, strict=True):
        beside(at, name, rates[-1], 10**height, colour, right=8)
    at.text(0.02, 0.03, "✕ from here on a cache pays", transform=at.transAxes, size=9)
    at.set(
        xscale="log",
        yscale="log",
        xlim=(rates[0], rates[-1]),
        ylim=(lowest / 2, 2 * top),
        xticks=10.0 ** np.arange(-1, 6),
        xticklabels=["0.1", "1", "10", "100", "1,000", "10,000", "100,000"],
        xlabel="queries an hour, at random",
        ylabel="USD for 1,000 queries",
    )
    at.xaxis.set_minor_locator(NullLocator())
    at.yaxis.set_major_formatter(lambda amount, _: usd(amount))
    return figure


def arrivals_title(served: Sequence[ApiQuery], own: OwnGpu) -> str:
    """From which rate on a cache pays, and a GPU of one's own beside the cached prompts."""
    pays = [rate for q in served if (rate := q.pays_from()) is not None]
    first = (
        f"A cache pays from {max(pays):.2g} queries an hour on" if pays else "No cache pays here"
    )
    mine = _cheaper(served, own, cached=True)
    if not mine:
        return f"{first}; a GPU of one's own never does"
    models = f"for {len(mine)} of {len(served)} models"
    return f"{first}; a GPU of one's own from {_span(mine.values())}, {models}"


def _cheaper(served: Sequence[ApiQuery], own: OwnGpu, *, cached: bool) -> dict[str, float]:
    """Queries an hour from which on a GPU of one's own is cheaper, of models where it ever is."""
    rates = {q.price.model: own.cheaper_from(q.hit() if cached else q.uncached()) for q in served}
    return {model: rate for model, rate in rates.items() if rate is not None}


def arrivals_sentence(served: Sequence[ApiQuery], own: OwnGpu) -> str:
    """What `by_arrivals` shows, with its numbers."""
    saves = [q.uncached() / q.hit() for q in served if q.cacheable]
    tokens = f"{served[0].prefix_tokens:,} tokens"
    paid = [rate for q in served if (rate := q.pays_from())]
    plain, cached = (_cheaper(served, own, cached=how) for how in (False, True))
    text = (
        f"A query that finds its {tokens} cached costs {_span(saves, '.1f')} times less"
        if saves
        else f"A prefix of {tokens} is too short for a cache"
    )
    if paid:
        text += (
            f"; where writing costs extra ({len(paid)} models), caching pays from "
            f"{_span(paid, '.2g')} queries an hour on"
        )
    text += "."
    beaten = [
        f"{what} prompts from {_span(rates.values())} queries an hour on ({len(rates)} of "
        f"{len(served)} models)"
        for what, rates in (("uncached", plain), ("cached", cached))
        if rates
    ]
    if beaten:
        text += (
            f"\nOne {own.gpu} that serves T-Few, at {own.mfu:.1%} of its peak, is cheaper than "
            f"{', than '.join(beaten)}."
        )
    return text


def _span(numbers: Collection[float], form: str = ",.0f") -> str:
    """The least and the most, or the one that both are: "206 to 8,250"."""
    ends = [format(end(numbers), form) for end in (min, max)]
    return " to ".join(dict.fromkeys(ends))


def then_and_now(
    served: Sequence[ApiQuery], own: OwnGpu, once: str, printed: str, flops: float, mfu: float
) -> tuple[pd.DataFrame, str]:
    """A prompt in T-Few queries, in dollars: at the price of the paper's day, and today.

    once:    a listed model of that day (`prices`, kind token)
    printed: what the paper says; flops: the ratio that its rule of FLOPs gives
    mfu:     another share of the GPU's peak than `own` reaches, for comparison

    The GPU that serves T-Few is never idle here, which is the most that its price can do for it.
    """
    mine, then = own.query_usd(), prices.get("token", once)
    tokens = served[0].prefix_tokens + served[0].query_tokens
    dear = prices.cost("token", once, tokens)
    rows: dict[str, dict[str, Any]] = {
        f"{then.sku}, {then.known_on}": {
            "a prompt": usd(dear), "in T-Few queries": f"{dear / mine:,.0f}",
            "cached": NONE, "in T-Few queries, cached": NONE, "state": then.state,
        }
    }  # fmt: skip
    for q in served:
        rows[f"{q.price.model}, {q.price.row.known_on}"] = {
            "a prompt": usd(q.uncached()),
            "in T-Few queries": f"{q.uncached() / mine:,.3g}",
            "cached": usd(q.hit()),
            "in T-Few queries, cached": f"{q.hit() / mine:,.2g}",
            "state": q.price.row.state,
        }
    plain, hits = ([q.uncached() / mine for q in served], [q.hit() / mine for q in served])
    pays = [own.training_usd / (q.hit() - mine) for q in served if q.hit() > mine]
    after = (
        f"after {_span(pays)} cached queries, for {len(pays)} of {len(served)} models"
        if pays
        else "never, beside a cached prompt"
    )
    day = prices.get("gpu", own.gpu).known_on
    return named(pd.DataFrame(rows).T), (
        f"A prompt to {then.sku} cost as much as {dear / mine:,.0f} T-Few queries at the prices of "
        f"{day} (printed: {printed}; by FLOPs {flops:,.0f}); one of today costs "
        f"{_span(plain, '.3g')} uncached, {_span(hits, '.2g')} cached, beside a GPU that never "
        f"waits."
        f"\nT-Few's training, {usd(own.training_usd)}, has paid for itself {after}. All this at "
        f"{own.mfu:.1%} of the GPU's peak; at {mfu:.0%} the ratios are {mfu / own.mfu:.1f} times "
        f"as "
        f"large."
    )


def annotators(bought: pd.DataFrame) -> pd.DataFrame:
    """What a label costs by each model's price, and how many a budget pays for, as people read it.

    bought: a row a model: model, known_on, state (of its price), and what `purchases.Annotator` has
    """
    budget, texts = bought["budget"].iloc[0], bought["texts"].iloc[0]
    table = pd.DataFrame(
        {
            "model": bought["model"],
            "a label": bought["usd_per_label"].map(usd),
            "a person's, times": (bought["human"] / bought["usd_per_label"]).map("{:,.0f}".format),
            f"labels for ${budget:,.0f}": bought["affordable"].map("{:,}".format),
            f"of {texts:,} texts": (bought["affordable"] < bought["texts"]).map(
                {True: "the budget binds", False: "all of them"}
            ),
            "price seen on": bought["known_on"] + ", " + bought["state"],
        }
    )
    return named(table.set_index("model"))
