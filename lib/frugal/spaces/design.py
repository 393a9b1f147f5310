"""Designs: which layers form groups, which groups are tuned, by which methods, in which shares.

A design is written `G1[1-3]:A,L | G2[4-12]:A,P | G3[13-21]:- | G4[22-24]:P,B,L`: layers from 1, an
encoder–decoder's decoder behind its encoder; A adapter, P prefix, B BitFit, L LoRA; "-" where
nothing is tuned. Where the layers' shares of the parameters differ, they follow: `G1[1-2]:A@1,3`.

Source: Chen et al., ICLR 2023.
"""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

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


def _check_layers(layers: int) -> None:
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
                raise FrugalError(f"G{number}: {group.methods!r} is not a set of {LETTERS}")
            layers = group.last - group.first + 1
            if len(group.shares) != (layers if group.methods else 0):
                raise FrugalError(f"G{number}: {len(group.shares)} shares for {layers} layers")
            expected = group.last + 1
        _check_layers(expected - 1)
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
        return " | ".join(_written(n, g) for n, g in enumerate(self.groups, start=1))


def _written(number: int, group: Group) -> str:
    layers = f"{group.first}-{group.last}" if group.last > group.first else f"{group.first}"
    text = f"G{number}[{layers}]:{','.join(group.methods) or '-'}"
    if set(group.shares) - {1}:
        text += f"@{','.join(map(str, group.shares))}"
    return text


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
        letters = "" if found["methods"] == "-" else found["methods"].replace(",", "")
        for letter in letters:
            if letter not in METHODS or letters.count(letter) > 1:
                raise FrugalError(f"{part.strip()!r}: methods are different ones of {LETTERS}")
        first, last = int(found["first"]), int(found["last"] or found["first"])
        shares: tuple[int, ...] = ()
        if letters:
            given = found["shares"]
            ones = (1,) * (last - first + 1)
            shares = tuple(map(int, given.split(","))) if given else ones
        elif found["shares"]:
            raise FrugalError(f"{part.strip()!r}: shares of layers that are not tuned")
        methods = "".join(sorted(letters, key=LETTERS.index))
        groups.append(Group(first, last, methods, shares))
    return Design(tuple(groups))


@lru_cache
def groupings(pattern: str, layers: int) -> tuple[Sizes, ...]:
    """All sizes (N_1, N_2, N_3, N_4) of `layers` layers that follow `pattern`, in order."""
    known = PATTERNS | WEAK
    if pattern not in known:
        raise unknown("grouping pattern", pattern, known)
    _check_layers(layers)
    cuts = itertools.combinations(range(1, layers), 3)
    found = ((a, b - a, c - b, layers - c) for a, b, c in cuts)
    return tuple(sizes for sizes in found if known[pattern](*sizes))


# Where the paper lists what it tried for a component of a design.
_TRIED = {"methods": "spaces_strategy_g1", "groups": "spaces_table3_groups"}


def tried(component: str) -> tuple[str, ...]:
    """What the paper's tables list: "methods" as members of METHOD_SETS, "groups" as "1,2,3"."""
    if component not in _TRIED:
        raise unknown("component", component, _TRIED)
    rows = data.rows(f"papers/{_TRIED[component]}.csv")
    return tuple(dict.fromkeys(row[component] for row in rows))


def single(method: str, layers: int) -> Design:
    """One method, by letter, in all layers alike."""
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    return Design((Group(1, layers, method, (1,) * layers),))


def grouped(sizes: Sequence[int], methods: Sequence[str]) -> Design:
    """Groups of these sizes, tuned by these methods, all layers with the same share."""
    ends = itertools.accumulate(sizes)
    return Design(
        tuple(
            Group(end - size + 1, end, of, (1,) * size)
            for size, end, of in zip(sizes, ends, methods, strict=True)
        )
    )
