"""The three losses of T-Few (Liu et al., NeurIPS 2022, §3.2) on the scores of answer choices.

`variant="paper"` is the paper's definition; `variant="official"` is what the released code
computes, quirks included, for comparison.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from frugal.errors import unknown
from frugal.fewshot.choices import ChoiceScores

Variant = Literal["paper", "official"]


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, elementwise, accurate at both ends and finite at x = 0.

    One float32 step below p = 1 is as close as a log-probability can come, so x is held at
    -eps: the value saturates at log(eps) (-15.9 in fp32) instead of -inf, and the gradient, the
    one at -eps, keeps flowing, so that the worst mistake is still corrected.
    """
    eps = torch.finfo(x.dtype).eps
    held = x + (x.detach().clamp(max=-eps) - x.detach())
    # Mächler (2012): each form where it is exact; `where` on the inputs keeps gradients finite.
    near = held > -math.log(2)
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, held, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, held))),
    )


def lm_loss(scores: ChoiceScores, variant: Variant = "paper") -> Tensor:
    """L_LM = -(1/T) Σ_t log p(y_t | x, y_<t) of the correct choice, mean over examples; scalar.

    Source: §3.2. The official code averages over all target tokens of the batch instead.
    """
    _check(variant)
    if variant == "official":
        return -scores.token_logp[scores.correct[scores.choice]].mean()
    return -scores.mean_logp[scores.correct].mean()


def unlikelihood_loss(scores: ChoiceScores, variant: Variant = "paper") -> Tensor:
    """L_UL = -Σ_n Σ_t log(1 - p(ŷ_t^(n) | x, ŷ_<t^(n))) / Σ_n T^(n), mean over examples; scalar.

    The sums run over the N wrong choices of an example and their tokens. Source: §3.2 (whose
    ŷ_i is a slip for ŷ_t). The official code adds 1e-2 inside the logarithm, divides by the wrong
    tokens of the whole batch, and lets every masked slot (padding, correct choice) add -log 1.01.
    """
    _check(variant)
    wrong = ~scores.correct[scores.choice]
    logp = scores.token_logp[wrong]
    if variant == "official":
        slots = len(scores.tokens) * int(scores.tokens.max())
        masked = slots - int(wrong.sum())
        penalty = -torch.log(1 - logp.exp() + 1e-2).sum() - masked * math.log(1.01)
        return penalty / wrong.sum()
    example = scores.example[scores.choice[wrong]]
    zero = logp.new_zeros(scores.examples)
    penalty = zero.index_add(0, example, -log1mexp(logp))
    tokens = zero.index_add(0, example, torch.ones_like(logp))
    return (penalty / tokens).mean()


def length_normalized_loss(scores: ChoiceScores) -> Tensor:
    """L_LN = -log( exp β(x, y) / Σ_y' exp β(x, y') ), mean over examples; scalar.

    β is `mean_logp`, a choice's mean token log-probability, and the sum runs over all choices of
    the example. Source: §3.2; the official code's `mc_loss` is the same.
    """
    beta = scores.table(scores.mean_logp)  # (examples, most choices), -inf where there is none
    return (beta.logsumexp(dim=1) - scores.mean_logp[scores.correct]).mean()


LOSSES = {
    "lm": lm_loss,
    "unlikelihood": unlikelihood_loss,
    "length_normalized": length_normalized_loss,
}


def _check(variant: str) -> None:
    if variant not in ("paper", "official"):
        raise unknown("loss variant", variant, ("paper", "official"))
