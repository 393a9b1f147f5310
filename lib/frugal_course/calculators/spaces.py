"""A design of chapter 4: its parameters by layer, and what the paper printed for its choices."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from frugal.costs import arch as architectures
from frugal.errors import FrugalError, unknown
from frugal.papers import tables
from frugal.spaces import sizes as sizing
from frugal.spaces.design import (
    GROUPS,
    LETTERS,
    METHOD_SETS,
    PATTERNS,
    WEAK,
    Design,
    Group,
    groupings,
)
from frugal.spaces.space import ALLOCATIONS, LEVELS
from frugal_course.calculators.answer import Answer, Calculator, Control, State, choice, slider
from frugal_course.calculators.picture import Axis, Bar, Mark, Panel, Picture, Rule

Record = dict[str, Any]

NOTHING = "-"  # of a group that is not tuned
SETS = (NOTHING, *METHOD_SETS)
_LOOKS: Record = {
    "A": ("blue", ""),
    "P": ("orange", "lines"),
    "B": ("grey", "dots"),
    "L": ("green", "crosses"),
}
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
    last = max(sum(each) - 1, 1)
    rise = [round(1 + (LEVELS - 1) * place / last) for place in range(sum(each))]
    shares = iter({"increasing": rise, "decreasing": rise[::-1]}.get(allocation, [1] * sum(each)))
    return Design(
        tuple(
            Group(first, end, of.replace(NOTHING, ""), tuple(itertools.islice(shares, count)))
            for first, end, of, count in zip(firsts, ends, methods, each, strict=True)
        )
    )


def published(grouping: str, allocation: str, methods: Sequence[str]) -> list[Record]:
    """T5-base's printed averages over eight GLUE tasks: component, option, average, chosen.

    A choice that the paper did not try has no record that is chosen.
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
                average = float(record["printed"])
                mine = {"component": component, "option": option, "average": average}
                rows.append(mine | {"chosen": chosen[component] == option})
    return rows


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
) -> Answer:
    """A design's parameters against its budget, and the published scores of its choices.

    The paper's S4 on T5-base unless given. g1 … g4: members of SETS; budget: in per cent of the
    parameters of `arch`. Raises FrugalError for choices that do not go together, and for a budget
    that no sizes meet.
    """
    model, methods, layers = architectures.get(arch), (g1, g2, g3, g4), _layers(arch)
    chosen = design(grouping, sizes, allocation, methods, layers)
    sized = sizing.solve(chosen, model, budget / 100)
    parts = [part for part in sizing.parts(sized, model) if part["method"]]
    paper = published(grouping, allocation, methods)
    each: dict[int, int] = {}  # parameters by layer
    for part in parts:
        each[part["layer"]] = each.get(part["layer"], 0) + part["params"]
    rows = []
    for n, group in enumerate(chosen.groups, start=1):
        own = [part for part in parts if part["group"] == n]
        printed = (
            r["average"] for r in paper if r["chosen"] and r["component"] == f"methods of G{n}"
        )
        rows.append(
            {
                "group": f"G{n}",
                "layers": f"{group.first}–{group.last}",
                "methods": ", ".join(group.methods) or "none",
                "sizes (widths, lengths, ranks)": _sizes(own),
                "parameters": sum(part["params"] for part in own),
                "printed average of these methods": next(printed, None),
            }
        )
    share, least, most = sized.params / sized.budget, min(each.values()), max(each.values())
    groups = re.sub(r"@[\d,]+", "", str(chosen))  # shares by layer are in the picture
    sentence = (
        f"{budget:g}% of {arch} are {sized.budget:,} parameters; {groups}, {allocation}, trains "
        f"{sized.params:,} ({share:.1%} of that), {least:,} to {most:,} in a tuned "
        f"layer. Published for T5-base, averages over 8 tasks: {_scores(paper, methods)}."
    )
    title = f"{grouping} {sizes}: {sized.params:,} parameters, {share:.1%} of the budget"
    picture = Picture(title, [_budgeted(parts, chosen, sized.budget / layers), _printed(paper)])
    return Answer(picture, sentence, rows)


def _sizes(parts: Sequence[Record]) -> str:
    sizes: dict[str, list[int]] = {}
    for part in parts:
        sizes.setdefault(part["method"], []).append(part["size"])
    found = [
        f"{method} {min(own)}" + (f"–{max(own)}" if max(own) > min(own) else "")
        for method, own in sizes.items()
    ]
    return ", ".join(f.replace("B 0", "B") for f in found)


