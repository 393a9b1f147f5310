"""Spaces of designs: what constraints leave free, counted and sampled.

Those of the paper fix one component after the other, so that each lies within the one before:

    S0  each layer by itself: tuned or not, its methods, its share of the parameters
    S1  four groups of layers, whose sizes follow a pattern; a group is tuned as one
    S2  shares that increase, are uniform or decrease from layer to layer
    S3  which groups are tuned
    S4  the methods of each group

Source: Chen et al., ICLR 2023.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from frugal.errors import FrugalError, unknown
from frugal.spaces.design import (
    GROUP_SETS,
    GROUPS,
    METHOD_SETS,
    Design,
    check_layers,
    grouped,
    groupings,
)

# Parameters of layer i + 1: n_{i+1} >= n_i, =, <=.
ALLOCATIONS = ("increasing", "uniform", "decreasing")
LEVELS = 8  # shares are whole numbers from 1 to this; the paper does not say how it draws them
STAGES = ("S0", "S1", "S2", "S3", "S4")


@dataclass(frozen=True)
class Space:
    """All designs on `layers` layers that keep to the constraints; None leaves a component free.

    grouping:   a pattern of PATTERNS or WEAK; without one, each layer is a group of its own
    allocation: of ALLOCATIONS
    tuned:      numbers of the groups that are tuned
    methods:    of groups 1 to 4; None where they are free, or the group is not tuned
    """

    layers: int
    grouping: str | None = None
    allocation: str | None = None
    tuned: tuple[int, ...] | None = None
    methods: tuple[str | None, ...] = (None, None, None, None)

    def __post_init__(self) -> None:
        check_layers(self.layers)
        if self.grouping is None:
            if self.tuned is not None or any(self.methods):
                raise FrugalError("tuned and methods speak of groups: choose a grouping first")
        elif not groupings(self.grouping, self.layers):
            raise FrugalError(
                f"{self.layers} layers cannot form four groups of {self.grouping} sizes"
            )
        if self.allocation is not None and self.allocation not in ALLOCATIONS:
            raise unknown("allocation", self.allocation, ALLOCATIONS)
        if self.tuned is not None and self.tuned not in GROUP_SETS:
            raise FrugalError(f"tuned: {self.tuned} is not a set of the groups 1 to 4, in order")
        for methods in self.methods:
            if methods is not None and methods not in METHOD_SETS:
                raise unknown("set of methods", methods, METHOD_SETS)

    def sample(self, generator: random.Random) -> Design:
        """A design at random. Uniform are: sizes of the groups among those of the pattern, the
        methods of a group among 15 sets, shares among those allowed; a group (in S0 a layer) is
        tuned with probability 1/2, at least one.

        Every choice is drawn, also where a constraint then overrules it: two spaces that differ
        in one constraint give, from the same state of `generator`, designs that share the rest.
        """
        sizes: Sequence[int] = (1,) * self.layers
        if self.grouping is not None:
            sizes = generator.choice(groupings(self.grouping, self.layers))
        numbers = range(1, len(sizes) + 1)
        tuned: set[int] = set()
        while not tuned:
            tuned = {n for n in numbers if generator.random() < 0.5}
        methods = [generator.choice(METHOD_SETS) for _ in numbers]
        if self.grouping is not None:
            tuned = set(self.tuned or tuned)
            methods = [given or own for given, own in zip(self.methods, methods, strict=True)]
        methods = [of if n in tuned else "" for n, of in zip(numbers, methods, strict=True)]
        shares = self._shares(sum(sizes[n - 1] for n in tuned), generator)
        return grouped(sizes, methods, shares)

    def _shares(self, layers: int, generator: random.Random) -> list[int]:
        """Shares of the tuned layers, uniform among those that have no common divisor."""
        if self.allocation == "uniform":
            return [1] * layers
        while True:
            if self.allocation is None:
                found = [generator.randint(1, LEVELS) for _ in range(layers)]
            else:  # sequences that never fall, one for each choice of places among n + LEVELS - 1
                places = sorted(generator.sample(range(layers + LEVELS - 1), layers))
                found = [1 + place - i for i, place in enumerate(places)]
                if self.allocation == "decreasing":
                    found.reverse()
            if math.gcd(*found) == 1:
                return found

    def count(self) -> int:
        """How many designs there are, shares being whole numbers from 1 to LEVELS."""
        if self.grouping is None:
            return sum(
                math.comb(self.layers, n) * len(METHOD_SETS) ** n * self._allotments(n)
                for n in range(1, self.layers + 1)
            )
        choices = [1 if methods else len(METHOD_SETS) for methods in self.methods]
        return sum(
            math.prod(choices[n - 1] for n in tuned)
            * self._allotments(sum(sizes[n - 1] for n in tuned))
            for sizes in groupings(self.grouping, self.layers)
            for tuned in ((self.tuned,) if self.tuned else GROUP_SETS)
        )

    def _allotments(self, layers: int, most: int = LEVELS) -> int:
        """How many lists of shares up to `most` so many layers can have.

        They are all lists, less those of each greatest common divisor d.
        """
        if self.allocation == "uniform":
            return 1
        free = self.allocation is None
        every = most**layers if free else math.comb(layers + most - 1, layers)
        return every - sum(self._allotments(layers, most // d) for d in range(2, most + 1))


# The winners of the paper's stages, its tables 1 to 3 and those of strategy assignment.
PAPER = Space(24, "spindle", "uniform", GROUPS, ("AL", "AP", "APB", "PBL"))


def stage(name: str, layers: int) -> Space:
    """The space S0 … S4 on a model of `layers` layers, with the paper's winners as constraints."""
    if name not in STAGES:
        raise unknown("stage", name, STAGES)
    fixed = ("grouping", "allocation", "tuned", "methods")[: STAGES.index(name)]
    return Space(layers, **{component: getattr(PAPER, component) for component in fixed})


def s4(layers: int) -> Design:
    """The paper's final design; of its grouping's sizes, those nearest to its own 3, 9, 9, 3 of 24.

    Where two are equally near, the one whose first group is larger.
    """
    space, wanted = stage("S4", layers), [share * layers / 24 for share in (3, 9, 9, 3)]
    sizes = min(reversed(groupings("spindle", layers)), key=partial(math.dist, wanted))
    return grouped(sizes, [methods or "" for methods in space.methods])
