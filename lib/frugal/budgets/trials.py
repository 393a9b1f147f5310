"""Every way of classifying that this project knows, tried on one task: who is right, at what cost.

All ways answer the same examples, none of which they have seen with its label.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frugal.budgets import classifier
from frugal.budgets.classifier import Classifier, Fit
from frugal.budgets.distill import Cost, RankTeacher
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import evaluate, tfew
from frugal.fewshot.tasks import Example, Task

ICL_TOKENS = 1500  # of solved examples in a prompt; more take minutes on two cores
SMALL = ("small-full", "small-distilled")  # ways that need the same answers everywhere


@dataclass(frozen=True)
class Trial:
    """A way that was tried.

    hits:   (examples,) which it got right; seconds: of training and answering here
    labels: that it learnt from; train_flops: once; flops_per_query: of one query alone
    """

    strategy: str
    model: str
    hits: NDArray[np.bool_]
    train_flops: float
    flops_per_query: float
    labels: int
    seconds: float
    note: str = ""


def run(
    task: Task,
    lm: Backbone,
    encoder: Backbone,
    shots: list[Example],
    scored: list[Example],
    *,
    recipe: tfew.Recipe,
    small: Fit,
    icl_shots: int,
    truncate: bool = False,
    progress: Callable[[str], Any] = lambda message: None,
) -> tuple[list[Trial], list[dict[str, str]]]:
    """Every way with the labelled `shots`, and the ways this task does not allow, with why.

    lm: ranks choices: zero-shot, with `icl_shots` solved examples, and tuned by `recipe` (T-Few)
    encoder: of the small classifier: trained as `small` says on the labels ("small-full"), or on
        what T-Few says of more texts ("small-distilled")

    `lm` is then what it was before.
    """
    found: list[Trial] = []
    try:
        ways = _language_model(task, lm, shots, scored, icl_shots, recipe, truncate, progress)
        found += ways
        try:
            of = classifier.classes([*shots, *scored])
        except FrugalError as error:
            return found, [{"strategy": name, "why": str(error)} for name in SMALL]
        progress("small model on the labels")
        found.append(_on_labels(encoder, of, shots, scored, small))
        progress("small model, taught by T-Few")
        teacher = next(t for t in found if t.strategy == "t-few")
        found.append(_distilled(lm, encoder, of, shots, scored, small, teacher, truncate))
    finally:
        if hasattr(lm.model, "_frugal_tuned"):
            lm.model._frugal_tuned.detach()
    return found, []


def _language_model(
    task: Task,
    lm: Backbone,
    shots: list[Example],
    scored: list[Example],
    icl_shots: int,
    recipe: tfew.Recipe,
    truncate: bool,
    progress: Callable[[str], Any],
) -> Iterator[Trial]:
    """Zero-shot, in-context learning, T-Few; after the last the model stays tuned."""
    progress("zero-shot")
    result, scores = evaluate.rank(lm, task, scored, truncate=truncate)
    yield _ranked("zero-shot", result, scores.hits, 0)
    k = _fitting(lm, shots[:icl_shots], scored)
    if k:
        progress(f"in-context learning, {k} shots")
        result, scores = evaluate.rank(lm, task, scored, shots[:k], truncate=truncate)
        note = f"{k} shots, computed again at every query"
        yield replace(_ranked("icl", result, scores.hits, k), note=note)
    progress(f"T-Few, {recipe.steps} steps")
    trained, scores, _ = evaluate.few_shot(lm, task, shots, scored, recipe, truncate=truncate)
    yield replace(
        _ranked("t-few", trained, scores.hits, len(shots)),
        train_flops=trained.train_flops,
        seconds=trained.seconds + trained.train_seconds,
    )


def _fitting(lm: Backbone, shots: list[Example], scored: list[Example]) -> int:
    """How many of the shots a prompt holds beside the longest query."""

    def tokens(examples: list[Example]) -> list[int]:
        texts = [e.prompt + max(e.choices, key=len) for e in examples]
        return [len(ids) + 2 for ids in lm.tokenizer(texts)["input_ids"]]  # and a blank line

    room = min(ICL_TOKENS, (lm.max_tokens or math.inf) - max(tokens(scored)))
    return sum(total <= room for total in accumulate(tokens(shots)))


def _ranked(strategy: str, result: evaluate.RunResult, hits: torch.Tensor, labels: int) -> Trial:
    found = hits.numpy().astype(bool)
    cost = result.flops_per_query
    return Trial(strategy, result.backbone, found, 0.0, cost, labels, result.seconds)


def _on_labels(
    encoder: Backbone,
    of: Sequence[str],
    shots: list[Example],
    scored: list[Example],
    small: Fit,
) -> Trial:
    """All of the small model, trained on the labels."""
    model = classifier.new(encoder, of, seed=small.seed)
    fitted = classifier.fit(model, shots, classifier.targets(shots, of), small)
    hits, answered = _hits(model, scored)
    per_query = answered.flops / len(scored)
    seconds = fitted.cost.seconds + answered.seconds
    return Trial(
        "small-full", encoder.name, hits, fitted.cost.flops, per_query, len(shots), seconds
    )


def _distilled(
    lm: Backbone,
    encoder: Backbone,
    of: Sequence[str],
    shots: list[Example],
    scored: list[Example],
    small: Fit,
    teacher: Trial,
    truncate: bool,
) -> Trial:
    """The small model, trained on what the tuned `lm` says of texts it is not scored on.

    Without other texts, each half of the scored ones (their labels unseen) makes the student that
    answers the other half. The price is that of one such student, and of its teacher.
    """
    table, asked = RankTeacher(lm, truncate=truncate).logits([*shots, *scored])
    logits = classifier.by_class(table, [*shots, *scored], of)
    hits, total = np.zeros(len(scored), dtype=bool), Cost()
    rows = torch.arange(len(scored))
    for half in (0, 1):
        mine, other = rows[rows % 2 == half], rows[rows % 2 != half]
        texts = [*shots, *(scored[i] for i in other)]
        goals = torch.cat([logits[: len(shots)], logits[len(shots) + other]])
        model = classifier.new(encoder, of, seed=small.seed)
        # A step for every batch of texts three times over, but no fewer than on the labels.
        steps = max(small.steps, math.ceil(3 * len(texts) / small.batch_size))
        fitted = classifier.fit(model, texts, goals, small.model_copy(update={"steps": steps}))
        right, answered = _hits(model, [scored[i] for i in mine])
        hits[mine.numpy()] = right
        total += fitted.cost + Cost(answered.seconds, 0, 0)
    share = (len(shots) + len(scored) / 2) / (len(shots) + len(scored))
    _, answered = model.logits(scored)
    return Trial(
        strategy="small-distilled",
        model=encoder.name,
        hits=hits,
        train_flops=teacher.train_flops + share * asked.flops + total.flops / 2,
        flops_per_query=answered.flops / len(scored),
        labels=len(shots),
        seconds=teacher.seconds + asked.seconds + total.seconds,
        note=f"taught by t-few on {len(shots) + len(scored) // 2} texts",
    )


def _hits(model: Classifier, examples: list[Example]) -> tuple[NDArray[np.bool_], Cost]:
    found, cost = model.logits(examples)
    right = found.argmax(1) == classifier.targets(examples, model.classes)
    return right.numpy().astype(bool), cost
