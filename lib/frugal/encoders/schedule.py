"""What a training of a small classifier sees, step by step, and what it costs.

Known before it starts: which batch a step sees, which frozen states are kept, exact FLOPs.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from torch import nn

from frugal import peft
from frugal.costs import flops
from frugal.costs.arch import Architecture
from frugal.encoders.encoder import shuffled, training_batches

if TYPE_CHECKING:
    from frugal.encoders.classifier import Recipe

KEPT_BYTES = 4 * 2**30  # of frozen layers' states; those beyond are computed at every sight


class Part(Protocol):
    """What of an encoder is trained beside the head: a design, which the caller knows."""

    @property
    def frozen(self) -> int:
        """How many of the lowest layers nothing is added to."""

    def attach(self, model: nn.Module) -> peft.Tuned:
        """Freeze `model`, and give it the parameters at their start."""

    def flops(self, shape: Architecture, tokens: int, *, train: bool) -> int:
        """Of one text through the encoder, forward or in a training step."""


Trains = Part | Literal["full", "head"]


def text_flops(
    trains: Trains, shape: Architecture, outputs: int, tokens: int, *, train: bool
) -> int:
    """Exact, of one text: forward, or all of a training step."""
    if isinstance(trains, str):
        counted = flops.train_step if train and trains == "full" else flops.forward
        body = int(sum(counted(shape, prompt_tokens=tokens).values()))
    else:
        body = trains.flops(shape, tokens, train=train)
    # Of the head: W x, and in a step dW and, where it is needed, dx.
    times = (2 if trains == "head" else 3) if train else 1
    return body + times * 2 * shape.d_model * outputs


def frozen_layers(trains: Trains, shape: Architecture) -> int:
    """How many of the lowest layers no training changes."""
    if isinstance(trains, str):
        return shape.layers if trains == "head" else 0
    return trains.frozen


class Schedule(NamedTuple):
    """Which batch a step sees, and which batches' frozen states are kept.

    batches: places of the texts in each; order: number of the batch that each step sees, all of
        them once in every epoch; kept: numbers of batches; below: frozen layers
    """

    batches: list[list[int]]
    order: list[int]
    kept: frozenset[int]
    below: int

    @classmethod
    def of(cls, lengths: Sequence[int], recipe: "Recipe", below: int, width: int) -> "Schedule":
        """lengths: of the texts in tokens; width: of the encoder's states"""
        batches = training_batches(lengths, recipe.batch_size, recipe.seed)
        steps, count = recipe.steps(len(lengths)), len(batches)
        epochs = (shuffled(count, recipe.seed, n) for n in range(math.ceil(steps / count)))
        order = list(itertools.chain.from_iterable(epochs))[:steps]
        kept, spare = set(), KEPT_BYTES
        for number, index in enumerate(batches if below else []):
            size = 4 * width * len(index) * max(lengths[i] for i in index)
            if size <= spare:
                kept.add(number)
                spare -= size
        return cls(batches, order, frozenset(kept), below)

    def cost(
        self, lengths: Sequence[int], trains: Trains, shape: Architecture, outputs: int
    ) -> tuple[int, float]:
        """Tokens and exact FLOPs of all steps; kept states are computed once."""
        layer = shape.replace(layers=1)
        below = cache(lambda n: self.below * sum(flops.forward(layer, prompt_tokens=n).values()))
        step = cache(lambda n: text_flops(trains, shape, outputs, n, train=True))
        tokens, spent = 0, 0.0
        for number, seen in sorted(Counter(self.order).items()):
            for length in (lengths[i] for i in self.batches[number]):
                frozen = below(length)
                tokens += seen * length
                spent += seen * (step(length) - frozen)
                spent += frozen * (1 if number in self.kept else seen)
        return tokens, spent
