"""SetFit's first step: an encoder learns that texts of one class are alike, and others are not.

Pairs of the labelled texts, of the same class and of two classes in turn, make many examples of a
few labels; a linear head on the states then tells the classes apart (`linear`).
Source: Tunstall et al. 2022, *Efficient Few-Shot Learning Without Prompts* (arXiv 2209.11055), §3:
R pairs of either kind for each text, one epoch of them. Their code (`setfit` 1.2) also pairs a text
with itself and drops out; this does neither, and reads a text of a batch once.
"""

import itertools
import random
import time
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from frugal.encoders.classifier import Classifier, Fitted
from frugal.encoders.encoder import parts, rows_read
from frugal.engine import training
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.kernels.precision import Float, products

Pair = tuple[int, int, bool]  # places of two texts, and whether they are of one class


class Recipe(BaseModel):
    """How an encoder is tuned: AdamW over each pair once, a linear warm-up, then down to 0.

    rounds:     R, pairs of one class for each text, and as many of two
    batch_size: in pairs
    precision:  of its products; what is trained is float32
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=5, ge=1)
    batch_size: int = Field(default=16, ge=1)
    lr: float = Field(default=1e-4, gt=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    precision: Float = "float32"
    seed: int = 0


def pairs(goals: Sequence[int], rounds: int, seed: int) -> list[Pair]:
    """One of the same class, one of two classes, and so on: `rounds` of each for each text.

    Each kind in an order that the seed decides, and from the start again where it has too few; a
    kind that there is none of is left out.
    """
    every = [(i, j, goals[i] == goals[j]) for i, j in itertools.combinations(range(len(goals)), 2)]
    kinds = [[pair for pair in every if pair[2] is alike] for alike in (True, False)]
    for kind in kinds:
        random.Random(seed).shuffle(kind)
    rows = [itertools.cycle(kind) for kind in kinds if kind]
    return [next(row) for _ in range(rounds * len(goals)) for row in rows]


def loss(one: Tensor, other: Tensor, alike: Tensor) -> Tensor:
    """Mean over pairs of (cos(u, v) - [same class])²; one, other: (pairs, d); scalar."""
    return (F.cosine_similarity(one, other) - alike.float()).square().mean()


def fit(model: Classifier, texts: Sequence[str], goals: Tensor, recipe: Recipe) -> Fitted:
    """Tune the encoder of `model` in place on pairs of the texts; its head is not looked at.

    goals: (texts,) classes

    Deterministic on one machine. Raises FrugalError where there is no pair, and on a loss that is
    not finite.
    """
    if not len(texts) == len(goals) >= 2:
        raise FrugalError(f"no pairs to train on: {len(texts)} texts, {len(goals)} goals")
    started = time.perf_counter()
    ids = model.encode(texts)
    lengths = [len(row) for row in ids]
    every = pairs(goals.tolist(), recipe.rounds, recipe.seed)
    batches = [every[i : i + recipe.batch_size] for i in range(0, len(every), recipe.batch_size)]
    # Each text of a batch once, the shortest first.
    read = [
        sorted({i for *two, _ in batch for i in two}, key=lambda i: (lengths[i], i))
        for batch in batches
    ]
    model.precision = recipe.precision

    def backward(step: int) -> float:
        some = read[step]
        with products(recipe.precision, model.device):
            cut = (model.batch(ids, part) for part in parts(some, lengths, model.device))
            states = torch.cat([model.mean(batch) for batch in cut]).float()
        place = {text: i for i, text in enumerate(some)}
        one, other, alike = zip(*batches[step], strict=True)
        u, v = (states[[place[i] for i in side]] for side in (one, other))
        value = loss(u, v, torch.tensor(alike, device=states.device))
        value.backward()
        return value.item()

    with rows_read(model.encoder, ids, model.pad):
        trained = {n: p for n, p in model.trained().items() if not n.startswith("head.")}
        preparing = time.perf_counter() - started
        losses, seconds = training.run(
            trained,
            torch.optim.AdamW(trained.values(), lr=recipe.lr, weight_decay=0.0, fused=True),
            backward,
            steps=len(batches),
            factor=lambda step: training.schedule(step, len(batches), recipe.warmup),
            gradient_clip=recipe.gradient_clip,
        )
    seen = [lengths[i] for some in read for i in some]
    spent = model.flops(seen, head=False, train=True)
    return Fitted(losses, Cost(preparing + seconds, sum(seen), spent))
