"""Budgets are met by whole ranks and widths, or an error says why they cannot be."""

import random

import pytest

from frugal.costs import arch
from frugal.errors import FrugalError
from frugal.spaces import sizes
from frugal.spaces.design import parse
from frugal.spaces.space import STAGES, stage

ARCHS = ["minilm-l6", "t5-base", "roberta-base", "t0-3b"]


def counted(found, a):
    """Parameters, written out once more."""
    total = 0
    for layer, of in found.sizes.items():
        d, d_q, d_kv, cross = a.d_model, a.d_q, a.d_kv, layer > a.layers
        for method, size in of.items():
            if method == "A":
                total += d * size + size + size * d + d
            if method == "P":
                total += size * 2 * d_kv * (1 + cross)
            if method == "L":
                total += ((d + d_q) * size + (d + d_kv) * size) * (1 + cross)
            if method == "B":
                total += (d_q + d_kv + d_kv + d) * (1 + cross)
                total += a.d_ff * (2 if a.gated else 1) + d
                total += 2 * d if a.family == "bert" else 0
    return total


@pytest.mark.parametrize("name", ARCHS)
@pytest.mark.parametrize("which", STAGES)
def test_designs_meet_the_budget_within_two_percent(name, which):
    a = arch.get(name)
    drawn = sizes.draw(stage(which, a.layers + a.decoder_layers), a, 30, seed=0)
    for found in drawn:
        assert found.budget == round(0.005 * a.params)
        assert found.params == pytest.approx(found.budget, rel=0.02)
        assert counted(found, a) == found.params
        assert found.sizes.keys() == found.design.tuned_layers().keys()
        for of in found.sizes.values():
            assert all((size == 0) == (method == "B") for method, size in of.items())


def test_layers_get_what_their_shares_say():
    a = arch.get("t5-base")
    found = sizes.solve(parse("G1[1-24]:A@" + ",".join(map(str, range(1, 25)))), a)
    for layer, of in found.sizes.items():
        fair = found.budget * layer / sum(range(1, 25))
        step = sizes.costs(a, layer)["A"].unit
        assert abs(a.d_model + step * of["A"] - fair) <= step


def test_what_bitfit_leaves_goes_to_the_others_in_proportion():
    a = arch.get("minilm-l6")
    found = sizes.solve(parse("G1[1-2]:B | G2[3-4]:A | G3[5]:- | G4[6]:A@2"), a)
    bias = sizes.costs(a, 1)["B"].fixed
    assert found.sizes[1] == {"B": 0}
    assert bias == 9 * 384 + 1536 - 384 * 2 == 4224
    each = (found.budget - 2 * bias) / 4
    for layer, parts in ((3, 1), (4, 1), (6, 2)):
        assert 769 * found.sizes[layer]["A"] + 384 == pytest.approx(parts * each, abs=769)


@pytest.mark.parametrize(
    ("text", "budget", "message"),
    [
        ("G1[1-6]:B", 0.005, r"113,566 parameters, but BitFit has no size and takes 25,344"),
        ("G1[1-6]:A,L", 0.0005, r"11,357 parameters, but the smallest sizes take"),
        ("G1[1]:L | G2[2-6]:-", 0.0001, r"one step of its sizes is 1,536: the nearest is 1,536"),
        ("G1[1-12]:A", 0.005, "the design has 12 layers, minilm-l6 has 6"),
        ("G1[1-6]:A", 0, "budget must be a share"),
        ("G1[1-6]:A", 1.5, "budget must be a share"),
    ],
)
def test_a_budget_that_cannot_be_met_is_explained(text, budget, message):
    with pytest.raises(FrugalError, match=message):
        sizes.solve(parse(text), arch.get("minilm-l6"), budget)


def test_tolerance_takes_what_there_is():
    a = arch.get("minilm-l6")
    assert sizes.solve(parse("G1[1-6]:B"), a, tolerance=1).params == 25_344


def test_a_draw_is_the_start_of_a_longer_one_and_gives_up_in_the_end():
    a = arch.get("minilm-l6")
    short, longer = (sizes.draw(stage("S1", 6), a, n, seed=3) for n in (4, 9))
    assert longer[:4] == short
    assert short != sizes.draw(stage("S1", 6), a, 4, seed=4)
    assert random.Random(0).random() == 0.8444218515250481  # the generator the draws rest on
    with pytest.raises(FrugalError, match="smallest sizes take"):
        sizes.draw(stage("S4", 6), a, 1, seed=0, budget=1e-5)
