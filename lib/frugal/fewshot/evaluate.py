"""Accuracy and cost of zero-shot, in-context learning and T-Few, as one kind of record."""

import itertools
import math
import random
import statistics
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field

from frugal.costs import arch, flops, methods
from frugal.engine import processes, stderr
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, icl, packing, tfew
from frugal.fewshot.choices import ChoiceScores
from frugal.tasks import Example, Task, Use


class RunResult(BaseModel):
    """What one way of answering scored on one task, and what it cost.

    seconds, tokens_computed: of scoring all examples here, with all that packing spares
    flops_per_query: exact FLOPs of one query alone, its shots included and nothing cached, mean
        over the examples: what a served query costs; None where `costs` has no form for the model
    template: number of the task's template that the queries were put in
    packed: whether the choices shared passes; if not, each had one of its own, and costs one
    precision: of the backbone's weights
    accuracy: None where a benchmark keeps the labels to itself
    hits: a 1 for an example that it got right, or 0 (`stats.hits` reads them); no part of its JSON
    """

    model_config = ConfigDict(frozen=True)

    task: str
    backbone: str
    method: str  # "zero-shot", "icl", or what was trained
    shots: int
    seed: int
    accuracy: float | None
    examples: int
    seconds: float
    tokens_computed: int
    flops_per_query: float | None
    template: int = 0
    packed: bool = True
    precision: str = "float32"
    hits: str = Field(default="", exclude=True, repr=False)


class TrainedResult(RunResult):
    """Of a trained method also what the training took.

    train_flops: exact FLOPs of all steps, forward and backward, frozen weights known; or None
    adapter: the folder the trained parameters were saved in
    loss: of every step; no part of its JSON
    """

    trainable_params: int
    steps: int
    train_seconds: float
    train_flops: float | None
    adapter: str | None = None
    loss: list[float] = Field(exclude=True, repr=False)


def rank(
    backbone: Backbone,
    task: Task,
    queries: Sequence[Example] | Sequence[encoding.EncodedExample],
    shots: Sequence[Example] = (),
    *,
    seed: int = 0,
    method: str | None = None,
    template: int = 0,
    order: Sequence[int] | None = None,
) -> tuple[RunResult, ChoiceScores]:
    """Answer `queries` by rank classification, after `shots` in the prompt if there are any.

    queries: where no shots are, also in the tokens of `backbone`, so that nothing is encoded twice

    Several processes (`engine.processes`) score a part of the queries each, and all know all.
    """
    if shots or order:
        queries = icl.prompted(queries, shots, order=order)  # type: ignore[arg-type]
    encoded = encoding.encode(backbone, queries)
    cost = query_flops(backbone, encoded)
    started = time.perf_counter()
    mine = processes.part(encoded)
    found = choices.score(backbone, mine) if mine else None
    scores = joined([part for part in processes.gather(found) if part is not None])
    seconds = time.perf_counter() - started
    if not scores.packed:
        cost = query_flops(backbone, encoded, packed=False)
        note = "each choice is scored in a pass of its own, since packing does not suit this model"
        stderr.note_once(f"{backbone.name}: {note}")
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
        flops_per_query=cost,
        template=template,
        packed=scores.packed,
        precision=backbone.precision,
        hits="".join("01"[hit] for hit in scores.hits.tolist()),
    )
    return result, scores


def joined(parts: Sequence[ChoiceScores]) -> ChoiceScores:
    """The scores of several lists of examples as those of one."""
    before = [0, *itertools.accumulate(len(p.example) for p in parts)]
    earlier = [0, *itertools.accumulate(p.examples for p in parts)]
    return ChoiceScores(
        torch.cat([p.token_logp for p in parts]),
        torch.cat([p.choice + n for p, n in zip(parts, before, strict=False)]),
        torch.cat([p.example + n for p, n in zip(parts, earlier, strict=False)]),
        torch.cat([p.correct for p in parts]),
        tokens_computed=sum(p.tokens_computed for p in parts),
        packed=all(p.packed for p in parts),
    )


