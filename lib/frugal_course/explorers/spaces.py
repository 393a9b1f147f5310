"""A design of chapter 4: its parameters by layer, and what the paper printed for its choices."""

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from frugal.costs import arch as architectures
from frugal.errors import FrugalError, unknown
from frugal.papers import tables
from frugal.spaces import sizes as sizing
from frugal.spaces.design import METHOD_SETS, PATTERNS, WEAK, Design, Group, groupings
from frugal.spaces.space import ALLOCATIONS, LEVELS
from frugal_course.explorers.view import Controls, Explorer, View, choice, slider, start
from frugal_course.figures.style import (
    BLUE,
    BOX,
    GREEN,
    GREY,
    ORANGE,
    WIDE,
    beside,
    heading,
    panels,
)

NOTHING = "-"  # of a group that is not tuned
SETS = (NOTHING, *METHOD_SETS)
_LOOKS = {"A": (BLUE, ""), "P": (ORANGE, "//"), "B": (GREY, ".."), "L": (GREEN, "xx")}
_TABLES = {
    "grouping": "table1_grouping",
    "allocation": "table2_allocation",
    "groups tuned": "table3_groups",
    **{f"methods of G{n}": f"strategy_g{n}" for n in (1, 2, 3, 4)},
}


def written(grouping: str, layers: int) -> list[str]:
    """The sizes that four groups of `layers` layers can have, as "3, 9, 9, 3"; most even first."""
    found = sorted(groupings(grouping, layers), key=lambda sizes: max(sizes) - min(sizes))
    return [", ".join(map(str, sizes)) for sizes in found]


def patterns(layers: int) -> list[str]:
    """The patterns that `layers` layers can follow; ours stand behind the paper's."""
    return [name for name in (*PATTERNS, *WEAK) if groupings(name, layers)]


def design(
    grouping: str, sizes: str, allocation: str, methods: Sequence[str], layers: int
) -> Design:
    """The design with these choices; `methods` are four members of SETS.

    Shares of the parameters rise evenly from 1 to LEVELS over the tuned layers, or fall, or are
    equal. Raises FrugalError for choices that do not exist or do not go together.
    """
    if allocation not in ALLOCATIONS:
        raise unknown("allocation", allocation, ALLOCATIONS)
    if sizes not in (known := written(grouping, layers)):
        raise FrugalError(
            f"sizes: {sizes!r} are no four {grouping} groups of {layers} layers, which "
            f"{known[0] if known else 'nothing'} is"
        )
    for of in methods:
        if of not in SETS:
            raise unknown("set of methods", of, SETS)
    ends = list(itertools.accumulate(int(size) for size in sizes.split(",")))
    firsts = [1, *(end + 1 for end in ends[:-1])]
    each = [
        0 if of == NOTHING else end - first + 1
        for first, end, of in zip(firsts, ends, methods, strict=True)
    ]
    rise = [round(share) for share in np.linspace(1, LEVELS, sum(each))]
    shares = iter({"increasing": rise, "decreasing": rise[::-1]}.get(allocation, [1] * sum(each)))
    return Design(
        tuple(
            Group(first, end, of.replace(NOTHING, ""), tuple(itertools.islice(shares, count)))
            for first, end, of, count in zip(firsts, ends, methods, each, strict=True)
        )
    )


def published(grouping: str, allocation: str, methods: Sequence[str]) -> pd.DataFrame:
    """T5-base's printed averages over eight GLUE tasks: component, option, average, chosen.

    A choice that the paper did not try has no row that is chosen.
    """
    tuned = ",".join(str(n) for n, of in enumerate(methods, start=1) if of != NOTHING)
    chosen = {"grouping": grouping, "allocation": allocation, "groups tuned": tuned}
    chosen |= {f"methods of G{n}": of for n, of in enumerate(methods, start=1)}
    rows = []
    for component, name in _TABLES.items():
        for record in tables.records(f"spaces_{name}"):
            if record["column"] == "average":
                label = "S0" if record["row"].startswith("S_0") else record["row"].lower()
                option = record.get("methods") or record.get("groups") or label
                rows.append((component, option, float(record["printed"])))
    frame = pd.DataFrame(rows, columns=["component", "option", "average"])
    return frame.assign(chosen=frame["component"].map(chosen) == frame["option"])


