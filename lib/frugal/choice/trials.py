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

from frugal import peft
from frugal.budgets import students
from frugal.budgets.distill import ClassTeacher, RankTeacher, right
from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe
from frugal.engine.backbones import Backbone
from frugal.engine.presets import Preset
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.fewshot import evaluate, tfew
from frugal.spaces import build
from frugal.tasks import Example, Task
from frugal.tasks.texts import classes

ICL_TOKENS = 1500  # of solved examples in a prompt; more take minutes on two cores
SMALL = ("small-full", "small-s4", "small-distilled")  # they need the same answers everywhere


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


@dataclass(frozen=True)
class Tried:
    """What was measured of a task, before anything is priced.

    labels: that were drawn; scored: examples that every way answered; left_out: ways that this
    task does not allow, and why
    """

    task: str
    labels: int
    scored: int
    chance: float
    trials: list[Trial]
    left_out: list[dict[str, str]]


@dataclass(frozen=True)
class Ways:
    """How each way is done.

    recipe: T-Few's; icl_shots: solved examples in a prompt, at most
    small:  training of all of the small model
    design, share: training of chapter 4's final design in it, on `share` of its parameters
    """

    recipe: tfew.Recipe
    icl_shots: int
    small: Recipe
    design: Recipe
    share: float

    @classmethod
    def of(cls, preset: Preset, labels: int, seed: int) -> "Ways":
        """As a preset says, for so many labels."""
        of = preset.budgets
        small = Recipe(
            epochs=of.epochs,
            least_steps=of.least_steps,
            batch_size=min(of.batch_size, labels),
            lr=of.teacher_lr,
            seed=seed,
        )
        return cls(
            recipe=tfew.Recipe(**{**preset.recipe, "steps": preset.capstone.steps}, seed=seed),
            icl_shots=max(preset.icl_shots),
            small=small,
            design=small.model_copy(update={"lr": of.design_lr}),
            share=of.design_share,
        )


def run(
    task: Task,
    lm: Backbone,
    encoder: Backbone,
    shots: list[Example],
    scored: list[Example],
    ways: Ways,
    *,
    texts: Sequence[Example] = (),
    progress: Callable[[str], Any] = lambda message: None,
) -> Tried:
    """Every way with the labelled `shots`, and the ways this task does not allow, with why.

    lm: ranks choices: zero-shot, with solved examples in the prompt ("icl"), and tuned ("t-few")
    encoder: of the small classifier: all of it trained on the labels ("small-full"), or the
        design S4 in it ("small-s4"), or all of it on what T-Few says of more texts
        ("small-distilled")
    texts: these more texts; nobody looks at their labels

    `lm` is then what it was before.
    """
    found: list[Trial] = []
    left_out: list[dict[str, str]] = []
    tried = Tried(task.name, len(shots), len(scored), task.chance, found, left_out)
    try:
        found += _language_model(task, lm, shots, scored, ways, progress)
        if "icl" not in [t.strategy for t in found]:
            why = "not one solved example fits into a prompt beside the longest query"
            left_out.append({"strategy": "icl", "why": why})
        try:
            of = classes([*shots, *scored, *texts])
        except FrugalError as error:
            left_out += [{"strategy": name, "why": str(error)} for name in SMALL]
            return tried
        progress("small model on the labels")
        small = ClassTeacher(classifier.new(encoder, len(of), seed=ways.small.seed), of)
        found.append(_on_labels("small-full", small, encoder.name, shots, scored, ways.small))
        progress("small model on the labels, S4")
        try:
            design = build.Part(build.sized(encoder.model, "s4", ways.share))
            model = classifier.new(encoder, len(of), design, seed=ways.design.seed)
            student, sized = ClassTeacher(model, of), design.sized
            s4 = _on_labels("small-s4", student, encoder.name, shots, scored, ways.design)
            note = f"{sized.params:,} parameters beside the frozen ones: {sized.design}"
            found.append(replace(s4, note=note))
        except FrugalError as error:  # too few layers, or too few parameters, for the design
            left_out.append({"strategy": "small-s4", "why": str(error)})
        progress("small model, taught by T-Few")
        teacher = next(t for t in found if t.strategy == "t-few")
        more = list(texts)
        found.append(_distilled(lm, encoder, of, shots, scored, more, ways.small, teacher))
    finally:
        if tuned := peft.of(lm.model):
            tuned.detach()
    return tried