def few_shot(
    backbone: Backbone,
    task: Task,
    examples: Sequence[tfew.Wordings],
    queries: Sequence[Example],
    recipe: tfew.Recipe,
    **options: Any,
) -> tuple[TrainedResult, ChoiceScores, tfew.Trained]:
    """Train `recipe` on `examples`, then answer `queries`; the model stays tuned.

    `options` are those of `tfew.train`.
    """
    encoded = tfew.encode(backbone, examples, recipe)
    spent = training_flops(backbone, encoded, recipe)
    trained = tfew.train(backbone, encoded, recipe, **options)
    if not trained.packed:
        spent = training_flops(backbone, encoded, recipe, packed=False)
    try:
        answers, scores = answered(backbone, task, queries, recipe)
    except BaseException:
        trained.tuned.detach()  # whoever catches it can attach again
        raise
    result = TrainedResult(
        **{**dict(answers), "shots": len(examples)},
        trainable_params=trained.tuned.trainable_params,
        steps=recipe.steps,
        train_seconds=trained.seconds,
        train_flops=spent,
        loss=trained.loss,
    )
    return result, scores, trained


def answered(
    backbone: Backbone,
    task: Task,
    queries: Sequence[Example],
    recipe: tfew.Recipe,
    *,
    template: int = 0,
) -> tuple[RunResult, ChoiceScores]:
    """What a model tuned by `recipe` answers to `queries`, cut to the recipe's length."""
    return rank(
        backbone.limited(recipe.max_tokens),
        task,
        queries,
        seed=recipe.seed,
        method=recipe.method,
        template=template,
    )


def under(
    templates: Use,
    first: TrainedResult,
    backbone: Backbone,
    task: Task,
    recipe: tfew.Recipe,
    **of: Any,
) -> list[TrainedResult]:
    """`first`, and what the same training answers in the other templates that are used.

    of: which test examples, as `Task.test` takes it
    """
    found = [first]
    for template in task.under(templates)[1:]:
        queries = task.test(**of, template=template)
        other, _ = answered(backbone, task, queries, recipe, template=template)
        found.append(first.model_copy(update={**dict(other), "shots": first.shots}))
    return found


def architecture(backbone: Backbone) -> arch.Architecture | None:
    """What FLOPs are counted by; None, and once a line on stderr, where the model has no form."""
    try:
        return arch.from_config(backbone.model.config)
    except FrugalError as error:
        stderr.note_once(f"{backbone.name}: FLOPs are not counted: {error}")
        return None


def counted(flops: float | None, backbone: str) -> float:
    """FLOPs that a price is made of; FrugalError where there are none."""
    if flops is None:
        raise FrugalError(
            f"{backbone}: its FLOPs have no closed form, so nothing of it has a price"
        )
    return flops


def query_flops(
    backbone: Backbone,
    examples: Sequence[Example] | Sequence[encoding.EncodedExample],
    *,
    packed: bool = True,
) -> float | None:
    """Exact FLOPs of answering one example alone, mean over `examples`.

    packed: in one forward pass; if not, in one for every choice

    None where the model has no closed form: its accuracy can be had all the same.
    """
    if (shape := architecture(backbone)) is None:
        return None
    encoded = encoding.encode(backbone, examples)

    @cache
    def cost(*sizes: tuple[str, Any]) -> int:
        return sum(flops.forward(shape, **dict(sizes)).values())

    return statistics.fmean(
        sum(cost(*fed.items()) for fed in packing.shapes(e, packed)) for e in encoded
    )