def look(
    *,
    arch: str = "t5-base",
    grouping: str = "spindle",
    sizes: str = "3, 9, 9, 3",
    allocation: str = "uniform",
    g1: str = "AL",
    g2: str = "AP",
    g3: str = "APB",
    g4: str = "PBL",
    budget: float = 0.5,
) -> View:
    """A design's parameters against its budget, and the published scores of its choices.

    The paper's S4 on T5-base unless given. g1 … g4: members of SETS; budget: in per cent of the
    parameters of `arch`. Raises FrugalError
    for choices that do not go together, and for a budget that no sizes meet.
    """
    model, methods, layers = architectures.get(arch), (g1, g2, g3, g4), _layers(arch)
    chosen = design(grouping, sizes, allocation, methods, layers)
    sized = sizing.solve(chosen, model, budget / 100)
    parts = pd.DataFrame([part for part in sizing.parts(sized, model) if part["method"]])
    paper = published(grouping, allocation, methods)
    table = pd.DataFrame(
        [
            {
                "group": f"G{n}",
                "layers": f"{g.first}–{g.last}",
                "methods": ", ".join(g.methods) or "none",
                "sizes (widths, lengths, ranks)": _sizes(parts[parts["group"] == n]),
                "parameters": int(parts.loc[parts["group"] == n, "params"].sum()),
                "printed average of these methods": next(
                    iter(_average(paper, f"methods of G{n}")), None
                ),
            }
            for n, g in enumerate(chosen.groups, start=1)
        ]
    )
    each = parts.groupby("layer")["params"].sum()
    share = sized.params / sized.budget
    groups = re.sub(r"@[\d,]+", "", str(chosen))  # shares by layer are in the picture
    sentence = (
        f"{budget:g}% of {arch} are {sized.budget:,} parameters; {groups}, {allocation}, trains "
        f"{sized.params:,} ({share:.1%} of that), {each.min():,} to {each.max():,} in a tuned "
        f"layer. Published for T5-base, averages over 8 tasks: {_scores(paper, methods)}."
    )
    title = f"{grouping} {sizes}: {sized.params:,} parameters, {share:.1%} of the budget"
    return View(_figure(parts, paper, chosen, sized.budget / layers, title), sentence, table)


def _sizes(parts: pd.DataFrame) -> str:
    found = []
    for method, own in parts.groupby("method", sort=False)["size"]:
        low, high = own.min(), own.max()
        found.append(f"{method} {low}" + (f"–{high}" if high > low else ""))
    return ", ".join(f.replace("B 0", "B") for f in found)


def _average(paper: pd.DataFrame, component: str) -> "pd.Series[float]":
    return paper.loc[(paper["component"] == component) & paper["chosen"], "average"]


def _scores(paper: pd.DataFrame, methods: Sequence[str]) -> str:
    """Each choice with its printed average and the best one of that stage."""
    texts = []
    untuned = [f"methods of G{n}" for n, of in enumerate(methods, start=1) if of == NOTHING]
    for component, own in paper.groupby("component", sort=False):
        if component in untuned:
            continue
        mine, best = own[own["chosen"]], own.loc[own["average"].idxmax()]
        if mine.empty:
            texts.append(f"{component} not tried")
        elif mine["option"].iloc[0] == best["option"]:
            texts.append(f"{component} {best['option']} {best['average']} (the best)")
        else:
            own_text = f"{mine['option'].iloc[0]} {mine['average'].iloc[0]}"
            texts.append(f"{component} {own_text} (best: {best['option']} {best['average']})")
    return "; ".join(texts)


