"""The head of a classifier in closed form: ridge regression on one-hot goals.

No steps and no rate. On 32 labels it is as accurate as logistic regression by L-BFGS at the best of
five penalties: 0.59 and 0.59 of movie-reviews, 0.76 and 0.75 of intent-recognition (means of ten
draws, 400 and 346 texts; `classifier.fit` of the head alone, 100 steps: 0.60 and 0.76). Its own
penalty may be anything from 0.001 to 0.1 of the states' variance there; at 1 it loses 4 points.
"""

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from frugal.encoders.classifier import Classifier
from frugal.engine.training import Cost
from frugal.errors import FrugalError

PENALTY = 0.1  # of the states' variance


def fit(model: Classifier, texts: Sequence[str], goals: Tensor) -> Cost:
    """Set the head of `model` from its states of the texts, whatever it was; the rest stays.

    goals: (texts,) classes. FLOPs are those of reading the texts, and of the products and the
    solution below.

    Raises FrugalError for an empty list, and for goals that are no class of the model.
    """
    classes = model.head.out_features
    if not len(texts) == len(goals) > 0:
        raise FrugalError(f"nothing to train on: {len(texts)} texts, {len(goals)} goals")
    if not 0 <= int(goals.min()) <= int(goals.max()) < classes:
        raise FrugalError(f"goals: classes are 0 to {classes - 1}, not {goals.tolist()[:8]}")
    states, read = model.states(texts)
    started = time.perf_counter()
    weight, bias = solve(states.double(), F.one_hot(goals.cpu(), classes).double())
    with torch.no_grad():
        model.head.weight.copy_(weight.T)
        model.head.bias.copy_(bias)
    d, n = states.shape[1], len(texts)
    spent = 2 * n * d * (d + classes) + 2 * d**3 / 3 + 2 * d * d * classes
    return read + Cost(time.perf_counter() - started, 0, spent)


def solve(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """W (d, k) and b (k,), of least Σ_i |Wᵀx_i + b - y_i|² + λ |W|²; x (n, d), y (n, k).

    λ: `PENALTY` of Σ_i |x_i - x̄|² / n, so that the unit of x does not matter; b is not penalised
    """
    mean, level = x.mean(0), y.mean(0)
    x, y = x - mean, y - level
    penalty = PENALTY * float(x.square().sum()) / len(x) or 1.0  # all the same: W is 0
    gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, x.T @ y)  # (XᵀX + λI)⁻¹ XᵀY
    return weight, level - mean @ weight
