"""The three losses against their definitions, written out slowly in float64."""

import math

import pytest
import torch

from frugal.errors import FrugalError
from frugal.fewshot import losses
from frugal.fewshot.choices import ChoiceScores


def scores(logps, correct, example, requires_grad=False):
    """ChoiceScores of choices with these token log-probabilities."""
    flat = torch.tensor([lp for choice in logps for lp in choice], requires_grad=requires_grad)
    lengths = torch.tensor([len(choice) for choice in logps])
    return ChoiceScores(
        token_logp=flat,
        choice=torch.repeat_interleave(torch.arange(len(logps)), lengths),
        example=torch.tensor(example),
        correct=torch.tensor(correct),
        tokens_computed=0,
    )


# Two examples: three choices of 2, 1 and 3 tokens, and two choices of 1 and 2.
LOGPS = [[-0.1, -2.0], [-3.0], [-0.5, -0.2, -4.0], [-1.5], [-0.7, -0.9]]
CORRECT = [False, True, False, False, True]
EXAMPLE = [0, 0, 0, 1, 1]


def slow():
    """Each loss per example by the paper's formulas."""
    lm, ul, ln = [], [], []
    for e in (0, 1):
        mine = [(lp, c) for lp, c, x in zip(LOGPS, CORRECT, EXAMPLE, strict=True) if x == e]
        right = next(lp for lp, c in mine if c)
        wrong = [lp for lp, c in mine if not c]
        lm.append(-sum(right) / len(right))
        terms = [math.log(1 - math.exp(t)) for lp in wrong for t in lp]
        ul.append(-sum(terms) / len(terms))
        beta = [sum(lp) / len(lp) for lp, _ in mine]
        top = sum(right) / len(right)
        ln.append(-math.log(math.exp(top) / sum(math.exp(b) for b in beta)))
    return {
        "lm": sum(lm) / 2,
        "unlikelihood": sum(ul) / 2,
        "length_normalized": sum(ln) / 2,
    }


@pytest.mark.parametrize("name", losses.LOSSES)
def test_losses_are_the_papers(name):
    found = losses.LOSSES[name](scores(LOGPS, CORRECT, EXAMPLE))
    assert found.item() == pytest.approx(slow()[name], rel=1e-6)


def test_official_variants_are_the_released_codes():
    s = scores(LOGPS, CORRECT, EXAMPLE)
    tokens = [t for lp, c in zip(LOGPS, CORRECT, strict=True) if c for t in lp]
    assert losses.lm_loss(s, "official").item() == pytest.approx(-sum(tokens) / len(tokens))
    # As released: a padded table of 5 choices × 3 slots, masked slots set to logp = -100.
    table = [
        [*lp, *[-100.0] * (3 - len(lp))] if not c else [-100.0] * 3
        for lp, c in zip(LOGPS, CORRECT, strict=True)
    ]
    total = -sum(math.log(1 - math.exp(t) + 1e-2) for row in table for t in row)
    wrong = sum(len(lp) for lp, c in zip(LOGPS, CORRECT, strict=True) if not c)
    found = losses.unlikelihood_loss(s, "official").item()
    assert found == pytest.approx(total / wrong, rel=1e-5)
    with pytest.raises(FrugalError, match="unknown loss variant"):
        losses.lm_loss(s, "offical")


@pytest.mark.parametrize("p", [1e-30, 1e-7, 0.3, 0.5, 0.9, 1 - 1e-4, 1 - 1e-6])
def test_log1mexp_is_accurate_at_both_ends(p):
    x = torch.tensor(math.log(p), dtype=torch.float32)
    exact = torch.log(-torch.expm1(x.double()))
    assert losses.log1mexp(x).item() == pytest.approx(exact.item(), rel=1e-5)


def test_unlikelihood_of_a_certain_wrong_token_is_finite_and_still_pushes():
    s = scores([[0.0, -1e-9], [-1.0]], [False, True], [0, 0], requires_grad=True)
    loss = losses.unlikelihood_loss(s)
    loss.backward()
    assert math.isfinite(loss.item())
    gradient = s.token_logp.grad
    assert torch.isfinite(gradient).all()
    assert (gradient[:2] > 0).all()  # descending lowers both wrong tokens


def test_losses_stay_finite_for_long_and_improbable_choices():
    s = scores([[-80.0] * 400, [-90.0] * 300], [True, False], [0, 0], requires_grad=True)
    loss = sum(loss(s) for loss in losses.LOSSES.values())
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(s.token_logp.grad).all()
