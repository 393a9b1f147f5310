"""Designs and spaces against brute force, chi-square, and the paper's own tables."""

import itertools
import math
import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frugal.errors import FrugalError
from frugal.papers import tables
from frugal.spaces import design, space
from frugal.spaces.design import GROUP_SETS, METHOD_SETS, Design, Group, groupings, parse
from frugal.spaces.space import ALLOCATIONS, LEVELS, STAGES, Space, stage


def lies_in(found, of):
    """Whether the design `found` keeps to the constraints of the space `of`."""
    shares = [share for group in found.groups for share in group.shares]
    allowed = {
        None: shares,
        "increasing": sorted(shares),
        "uniform": shares[:1] * len(shares),
        "decreasing": sorted(shares, reverse=True),
    }
    return (
        found.layers == of.layers
        and (of.grouping is None or found.sizes in groupings(of.grouping, of.layers))
        and shares == allowed[of.allocation]
        and of.tuned in (None, tuple(n for n, g in enumerate(found.groups, start=1) if g.tuned))
        and all(
            wanted in (None, group.methods) or not group.tuned
            for wanted, group in zip(of.methods, found.groups, strict=False)
        )
    )


def by_hand(pattern, n):
    """Whether (N_1 … N_4) follows the pattern, in the words of the paper's section."""
    signs = tuple((b > a) - (b < a) for a, b in itertools.pairwise(n))
    return {
        "increasing": signs == (1, 1, 1),
        "uniform": signs == (0, 0, 0),
        "decreasing": signs == (-1, -1, -1),
        "spindle": signs == (1, 0, -1),
        "bottleneck": signs == (-1, 0, 1),
    }[pattern]


@pytest.mark.parametrize("layers", [6, 12, 24])
@pytest.mark.parametrize("pattern", design.PATTERNS)
def test_groupings_are_those_that_brute_force_finds(pattern, layers):
    everything = itertools.product(range(1, layers + 1), repeat=4)
    wanted = {n for n in everything if sum(n) == layers and by_hand(pattern, n)}
    found = groupings(pattern, layers)
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_the_papers_example_is_a_spindle():
    assert (3, 9, 9, 3) in groupings("spindle", 24)
    assert space.s4(24).sizes == (3, 9, 9, 3)
    assert space.s4(6).sizes == (1, 2, 2, 1)
    assert space.s4(12).sizes == (2, 4, 4, 2)


def test_weak_patterns_serve_models_with_few_layers():
    assert groupings("increasing", 6) == groupings("decreasing", 6) == ()
    assert groupings("weakly increasing", 6) == ((1, 1, 1, 3), (1, 1, 2, 2))
    assert groupings("weakly decreasing", 6) == ((2, 2, 1, 1), (3, 1, 1, 1))
    assert set(groupings("increasing", 24)) < set(groupings("weakly increasing", 24))


def chi_square(counts, expected):
    """Pearson's statistic; for k cells it exceeds k - 1 + 4 √(2 (k - 1)) about once in 30,000."""
    return sum((c - expected) ** 2 / expected for c in counts)


def bound(cells):
    return cells - 1 + 4 * math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize(("grouping", "layers"), [("spindle", 24), ("increasing", 24)])
def test_groupings_are_sampled_uniformly(grouping, layers):
    generator, cells = random.Random(0), groupings(grouping, layers)
    drawn = Counter(
        Space(layers, grouping).sample(generator).sizes for _ in range(100 * len(cells))
    )
    assert set(drawn) == set(cells)
    assert chi_square(drawn.values(), 100) < bound(len(cells))


def test_tuned_groups_and_methods_are_sampled_uniformly():
    generator, rounds = random.Random(0), 3000
    designs = [stage("S2", 6).sample(generator) for _ in range(rounds)]
    tuned = Counter(tuple(i + 1 for i, g in enumerate(d.groups) if g.tuned) for d in designs)
    assert set(tuned) == set(GROUP_SETS)
    assert chi_square(tuned.values(), rounds / 15) < bound(15)
    methods = Counter(g.methods for d in designs for g in d.groups if g.tuned)
    assert set(methods) == set(METHOD_SETS)
    assert chi_square(methods.values(), methods.total() / 15) < bound(15)


@pytest.mark.parametrize("allocation", [None, "increasing", "decreasing"])
def test_shares_are_sampled_uniformly(allocation):
    generator, generated = random.Random(0), Space(2, allocation=allocation)
    cells = [
        pair
        for pair in itertools.product(range(1, LEVELS + 1), repeat=2)
        if math.gcd(*pair) == 1 and (allocation is None or list(pair) == ordered(pair, allocation))
    ]
    drawn = Counter()
    while drawn.total() < 100 * len(cells):
        shares = [s for g in generated.sample(generator).groups for s in g.shares]
        if len(shares) == 2:
            drawn[tuple(shares)] += 1
    assert set(drawn) == set(cells)
    assert chi_square(drawn.values(), 100) < bound(len(cells))


def ordered(shares, allocation):
    return sorted(shares, reverse=allocation == "decreasing")


def every_design(layers, units):
    """All designs whose groups are those of `units`, (first, last) each, by brute force."""
    for choice in itertools.product(("", *METHOD_SETS), repeat=len(units)):
        free = [
            layer
            for (a, b), of in zip(units, choice, strict=True)
            if of
            for layer in range(a, b + 1)
        ]
        for shares in itertools.product(range(1, LEVELS + 1), repeat=len(free)):
            if not free or math.gcd(*shares) > 1:
                continue
            of_layer = dict(zip(free, shares, strict=True))
            yield Design(
                tuple(
                    Group(a, b, of, tuple(of_layer[i] for i in range(a, b + 1)) if of else ())
                    for (a, b), of in zip(units, choice, strict=True)
                )
            )


