"""Designs: which layers form groups, which groups are tuned, by which methods, in which shares.

A design is written `G1[1-3]:A,L | G2[4-12]:A,P | G3[13-21]:- | G4[22-24]:P,B,L`: layers from 1, an
encoder–decoder's decoder behind its encoder; A adapter, P prefix, B BitFit, L LoRA; "-" where
nothing is tuned. Where the layers' shares of the parameters differ, they follow: `G1[1-2]:A@1,3`.

Source: Chen et al., ICLR 2023.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from frugal import data
from frugal.errors import FrugalError, unknown

METHODS = {"A": "adapter", "P": "prefix", "B": "bitfit", "L": "lora"}
LETTERS = "".join(METHODS)
# The 15 non-empty sets of methods, and of groups, smallest first.
METHOD_SETS = tuple("".join(s) for n in range(1, 5) for s in itertools.combinations(LETTERS, n))
GROUPS = (1, 2, 3, 4)
MOST_LAYERS = 200  # of a model, both stacks together; every one is written down and looked at
GROUP_SETS = tuple(s for n in GROUPS for s in itertools.combinations(GROUPS, n))

Sizes = tuple[int, int, int, int]
# N_1 … N_4 layers of the groups, section "layer grouping".
PATTERNS: dict[str, Callable[[int, int, int, int], bool]] = {
    "increasing": lambda a, b, c, d: a < b < c < d,
    "uniform": lambda a, b, c, d: a == b == c == d,
    "decreasing": lambda a, b, c, d: a > b > c > d,
    "spindle": lambda a, b, c, d: a < b == c > d,
    "bottleneck": lambda a, b, c, d: a > b == c < d,
}
# Ours, for models with fewer than the ten layers that 1 < 2 < 3 < 4 takes.
WEAK: dict[str, Callable[[int, int, int, int], bool]] = {
    "weakly increasing": lambda a, b, c, d: a <= b <= c <= d and a < d,
    "weakly decreasing": lambda a, b, c, d: a >= b >= c >= d and a > d,
}


@dataclass(frozen=True)
class Group:
    """Layers `first` to `last`, counted from 1, that are tuned alike or not at all.

    methods: a member of METHOD_SETS, "" where the group is not tuned
    shares:  of each layer in the parameters, relative to each other; () where not tuned
    """

    first: int
    last: int
    methods: str = ""
    shares: tuple[int, ...] = ()

    @property
    def layers(self) -> range:
        return range(self.first, self.last + 1)

    @property
    def tuned(self) -> bool:
        return bool(self.methods)


def check_layers(layers: int) -> None:
    """Raise FrugalError for a number of layers that no model here has."""
    if not 1 <= layers <= MOST_LAYERS:
        raise FrugalError(f"layers must be at least 1 and at most {MOST_LAYERS}, not {layers}")


@dataclass(frozen=True)
class Design:
    """Groups that cover all layers, in order; shares have no common divisor over all of them."""

    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        expected = 1
        for number, group in enumerate(self.groups, start=1):
            if group.first != expected or group.last < group.first:
                raise FrugalError(
                    f"G{number}: its layers are {group.first} to {group.last}, but the next "
                    f"layer is {expected}"
                )
            if group.methods and group.methods not in METHOD_SETS:
                raise FrugalError(
                    f"G{number}: methods are different ones of {LETTERS}, not {group.methods!r}"
                )
            tuned = len(group.layers) if group.methods else 0
            if len(group.shares) != tuned:
                raise FrugalError(
                    f"G{number}: {len(group.shares)} shares for {tuned} layers that are tuned"
                )
            expected = group.last + 1
        check_layers(expected - 1)
        shares = [share for group in self.groups for share in group.shares]
        if not shares:
            raise FrugalError("nothing is tuned")
        if min(shares) < 1:
            raise FrugalError(f"a share must be at least 1, not {min(shares)}")
        divisor = math.gcd(*shares)
        if divisor > 1:  # one way to write each design
            reduced = tuple(
                replace(g, shares=tuple(share // divisor for share in g.shares))
                for g in self.groups
            )
            object.__setattr__(self, "groups", reduced)

    @property
    def layers(self) -> int:
        """How many layers there are, tuned or not."""
        return self.groups[-1].last

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many layers each group has."""
        return tuple(len(g.layers) for g in self.groups)

    def tuned_layers(self) -> dict[int, tuple[str, int]]:
        """Methods and share of each tuned layer, counted from 1."""
        return {
            layer: (group.methods, share)
            for group in self.groups
            for layer, share in zip(group.layers, group.shares, strict=False)
        }

    def __str__(self) -> str:
        parts = []
        for number, g in enumerate(self.groups, start=1):
            layers = f"{g.first}-{g.last}" if g.last > g.first else f"{g.first}"
            shares = f"@{','.join(map(str, g.shares))}" if set(g.shares) - {1} else ""
            parts.append(f"G{number}[{layers}]:{','.join(g.methods) or '-'}{shares}")
        return " | ".join(parts)