def _language_model(
    task: Task,
    lm: Backbone,
    shots: list[Example],
    scored: list[Example],
    ways: Ways,
    progress: Callable[[str], Any],
) -> Iterator[Trial]:
    """Zero-shot, in-context learning, T-Few; after the last the model stays tuned."""
    progress("zero-shot")
    result, scores = evaluate.rank(lm, task, scored)
    yield _ranked("zero-shot", result, scores.hits, 0)
    k = _fitting(lm, shots[: ways.icl_shots], scored)
    if k:
        progress(f"in-context learning, {k} shots")
        result, scores = evaluate.rank(lm, task, scored, shots[:k])
        note = f"{k} shots, computed again at every query"
        yield replace(_ranked("icl", result, scores.hits, k), note=note)
    progress(f"T-Few, {ways.recipe.steps} steps")
    trained, scores, _ = evaluate.few_shot(lm, task, shots, scored, ways.recipe)
    yield replace(
        _ranked("t-few", trained, scores.hits, len(shots)),
        train_flops=evaluate.counted(trained.train_flops, trained.backbone),
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
    cost = evaluate.counted(result.flops_per_query, result.backbone)
    return Trial(strategy, result.backbone, found, 0.0, cost, labels, result.seconds)


def _on_labels(
    strategy: str,
    student: ClassTeacher,
    name: str,
    shots: list[Example],
    scored: list[Example],
    recipe: Recipe,
) -> Trial:
    """A small model, or the design in it, trained on the labels."""
    learnt = students.classify(student, shots, None, recipe)
    hits, answered = right(student, scored)
    return Trial(
        strategy=strategy,
        model=name,
        hits=hits.numpy(),
        train_flops=learnt.cost.flops,
        flops_per_query=answered.flops / len(scored),
        labels=len(shots),
        seconds=learnt.cost.seconds + answered.seconds,
    )


def _distilled(
    lm: Backbone,
    encoder: Backbone,
    of: tuple[str, ...],
    shots: list[Example],
    scored: list[Example],
    texts: list[Example],
    small: Recipe,
    teacher: Trial,
) -> Trial:
    """The small model, trained on what the tuned `lm` says of `texts`.

    Without such texts, each half of the scored ones (their labels unseen) makes the student that
    answers the other half. The price is that of one student, and of its teacher.
    """
    rows = np.arange(len(scored))
    halves = (rows[rows % 2 == half] for half in (0, 1))
    pairs = (
        [(texts, rows)]
        if texts
        else [([scored[i] for i in np.setdiff1d(rows, mine)], mine) for mine in halves]
    )
    hits, spent = np.zeros(len(scored), dtype=bool), Cost()
    for more, mine in pairs:
        read = [*shots, *more]
        table, asked = RankTeacher(lm).logits(read)
        student = ClassTeacher(classifier.new(encoder, len(of), seed=small.seed), of)
        learnt = students.classify(student, read, table, small)
        answers, answered = right(student, [scored[i] for i in mine])
        hits[mine] = answers.numpy()
        spent += asked + learnt.cost + Cost(answered.seconds)
    return Trial(
        strategy="small-distilled",
        model=encoder.name,
        hits=hits,
        train_flops=teacher.train_flops + spent.flops / len(pairs),
        flops_per_query=student.logits(scored)[1].flops / len(scored),
        labels=len(shots),
        seconds=teacher.seconds + spent.seconds,
        note=f"taught by t-few on {len(read)} texts",
    )
