"""Which texts to label: against slow and obvious versions, and on texts that lie in plain heaps."""

import pytest
import torch

from frugal import tasks
from frugal.choice import active
from frugal.engine import backbones
from frugal.errors import FrugalError

STATES = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))


def test_those_whose_best_two_choices_are_nearest_are_unsure():
    scores = torch.tensor([[0.0, -5, -1], [-2, -2.1, -9], [-3, -1, -torch.inf], [-4, -4, -4]])
    assert active.unsure(scores, 3) == [3, 1, 0]
    assert active.unsure(scores, 4)[-1] == 2


def test_each_is_the_farthest_from_those_before_it():
    found = active.farthest(STATES, 12)
    mean = STATES.mean(0)
    chosen = [min(range(40), key=lambda i: float((STATES[i] - mean).norm()))]
    while len(chosen) < 12:
        left = [i for i in range(40) if i not in chosen]
        chosen.append(
            max(left, key=lambda i: min(float((STATES[i] - STATES[j]).norm()) for j in chosen))
        )
    assert found == chosen
    assert len(set(active.farthest(STATES[:1].repeat(6, 1), 6))) == 6


def test_one_of_each_heap_is_typical():
    heaps = torch.arange(6).repeat_interleave(7)
    states = 100.0 * torch.eye(6)[heaps] + torch.randn(42, 6, generator=torch.manual_seed(0))
    for seed in range(5):
        found = active.typical(states, 6, seed)
        assert sorted(heaps[found].tolist()) == list(range(6))
        for i in found:
            centre = states[heaps == heaps[i]].mean(0)
            apart = (states[heaps == heaps[i]] - centre).norm(dim=1)
            assert (states[i] - centre).norm() == apart.min()
    assert sorted(active.typical(states, 42)) == list(range(42))
    assert len(set(active.typical(states[:1].repeat(6, 1), 4))) == 4


@pytest.mark.parametrize("choose", [active.unsure, active.farthest, active.typical])
@pytest.mark.parametrize(("count", "message"), [(41, "41 texts to label, but"), (0, "at least 1")])
def test_more_texts_than_there_are_and_none_are_refused(choose, count, message):
    with pytest.raises(FrugalError, match=message):
        choose(STATES, count)


def test_a_study_pairs_the_draws_of_all_choosers(tiny):
    encoder = backbones.load("tiny-encoder", device="cpu")
    how = {"labels": 4, "pool": 8, "draws": 3, "limit": 12}
    runs = active.study(tasks.load("first-letter"), tiny, encoder, **how)
    assert len(runs) == 3 * len(active.CHOOSERS)
    assert set(runs["pool"]) == {8}
    apart = active.against_random(runs)
    means = runs.groupby("chooser")["accuracy"].mean()
    assert {who for _, who in apart} == set(active.CHOOSERS) - {"random"}
    for (_, who), found in apart.items():
        assert found.difference == pytest.approx(means[who] - means["random"])
        assert (found.draws, found.texts) == (3, 12)
