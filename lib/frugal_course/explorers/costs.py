"""What a query costs: in-context learning beside T-Few, in FLOPs, dollars and memory."""

import math
from typing import Any

import numpy as np
import pandas as pd

from frugal.costs import Scenario, memory, prices, scenario
from frugal.costs import arch as architectures
from frugal_course.explorers.view import Explorer, View, choice, number, slider, tick, written
from frugal_course.figures import costs
from frugal_course.figures.style import GREY, beside


def look(*, icl_arch: str, arch: str, **asked: Any) -> View:
    """ICL, T-Few and zero-shot on the same queries; the fields of `costs.Scenario`, models by name.

    cached: whether ICL keeps the keys and values of its examples. Raises FrugalError for nonsense.
    """
    question = Scenario(arch=architectures.get(arch), icl_arch=architectures.get(icl_arch), **asked)
    options = {option.name: option for option in question.compare()}
    cached, queries = question.cached, question.queries
    way = "icl-cached" if cached else "icl"
    icl, tuned = options[way], options["t-few"]
    names = {
        f"ICL, {icl_arch}{', cached' * cached}": icl,
        f"T-Few, {arch}": tuned,
        f"zero-shot, {arch}": options["zero-shot"],
    }
    table = pd.DataFrame(
        [
            {
                "way": name,
                "FLOPs a query": float(o.query_flops),
                "FLOPs before": float(o.once),
                "FLOPs in all": float(o.flops),
                "GPU hours": o.hours,
                "USD": o.usd,
                "memory, GiB": o.memory_bytes / memory.GIB,
                "fits on": next(iter(o.fits_on), "no single GPU"),
                "disk for the task, MB": o.disk_bytes / 1e6,
                "paid for after, queries": None if o is icl else o.overtakes(icl),
            }
            for name, o in names.items()
        ]
    )
    paid, ratio = tuned.overtakes(icl), icl.query_flops / tuned.query_flops
    verdict = (
        "T-Few never pays for its training here"
        if paid is None
        else f"T-Few has paid for its training after {paid:,} queries"
    )
    sentence = (
        f"Behind {question.shots} examples of {question.example_tokens} tokens a query of "
        f"{question.query_tokens} costs {icl.query_flops:.3g} FLOPs with "
        f"{icl_arch}{', examples cached' * cached}, "
        f"{written(ratio)} times a T-Few query ({tuned.query_flops:.3g} with {arch}; "
        f"count: {question.count}). "
        f"{queries:,} queries take {_usd(icl)} against {_usd(tuned)}, training included, "
        f"at ${question.usd_per_hour:g} an hour of an {question.gpu} at {question.mfu:.0%} of its "
        f"peak. {verdict}. ICL takes {_room(icl)}, T-Few {_room(tuned)}."
    )
    ends = [4.0, math.log10(max(queries, 1)), math.log10(paid or 1)]
    most = 10 ** math.ceil(max(ends))
    grid = np.logspace(0, math.log10(most), 81)
    curves = pd.concat(
        pd.DataFrame({"way": name, "queries": grid, "flops": o.once + grid * o.query_flops})
        for name, o in list(names.items())[:2]
    )
    figure = costs.break_even(curves, {paid: tuned.spent(paid)} if paid else {}, verdict)
    at, asked_for = figure.axes[0], max(queries, 1)
    at.axvline(asked_for, color=GREY, linewidth=1, linestyle=":")
    low: Any = {"va": "baseline", "fontsize": 9, "xycoords": ("data", "axes fraction")}
    beside(at, f"{queries:,} queries", asked_for, 0.02, GREY, **low)
    return View(figure, sentence, table)


def _usd(option: scenario.Option) -> str:
    return f"${option.usd:,.2f}" if option.usd >= 0.01 else f"${option.usd:.1g}"


def _room(option: scenario.Option) -> str:
    where = f"from {option.fits_on[0]} on" if option.fits_on else "on no single GPU"
    return f"{option.memory_bytes / memory.GIB:,.3g} GiB ({where})"


def icl_cost(
    *,
    icl_arch: str = "gpt3-175b",
    arch: str = "t0-11b",
    shots: int = Scenario.shots,
    example_tokens: int = Scenario.example_tokens,
    query_tokens: int = Scenario.query_tokens,
    cached: bool = False,
    count: str = Scenario.count,
    queries: int = Scenario.queries,
    usd_per_hour: float = 0.0,
) -> Explorer:
    """Explore what a query costs; the start is T-Few's section 4.2. usd_per_hour: 0 for listed."""
    usd = float(usd_per_hour or prices.get("gpu", Scenario.gpu).usd)
    start = {
        "shots": shots,
        "example_tokens": example_tokens,
        "query_tokens": query_tokens,
        "cached": cached,
        "count": count,
        "queries": queries,
        "usd_per_hour": usd,
    }
    look(icl_arch=icl_arch, arch=arch, **start)  # what it refuses is said before a control is made
    known = [a for a in architectures.names() if architectures.get(a).kind != "encoder-only"]
    controls = {
        "icl_arch": choice("ICL prompts", icl_arch, known),
        "arch": choice("T-Few tunes", arch, known),
        "shots": slider("examples (shots)", shots, 0, 100, 1),
        "example_tokens": slider("tokens of an example", example_tokens, 1, 512, 1),
        "query_tokens": slider("tokens of a query", query_tokens, 1, 512, 1),
        "cached": tick("examples cached", cached),
        "count": choice("count of FLOPs", count, scenario.COUNTS),
        "queries": number("queries to answer", queries, 10**9, step=100),
        "usd_per_hour": number("USD for a GPU hour", usd, 1000.0, step=0.1),
    }
    return Explorer("icl-cost", look, controls)