def test_s0_is_counted_as_brute_force_counts_it():
    found = list(every_design(2, [(1, 1), (2, 2)]))
    assert len(set(map(str, found))) == len(found) == stage("S0", 2).count()
    assert all(lies_in(d, stage("S0", 2)) for d in found)
    for allocation in ALLOCATIONS:
        those = Space(2, allocation=allocation)
        assert those.count() == sum(lies_in(d, those) for d in found)


def test_later_stages_are_counted_as_by_hand():
    """Six layers form one spindle; each group has one of 15 sets of methods, or none."""
    assert stage("S2", 6).count() == 16**4 - 1
    assert stage("S3", 6).count() == 15**4
    assert stage("S4", 6).count() == 1
    assert stage("S4", 24).count() == len(groupings("spindle", 24))


def test_s1_is_counted_as_brute_force_counts_it():
    tuned_one = Space(
        6, "spindle", tuned=(2,)
    )  # its two layers share: 64 pairs less common divisors
    pairs = sum(math.gcd(a, b) == 1 for a in range(1, 9) for b in range(1, 9))
    assert tuned_one.count() == 15 * pairs
    whole = sum(Space(6, "spindle", tuned=tuned).count() for tuned in GROUP_SETS)
    assert stage("S1", 6).count() == whole


@given(st.sampled_from(STAGES), st.sampled_from([6, 12, 24]), st.integers(0, 10**6))
def test_stages_nest_and_the_text_reads_back(name, layers, seed):
    drawn = stage(name, layers).sample(random.Random(seed))
    assert parse(str(drawn)) == drawn
    for other in STAGES:
        if other <= name:
            assert lies_in(drawn, stage(other, layers))


def test_text_is_the_papers():
    text = "G1[1-3]:A,L | G2[4-12]:A,P | G3[13-21]:A,P,B | G4[22-24]:P,B,L"
    assert str(space.s4(24)) == text
    assert parse("G1[1-3]:L,A|G2[4-12]:P,A@2,2,2,2,2,2,2,2,2|G3[13-21]:-") == parse(
        "G1[1-3]:A,L@1,1,1 | G2[4-12]:A,P@2,2,2,2,2,2,2,2,2 | G3[13-21]:-"
    )
    assert str(parse("G1[1]:A@4 | G2[2-3]:L@6,2")) == "G1[1]:A@2 | G2[2-3]:L@3,1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a group"),
        ("G1[1-3]:A | G3[4]:B", "'G3.4.:B' is not a group such as 'G2"),
        ("G1[1-3]:A,X", "methods are different ones of APBL"),
        ("G1[1-3]:A,A", "methods are different ones"),
        ("G1[1-3]:A | G2[5-6]:B", "G2: its layers are 5 to 6, but the next layer is 4"),
        ("G1[3-1]:A", "its layers are 3 to 1"),
        ("G1[1-3]:-", "nothing is tuned"),
        ("G1[1-3]:A@1,2", "2 shares for 3 layers"),
        ("G1[1-3]:-@1,2,3", "3 shares for 0 layers that are tuned"),
        ("G1[1]:A@0", "at least 1"),
        ("G1[1-201]:A", "layers must be at least 1 and at most 200, not 201"),
        ("G1[1]:A | G2[2-999999999]:-", "'G2.2-999999999.:-' is not a group"),
        (f"G1[{'9' * 5000}]:A", "is not a group"),
    ],
)
def test_bad_text_is_named(text, message):
    with pytest.raises(FrugalError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space(24, "spindel"), "did you mean 'spindle'"),
        (lambda: Space(3, "spindle"), "3 layers cannot form four groups"),
        (lambda: Space(24, tuned=(1,)), "choose a grouping"),
        (lambda: Space(24, "spindle", "equal"), "unknown allocation"),
        (lambda: Space(24, "spindle", tuned=(2, 1)), "not a set of the groups"),
        (lambda: Space(24, "spindle", methods=("LA", None, None, None)), "unknown set of methods"),
        (lambda: stage("S5", 24), "unknown stage"),
        (lambda: stage("S0", 0), "at least 1"),
        (lambda: groupings("spindle", 0), "at least 1"),
    ],
)
def test_bad_constraints_are_named(make, message):
    with pytest.raises(FrugalError, match=message):
        make()


def test_the_paper_tried_twelve_method_sets_and_nine_sets_of_groups():
    tried = design.tried("methods")
    assert len(tried) == 12
    assert set(METHOD_SETS) - set(tried) == {"AB", "PB", "BL"}
    groups = [tuple(map(int, g.split(","))) for g in design.tried("groups")]
    assert len(groups) == 9
    assert set(groups) <= set(GROUP_SETS)


def test_constraints_are_the_winners_of_the_papers_tables():
    def winner(name):
        rows = [r for r in tables.records(name) if r["column"] == "average"]
        return max(rows, key=lambda r: float(r["printed"]))["row"]

    paper = space.PAPER
    assert winner("spaces_table1_grouping").lower() == paper.grouping
    assert winner("spaces_table2_allocation").lower() == paper.allocation
    assert winner("spaces_table3_groups") == "G_1, G_2, G_3, G_4"
    for number, methods in enumerate(paper.methods, start=1):
        row = winner(f"spaces_strategy_g{number}")
        assert re.sub("[^APBL]", "", row.partition("(")[2]) == methods