def training_flops(
    backbone: Backbone,
    examples: Sequence[tfew.Wordings] | tfew.Encoded,
    recipe: tfew.Recipe,
    *,
    packed: bool = True,
) -> float | None:
    """Exact FLOPs of a training, every example in a row of its own, known before it starts.

    packed: if not, every choice has a pass of its own

    None where the model has no closed form, or training it so has none.
    """
    method = methods.get(recipe.method, recipe.options)
    if (shape := architecture(backbone)) is None:
        return None
    try:
        flops.train_step(shape, prompt_tokens=1, method=method)
    except FrugalError as error:
        stderr.note_once(f"{backbone.name}: FLOPs of the training are not counted: {error}")
        return None
    encoded = tfew.encode(backbone, examples, recipe)
    once = sum(flops.per_step(shape, method).values())

    @cache
    def cost(example: int, wording: int) -> int:
        fed = packing.shapes(encoded[example][wording], packed)
        steps = (flops.train_step(shape, **sizes, method=method) for sizes in fed)
        return sum(sum(step.values()) - once for step in steps)

    wordings = list(map(len, encoded))
    seen = (tfew.seen(step, recipe, wordings) for step in range(recipe.steps))
    each = sum(cost(*which) for which in itertools.chain.from_iterable(seen))
    parts = math.ceil(recipe.batch_size / (recipe.micro_batch or recipe.batch_size))
    return float(each + recipe.steps * parts * once)


def orders(shots: int, count: int, seed: int) -> list[list[int]]:
    """`count` different orders of `shots` examples (fewer where there are not so many).

    The first is that of their numbers. Raises FrugalError for a count below 1.
    """
    if count < 1:
        raise FrugalError(f"count: at least one order, not {count}")
    found = [list(range(shots))]
    generator = random.Random(seed)
    for _ in range(100 * count):
        order = generator.sample(range(shots), shots)
        if len(found) < count and order not in found:
            found.append(order)
    return found


def prompted_runs(
    backbone: Backbone,
    task: Task,
    *,
    icl_shots: Sequence[int],
    draws: int,
    limit: int,
    templates: Use = "first",
) -> pd.DataFrame:
    """Zero-shot, and ICL with `draws` draws of examples at each k of `icl_shots`; a row a run.

    Each of them in the first of the task's templates, or in all.
    """
    runs = []
    for template in task.under(templates):
        queries = task.test(limit, template=template)
        runs.append(rank(backbone, task, queries, template=template)[0])
        for shots, seed in itertools.product(icl_shots, range(draws)):
            queries = task.test(limit, shots=shots, seed=seed, template=template)
            drawn = task.draw(shots, seed, template=template)
            runs.append(rank(backbone, task, queries, drawn, seed=seed, template=template)[0])
    return pd.DataFrame(map(dict, runs))


def tuned_runs(
    backbone: Backbone,
    task: Task,
    *,
    labels: int,
    seeds: Sequence[int],
    limit: int | None,
    recipe: tfew.Recipe,
    templates: Use = "first",
) -> pd.DataFrame:
    """T-Few with each of `seeds`, which also draws its examples; a row a run and template.

    templates: "all" draws a template at every sight of an example in training, and answers the
        test examples in each (T-Few, §4.1)

    The column `loss` holds the loss of every step. The model is what it was before.
    """
    runs: list[TrainedResult] = []
    for seed in seeds:
        mine = recipe.model_copy(update={"seed": seed})
        examples, of = task.wordings(labels, seed, templates), {"shots": labels, "seed": seed}
        queries = task.test(limit, **of)
        first, _, trained = few_shot(backbone, task, examples, queries, mine)
        try:
            runs += under(templates, first, backbone, task, mine, limit=limit, **of)
        finally:
            trained.tuned.detach()
    return pd.DataFrame(map(dict, runs))


def order_effect(
    backbone: Backbone, task: Task, *, shots: int, draws: int, count: int, limit: int
) -> pd.DataFrame:
    """Accuracy of `shots`-shot ICL for `count` orders of each of `draws` draws.

    Columns: task, shots, draw, order, accuracy.
    """
    runs = []
    for draw in range(draws):
        examples, queries = task.draw(shots, draw), task.test(limit, shots=shots, seed=draw)
        for number, order in enumerate(orders(shots, count, seed=draw)):
            result, _ = rank(backbone, task, queries, examples, seed=draw, order=order)
            runs.append((task.name, shots, draw, number, result.accuracy))
    return pd.DataFrame(runs, columns=["task", "shots", "draw", "order", "accuracy"])