def _figure(
    parts: pd.DataFrame, paper: pd.DataFrame, chosen: Design, even: float, title: str
) -> Figure:
    figure, (at, printed) = panels(2, title, height=4.0, width=WIDE, width_ratios=[3, 2])
    _bars(at, parts, chosen)
    at.axhline(even, color=GREY, linewidth=1, linestyle=":")
    over: Any = {"up": 3, "ha": "right", "fontsize": 9, "bbox": {**BOX, "alpha": 0.85}}
    beside(at, "budget / layers", chosen.layers + 0.6, even, GREY, right=0, **over)
    components = list(dict.fromkeys(paper["component"]))
    for y, component in enumerate(components):
        own = paper[paper["component"] == component]
        rest, mine = own[~own["chosen"]]["average"], own[own["chosen"]]
        printed.plot(rest, [y] * len(rest), "o", color=GREY, markerfacecolor="white")
        for _, row in mine.iterrows():
            printed.plot(row["average"], y, "D", color=ORANGE, markerfacecolor="white", zorder=3)
            above: Any = {"right": 0, "up": 8, "ha": "center", "fontsize": 9}
            text = f"{row['option']} {row['average']}"
            beside(printed, text, row["average"], y, ORANGE, **above)
    printed.set(
        yticks=range(len(components)),
        yticklabels=components,
        ylim=(len(components) - 0.5, -0.8),
        xlabel="average over 8 tasks, T5-base",
    )
    printed.margins(x=0.1)
    printed.grid(visible=False)
    heading(printed, "published: ◇ this one")
    return figure


def _bars(at: Axes, parts: pd.DataFrame, chosen: Design) -> None:
    """A bar a layer, its methods on top of each other; names in the middle of each group."""
    bottom, top = dict.fromkeys(parts["layer"], 0.0), parts.groupby("layer")["params"].sum().max()
    for method, own in parts.groupby("method", sort=False):
        colour, hatch = _LOOKS[str(method)]
        at.bar(
            own["layer"],
            own["params"],
            bottom=[bottom[n] for n in own["layer"]],
            color=colour,
            hatch=hatch,
            edgecolor="white",
            width=0.9,
        )
        middle = {g.first + len(g.layers) // 2 for g in chosen.groups}
        for n, params in zip(own["layer"], own["params"], strict=True):
            if n in middle and params > 0.07 * top:  # there is room
                letters: Any = {"ha": "center", "fontsize": 9, "weight": "bold", "bbox": BOX}
                beside(at, str(method), n, bottom[n] + params / 2, right=0, **letters)
            bottom[n] += params
    for number, group in enumerate(chosen.groups, start=1):
        if number > 1:
            at.axvline(group.first - 0.5, color=GREY, linewidth=0.8)
        centre = (group.first + group.last) / 2
        at.annotate(f"G{number}", (centre, 1.06 * top), ha="center", color=GREY, fontsize=10)
    at.set(
        xlim=(0.4, chosen.layers + 0.6),
        ylim=(0, 1.15 * top),
        xlabel="layer (encoder, then decoder)",
        ylabel="trained parameters",
    )
    at.yaxis.set_major_formatter("{x:,.0f}")
    at.set_axisbelow(True)
    heading(at, "adapter, prefix, BitFit, LoRA")


def design_space(**given: Any) -> Explorer:
    """Explore designs; takes what `look` takes."""
    at = start(look, given)
    arch, grouping = at["arch"], at["grouping"]
    layers = _layers(arch)
    fitting = [name for name in architectures.names() if patterns(_layers(name))]
    labels = [(", ".join(s) if s != NOTHING else "not tuned", s) for s in SETS]
    controls = {
        "arch": choice("model", arch, fitting),
        "grouping": choice("pattern of groups", grouping, patterns(layers)),
        "sizes": choice("layers of the groups", at["sizes"], written(grouping, layers)),
        "allocation": choice("parameters by layer", at["allocation"], ALLOCATIONS),
        **{g: choice(f"methods of {g.upper()}", at[g], labels) for g in ("g1", "g2", "g3", "g4")},
        "budget": slider("budget, %", float(at["budget"]), 0.1, 5.0, 0.1),
    }
    return Explorer("design-space", look, controls, _follow)


def _layers(arch: str) -> int:
    model = architectures.get(arch)
    return model.layers + model.decoder_layers


def _follow(moved: str, controls: Controls) -> None:
    """Offer what goes with the model and the pattern; keep what is chosen where that can be."""
    layers = _layers(controls["arch"].value)
    _offer(controls["grouping"], patterns(layers))
    _offer(controls["sizes"], written(controls["grouping"].value, layers))


def _offer(control: Any, options: Sequence[str]) -> None:
    if control.options != tuple(options):
        kept = control.value
        control.options = options
        control.value = kept if kept in options else options[0]