_GROUP = re.compile(
    r"\s*G(?P<number>\d{1,4})\[(?P<first>\d{1,4})(?:-(?P<last>\d{1,4}))?\]:"
    r"(?P<methods>-|[A-Z](?:,[A-Z])*)(?:@(?P<shares>\d{1,9}(?:,\d{1,9})*))?\s*"
)


def parse(text: str) -> Design:
    """The design written as `text`; FrugalError that names the part which cannot be read."""
    groups = []
    for number, part in enumerate(text.split("|"), start=1):
        found = _GROUP.fullmatch(part)
        if not found or int(found["number"]) != number:
            raise FrugalError(f"{part.strip()!r} is not a group such as 'G{number}[1-3]:A,L'")
        first, last = int(found["first"]), int(found["last"] or found["first"])
        methods = "".join(sorted(re.sub("[-,]", "", found["methods"]), key=LETTERS.find))
        shares = (1,) * (last - first + 1) if methods else ()
        if found["shares"]:
            shares = tuple(map(int, found["shares"].split(",")))
        groups.append(Group(first, last, methods, shares))
    return Design(tuple(groups))


@lru_cache
def groupings(pattern: str, layers: int) -> tuple[Sizes, ...]:
    """All sizes (N_1, N_2, N_3, N_4) of `layers` layers that follow `pattern`, in order."""
    known = PATTERNS | WEAK
    if pattern not in known:
        raise unknown("grouping pattern", pattern, known)
    check_layers(layers)
    cuts = itertools.combinations(range(1, layers), 3)
    found = ((a, b - a, c - b, layers - c) for a, b, c in cuts)
    return tuple(sizes for sizes in found if known[pattern](*sizes))


# Where the paper lists what it tried for a component of a design.
_TRIED = {"methods": "spaces_strategy_g1", "groups": "spaces_table3_groups"}


def tried(component: Literal["methods", "groups"]) -> tuple[str, ...]:
    """What the paper's tables list: "methods" as members of METHOD_SETS, "groups" as "1,2,3"."""
    rows = data.rows(f"papers/{_TRIED[component]}.csv")
    return tuple(dict.fromkeys(row[component] for row in rows))


def grouped(
    sizes: Sequence[int], methods: Sequence[str], shares: Iterable[int] | None = None
) -> Design:
    """Groups of these sizes, tuned by these methods, "" where not.

    shares: of the tuned layers in order; the same for all unless given
    """
    left = itertools.repeat(1) if shares is None else iter(shares)
    groups, last = [], 0
    for size, of in zip(sizes, methods, strict=True):
        first, last = last + 1, last + size
        own = tuple(itertools.islice(left, size)) if of else ()
        groups.append(Group(first, last, of, own))
    return Design(tuple(groups))
