"""Accuracy and cost of zero-shot, in-context learning and T-Few, as one kind of record."""

import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from frugal.costs import arch, flops, methods
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices, icl, packing, tfew
from frugal.fewshot.choices import ChoiceScores
from frugal.fewshot.tasks import Example, Task


class RunResult(BaseModel):
    """What one way of answering scored on one task, and what it cost.

    seconds, tokens_computed: of scoring all examples here, with all that packing spares
    flops_per_query: exact FLOPs of one query alone, its shots included and nothing cached, mean
        over the examples: what a served query costs
    """

    model_config = ConfigDict(frozen=True)

    task: str
    backbone: str
    method: str  # "zero-shot", "icl", or what was trained
    shots: int
    seed: int
    accuracy: float
    examples: int
    seconds: float
    tokens_computed: int
    flops_per_query: float


class TrainedResult(RunResult):
    """Of a trained method also what the training took.

    train_flops: exact FLOPs of all steps, forward and backward, frozen weights known
    adapter: the folder the trained parameters were saved in
    """

    trainable_params: int
    steps: int
    train_seconds: float
    train_flops: float
    adapter: str | None = None


def rank(
    backbone: Backbone,
    task: Task,
    queries: Sequence[Example],
    shots: Sequence[Example] = (),
    *,
    seed: int = 0,
    method: str | None = None,
    order: Sequence[int] | None = None,
    truncate: bool = False,
    progress: Callable[[int], Any] = lambda done: None,
) -> tuple[RunResult, ChoiceScores]:
    """Answer `queries` by rank classification, after `shots` in the prompt if there are any."""
    prompted = icl.prompted(queries, shots, order=order)
    started = time.perf_counter()
    scores = choices.score(backbone, prompted, truncate=truncate, progress=progress)
    seconds = time.perf_counter() - started
    result = RunResult(
        task=task.name,
        backbone=backbone.name,
        method=method or ("icl" if shots else "zero-shot"),
        shots=len(shots),
        seed=seed,
        accuracy=scores.accuracy,
        examples=len(queries),
        seconds=seconds,
        tokens_computed=scores.tokens_computed,
        flops_per_query=query_flops(backbone, prompted, truncate=truncate),
    )
    return result, scores


def few_shot(
    backbone: Backbone,
    task: Task,
    examples: Sequence[Example],
    queries: Sequence[Example],
    recipe: tfew.Recipe,
    *,
    truncate: bool = False,
    **options: Any,
) -> tuple[TrainedResult, ChoiceScores, tfew.Trained]:
    """Train `recipe` on `examples`, then answer `queries`; the model stays tuned.

    `options` are those of `tfew.train`.
    """
    trained = tfew.train(backbone, examples, recipe, truncate=truncate, **options)
    result, scores = rank(
        backbone, task, queries, seed=recipe.seed, method=recipe.method, truncate=truncate
    )
    cost = TrainedResult(
        **{**result.model_dump(), "shots": len(examples)},
        trainable_params=trained.tuned.trainable_params,
        steps=recipe.steps,
        train_seconds=trained.seconds,
        train_flops=training_flops(backbone, examples, recipe, truncate=truncate),
    )
    return cost, scores, trained


def query_flops(
    backbone: Backbone, examples: Sequence[Example], *, truncate: bool = False
) -> float:
    """Exact FLOPs of one forward pass for one example alone, mean over `examples`."""
    shape = arch.from_config(backbone.model.config)
    trees = [packing.tree(e) for e in packing.encode(backbone, examples, truncate=truncate)]

    @cache
    def cost(*sizes: tuple[str, int]) -> int:
        return sum(flops.forward(shape, **dict(sizes)).values())

    return statistics.fmean(cost(*t.shape.items()) for t in trees)


def training_flops(
    backbone: Backbone,
    examples: Sequence[Example],
    recipe: tfew.Recipe,
    *,
    truncate: bool = False,
) -> float:
    """Exact FLOPs of a training, every example in a row of its own, known before it starts."""
    shape = arch.from_config(backbone.model.config)
    trees = [packing.tree(e) for e in packing.encode(backbone, examples, truncate=truncate)]
    method = methods.get(recipe.method, recipe.options)
    once = sum(flops.per_step(shape, method).values())

    def cost(tree: packing.ChoiceTree) -> int:
        return sum(flops.train_step(shape, **tree.shape, method=method).values()) - once

    costs = [cost(t) for t in trees]
    seen = (
        tfew.batch_indices(step, recipe.batch_size, len(trees), recipe.seed)
        for step in range(recipe.steps)
    )
    each = sum(costs[i] for i in itertools.chain.from_iterable(seen))
    return float(each + recipe.steps * once)


def orders(shots: int, count: int, seed: int) -> list[list[int]]:
    """`count` different orders of `shots` examples (fewer where there are not so many)."""
    if count < 1:
        raise FrugalError(f"orders: must be at least 1, not {count}")
    found = [list(range(shots))]
    generator = random.Random(seed)
    for _ in range(100 * count):
        if len(found) == count:
            break
        order = generator.sample(range(shots), shots)
        if order not in found:
            found.append(order)
    return found


def prompted_runs(
    backbone: Backbone, task: Task, *, icl_shots: Sequence[int], draws: int, limit: int
) -> pd.DataFrame:
    """Zero-shot, and ICL with `draws` draws of examples at each k of `icl_shots`; a row a run."""
    runs = [rank(backbone, task, task.test(limit))[0]]
    for shots, seed in itertools.product(icl_shots, range(draws)):
        queries = task.test(limit, shots=shots, seed=seed)
        runs.append(rank(backbone, task, queries, task.draw(shots, seed), seed=seed)[0])
    return pd.DataFrame([run.model_dump() for run in runs])


def tuned_runs(
    backbone: Backbone,
    task: Task,
    *,
    labels: int,
    seeds: Sequence[int],
    limit: int,
    recipe: tfew.Recipe,
) -> pd.DataFrame:
    """T-Few with each of `seeds`, which also draws its examples; a row a run.

    The column `loss` holds the loss of every step. The model is what it was before.
    """
    records = []
    for seed in seeds:
        mine = recipe.model_copy(update={"seed": seed})
        queries = task.test(limit, shots=labels, seed=seed)
        result, _, trained = few_shot(backbone, task, task.draw(labels, seed), queries, mine)
        trained.tuned.detach()
        records.append({**result.model_dump(), "loss": trained.loss})
    return pd.DataFrame(records)


def order_effect(
    backbone: Backbone, task: Task, *, shots: int, draws: int, count: int, limit: int
) -> pd.DataFrame:
    """Accuracy of `shots`-shot ICL for `count` orders of each of `draws` draws.

    Columns: task, shots, draw, order, accuracy.
    """
    records = []
    for draw in range(draws):
        examples, queries = task.draw(shots, draw), task.test(limit, shots=shots, seed=draw)
        for number, order in enumerate(orders(shots, count, seed=draw)):
            result, _ = rank(backbone, task, queries, examples, seed=draw, order=order)
            records.append(
                {
                    "task": task.name,
                    "shots": shots,
                    "draw": draw,
                    "order": number,
                    "accuracy": result.accuracy,
                }
            )
    return pd.DataFrame(records)