def _by_component(paper: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in paper:
        found.setdefault(record["component"], []).append(record)
    return found


def _scores(paper: Sequence[Record], methods: Sequence[str]) -> str:
    """Each choice with its printed average and the best one of that stage."""
    texts = []
    untuned = [f"methods of G{n}" for n, of in enumerate(methods, start=1) if of == NOTHING]
    for component, own in _by_component(paper).items():
        if component in untuned:
            continue
        mine = next((record for record in own if record["chosen"]), None)
        best = max(own, key=lambda record: record["average"])
        if mine is None:
            texts.append(f"{component} not tried")
        elif mine["option"] == best["option"]:
            texts.append(f"{component} {best['option']} {best['average']} (the best)")
        else:
            own_text = f"{mine['option']} {mine['average']}"
            texts.append(f"{component} {own_text} (best: {best['option']} {best['average']})")
    return "; ".join(texts)


def _budgeted(parts: Sequence[Record], chosen: Design, even: float) -> Panel:
    """A bar a layer, its methods on top of each other; names in the middle of each group."""
    bottom = dict.fromkeys((part["layer"] for part in parts), 0)
    middle = {g.first + len(g.layers) // 2 for g in chosen.groups}
    bars = []
    for part in sorted(parts, key=lambda part: LETTERS.index(part["method"])):
        n, method, low = part["layer"], part["method"], bottom[part["layer"]]
        bottom[n] += part["params"]
        colour, pattern = _LOOKS[method]
        bars.append(
            Bar(n - 0.45, low, n + 0.45, bottom[n], colour, pattern, method * (n in middle))
        )
    top = max(bottom.values())
    bars = [b if b.top - b.bottom > 0.07 * top else replace(b, text="") for b in bars]  # no room
    borders = [
        Rule("x", group.first - 0.5, f"G{number}")
        for number, group in enumerate(chosen.groups, start=1)
    ]
    return Panel(
        "adapter, prefix, BitFit, LoRA",
        Axis("layer (encoder, then decoder)", 0.4, chosen.layers + 0.6),
        Axis("trained parameters", 0, 1.2 * max(top, even)),
        [*bars, *borders, Rule("y", even, "budget / layers")],
        share=3,
    )


def _printed(paper: Sequence[Record]) -> Panel:
    """The published averages: this choice among the others of each component."""
    marks, names = [], []
    found = _by_component(paper)
    for y, (component, own) in enumerate(reversed(found.items())):
        names.append((y, component))
        for record in sorted(own, key=lambda record: record["chosen"]):
            average = record["average"]
            if record["chosen"]:
                text = f"{record['option']} {average}"
                marks.append(Mark(average, y, "orange", "diamond", False, text, "above"))
            else:
                marks.append(Mark(average, y, "grey", "circle", False))
    averages = [record["average"] for record in paper]
    return Panel(
        "published: ◇ this one",
        Axis("average over 8 tasks, T5-base", min(averages) - 2, max(averages) + 3),
        Axis("", -0.5, len(names) - 0.3, ticks=names),
        marks,
        share=2,
    )


def controls(state: State, moved: str) -> list[Control]:
    """What goes with the model and the pattern; what is chosen is kept where that can be."""
    arch = state["arch"]
    layers = _layers(arch)
    # Four layers are four groups, "uniform"; more of them can at least rise weakly.
    fitting = [name for name in architectures.names() if _layers(name) >= len(GROUPS)]
    labels = [(", ".join(s) if s != NOTHING else "not tuned", s) for s in SETS]
    known = patterns(layers)
    grouping = state["grouping"] if state["grouping"] in known else known[0]
    sizes = written(grouping, layers)
    return [
        choice("arch", "model", arch, fitting),
        choice("grouping", "pattern of groups", grouping, known),
        choice(
            "sizes",
            "layers of the groups",
            state["sizes"] if state["sizes"] in sizes else sizes[0],
            sizes,
        ),
        choice("allocation", "parameters by layer", state["allocation"], ALLOCATIONS),
        *(choice(g, f"methods of {g.upper()}", state[g], labels) for g in ("g1", "g2", "g3", "g4")),
        slider("budget", "budget, %", float(state["budget"]), 0.1, 5.0, 0.1),
    ]


def _layers(arch: str) -> int:
    model = architectures.get(arch)
    return model.layers + model.decoder_layers


CALCULATOR = Calculator("design-space", "Where a design's parameters go", look, controls)
