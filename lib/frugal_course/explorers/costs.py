"""What a query costs: in-context learning beside T-Few, in FLOPs, dollars and memory."""

import math
from typing import Any

import numpy as np
import pandas as pd

from frugal.costs import arch as architectures
from frugal.costs import memory, prices, scenario
from frugal.errors import FrugalError
from frugal_course.explorers.view import Explorer, View, choice, number, slider, tick, written
from frugal_course.figures import costs
from frugal_course.figures.style import GREY

GPU = "a100-80gb"
MFU = 0.4  # an assumption: the share of the peak that is reached


def look(
    *,
    icl_arch: str,
    arch: str,
    shots: int,
    example_tokens: int,
    query_tokens: int,
    cached: bool,
    count: str,
    queries: int,
    usd_per_hour: float,
) -> View:
    """ICL, T-Few and zero-shot on the same queries; arguments as in `costs.scenario.compare`.

    cached: whether ICL keeps the keys and values of its examples. Raises FrugalError for that on an
    encoder–decoder, and for nonsense.
    """
    options = {
        option.name: option
        for option in scenario.compare(
            architectures.get(arch),
            icl_arch=architectures.get(icl_arch),
            shots=shots,
            example_tokens=example_tokens,
            query_tokens=query_tokens,
            count=count,
            queries=queries,
            gpu=GPU,
            mfu=MFU,
            usd_per_hour=usd_per_hour,
        )
    }
    way = "icl-cached" if cached else "icl"
    if way not in options:
        raise FrugalError(
            f"cached: {icl_arch} reads in both directions, and has no prefix that could be cached"
        )
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
        f"Behind {shots} examples of {example_tokens} tokens a query of {query_tokens} costs "
        f"{icl.query_flops:.3g} FLOPs with {icl_arch}{', examples cached' * cached}, "
        f"{written(ratio)} times a T-Few query ({tuned.query_flops:.3g} with {arch}; "
        f"count: {count}). "
        f"{queries:,} queries take {_usd(icl)} against {_usd(tuned)}, training included, "
        f"at ${usd_per_hour:g} an hour of an {GPU} at {MFU:.0%} of its peak. {verdict}. ICL "
        f"takes {_room(icl)}, T-Few {_room(tuned)}."
    )
    ends = [4.0, math.log10(max(queries, 1)), math.log10(paid or 1)]
    most = 10 ** math.ceil(max(ends))
    grid = np.logspace(0, math.log10(most), 81)
    curves = pd.concat(
        pd.DataFrame({"way": name, "queries": grid, "flops": o.once + grid * o.query_flops})
        for name, o in list(names.items())[:2]
    )
    figure = costs.break_even(curves, {paid: tuned.spent(paid)} if paid else {}, verdict)
    at = figure.axes[0]
    at.axvline(max(queries, 1), color=GREY, linewidth=1, linestyle=":")
    at.annotate(
        f"{queries:,} queries",
        (max(queries, 1), 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
    )
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
    shots: int = 41,
    example_tokens: int = 98,
    query_tokens: int = 103,
    cached: bool = False,
    count: str = "paper",
    queries: int = 1000,
    usd_per_hour: float = 0.0,
) -> Explorer:
    """Explore what a query costs; the start is T-Few's section 4.2. usd_per_hour: 0 for listed."""
    usd = float(usd_per_hour or prices.get("gpu", GPU).usd)
    known = [a for a in architectures.names() if architectures.get(a).kind != "encoder-only"]
    start: dict[str, Any] = {
        "icl_arch": icl_arch,
        "arch": arch,
        "shots": shots,
        "example_tokens": example_tokens,
    }
    start |= {"query_tokens": query_tokens, "cached": cached, "count": count, "queries": queries}
    look(**start, usd_per_hour=usd)  # what it refuses is said before a control is made
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
