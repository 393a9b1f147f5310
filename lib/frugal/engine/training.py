"""The loop of every training here: batches, a rate that rises and falls, clipped gradients.

What a step computes is its caller's; what it sees is a function of its number alone, so that a
training that was killed goes on from its `Checkpoint` to the same bits.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from frugal.engine import stderr
from frugal.engine.checkpoints import Checkpoint
from frugal.errors import FrugalError


@dataclass(frozen=True)
class Cost:
    """What some work took: seconds here, tokens through a model, exact FLOPs."""

    seconds: float = 0.0
    tokens: int = 0
    flops: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds, self.tokens + other.tokens, self.flops + other.flops
        )


def run(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    backward: Callable[[int], float],
    *,
    steps: int,
    factor: Callable[[int], float],
    gradient_clip: float,
    state: Checkpoint | None = None,
    every: int = 50,
    progress: Callable[[int, float], Any] = lambda step, loss: None,
) -> tuple[list[float], float]:
    """Take the steps that are left: the loss of every step, and the seconds of all of them.

    parameters: all that the optimizer trains, in its order
    backward:   leaves the gradients of step `step` (from 0) in the parameters; its loss
    factor:     on every learning rate of the optimizer, at a step
    state:      taken up before, and kept every `every` steps and after the last
    progress:   called after each step with its number (from 1) and loss

    Raises FrugalError on a loss that is not finite, and for the state of another training.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    losses, before = state.restore(parameters, optimizer) if state else ([], 0.0)
    started = time.perf_counter() - before
    with stderr.bar(steps, "steps", done=len(losses)) as shown:
        for step in range(len(losses), steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor(step)
            value = backward(step)
            if not math.isfinite(value):
                several = ", ".join(f"{rate:g}" for rate in rates)
                raise FrugalError(
                    f"step {step + 1}: the loss is {value}; lower the learning rate ({several})"
                )
            nn.utils.clip_grad_norm_(parameters.values(), gradient_clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(value)
            progress(step + 1, value)
            shown(step + 1)
            if state and ((step + 1) % every == 0 or step + 1 == steps):
                state.keep(parameters, optimizer, losses, time.perf_counter() - started)
    return losses, time.perf_counter() - started


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate at `step` (from 0): linear up over the warm-up, linear to 0.

    warmup: share of the steps
    """
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(1, steps - rising)


def batch_indices(step: int, batch_size: int, examples: int, seed: int) -> list[int]:
    """Which examples step `step` sees: an endless row of shuffles, cut into batches."""
    places = range(step * batch_size, (step + 1) * batch_size)
    orders = {}
    for epoch in {place // examples for place in places}:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        orders[epoch] = torch.randperm(examples, generator=generator).tolist()
    return [orders[place // examples][place % examples] for place in places]
