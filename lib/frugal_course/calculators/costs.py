"""What a query costs: in-context learning beside T-Few, in FLOPs, dollars and memory."""

import math
from collections.abc import Mapping

from frugal.costs import Scenario, memory, prices, scenario
from frugal.costs import arch as architectures
from frugal_course.calculators.answer import (
    Answer,
    Calculator,
    Control,
    State,
    choice,
    number,
    slider,
    tick,
    written,
)
from frugal_course.calculators.picture import Axis, Line, Mark, Panel, Picture, Rule


def look(
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
) -> Answer:
    """ICL, T-Few and zero-shot on the same queries; the start is T-Few's section 4.2.

    The arguments are fields of `costs.Scenario`, models by name. cached: whether ICL keeps the keys
    and values of its examples; usd_per_hour: 0 for the listed price. Raises FrugalError for
    nonsense.
    """
    question = Scenario(
        arch=architectures.get(arch),
        icl_arch=architectures.get(icl_arch),
        shots=shots,
        example_tokens=example_tokens,
        query_tokens=query_tokens,
        cached=cached,
        count=count,
        queries=queries,
        usd_per_hour=usd_per_hour or listed(),
    )
    options = {option.name: option for option in question.compare()}
    way = "icl-cached" if cached else "icl"
    icl, tuned = options[way], options["t-few"]
    names = {
        f"ICL, {icl_arch}{', cached' * cached}": icl,
        f"T-Few, {arch}": tuned,
        f"zero-shot, {arch}": options["zero-shot"],
    }
    rows = [
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
    drawn = dict([*names.items()][:2])
    return Answer(_picture(drawn, paid, queries, verdict), sentence, rows)


def _picture(
    ways: Mapping[str, scenario.Option], paid: int | None, queries: int, title: str
) -> Picture:
    """FLOPs in all against queries, ICL and T-Few."""
    most = 10 ** math.ceil(max(4.0, math.log10(max(queries, 1)), math.log10(paid or 1)))
    grid = [most ** (i / 40) for i in range(41)]
    things: list[Line | Mark | Rule] = [Rule("x", max(queries, 1), f"{queries:,} queries")]
    spent = []
    for (name, o), (colour, dash) in zip(
        ways.items(), (("blue", ""), ("orange", "dashed")), strict=True
    ):
        points = [(n, o.once + n * o.query_flops) for n in grid]
        spent += [points[0][1], points[-1][1]]
        things.append(Line(points, colour, name, dash))  # type: ignore[arg-type]
    if paid:
        at = ways[[*ways][1]].spent(paid)
        things.append(Mark(paid, at, "black", "cross", text=f"{paid:,} queries", place="below"))
    y = Axis("FLOPs in all, training included", min(spent) / 3, max(spent) * 10, log=True)
    return Picture(title, [Panel("", Axis("queries answered", 1, most, log=True), y, things)])


def _usd(option: scenario.Option) -> str:
    return f"${option.usd:,.2f}" if option.usd >= 0.01 else f"${option.usd:.1g}"


def _room(option: scenario.Option) -> str:
    where = f"from {option.fits_on[0]} on" if option.fits_on else "on no single GPU"
    return f"{option.memory_bytes / memory.GIB:,.3g} GiB ({where})"


def listed() -> float:
    """USD of an hour of the GPU that T-Few counts with."""
    return float(prices.get("gpu", Scenario.gpu).usd)


def controls(state: State, moved: str) -> list[Control]:
    """None follows another."""
    known = [a for a in architectures.names() if architectures.get(a).kind != "encoder-only"]
    usd = float(state["usd_per_hour"] or listed())
    return [
        choice("icl_arch", "ICL prompts", state["icl_arch"], known),
        choice("arch", "T-Few tunes", state["arch"], known),
        slider("shots", "examples (shots)", state["shots"], 0, 100, 1),
        slider("example_tokens", "tokens of an example", state["example_tokens"], 1, 512, 1),
        slider("query_tokens", "tokens of a query", state["query_tokens"], 1, 512, 1),
        tick("cached", "examples cached", state["cached"]),
        choice("count", "count of FLOPs", state["count"], scenario.COUNTS),
        number("queries", "queries to answer", state["queries"], 10**9, step=100),
        number("usd_per_hour", "USD for a GPU hour", usd, 1000.0, step=0.1),
    ]


CALCULATOR = Calculator("icl-cost", "What a query costs", look, controls)
