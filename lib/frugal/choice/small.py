"""The ways of the small model: a head on it, all of it, a part of it, or taught by the large one.

Where choices differ from line to line it reads each of them behind the prompt.
"""

import numpy as np
from torch import Tensor

from frugal.budgets import students
from frugal.budgets.distill import ClassTeacher, RankTeacher, Teacher, right
from frugal.choice.trials import Attempt, Trial
from frugal.encoders import classifier, contrastive, linear, pairs
from frugal.encoders.classifier import Recipe
from frugal.encoders.pairs import PairTeacher
from frugal.encoders.schedule import Trains
from frugal.engine.training import Cost
from frugal.spaces import build


def head(of: Attempt) -> list[Trial]:
    """A linear head on frozen states, in closed form ("linear-head")."""
    of.progress("linear head on the frozen small model")
    student = _by_class(of, "head", of.ways.small.seed)
    cost = linear.fit(student.model, _texts(of), student.targets(of.shots))
    return [_answered(of, "linear-head", student, cost, "ridge regression, in closed form")]


def setfit(of: Attempt) -> list[Trial]:
    """The small model tuned on pairs of texts, then a linear head on it ("setfit")."""
    recipe = of.ways.setfit
    of.progress(f"SetFit, {recipe.rounds} rounds of pairs")
    student = _by_class(of, "full", recipe.seed)
    goals = student.targets(of.shots)
    cost = contrastive.fit(student.model, _texts(of), goals, recipe).cost
    cost += linear.fit(student.model, _texts(of), goals)
    note = f"{2 * recipe.rounds} pairs a text, once; then ridge regression"
    return [_answered(of, "setfit", student, cost, note)]


def full(of: Attempt) -> list[Trial]:
    """All of the small model trained on the labels ("small-full")."""
    of.progress("small model on the labels")
    return [_on_labels(of, "small-full", "full", of.ways.small)]


def s4(of: Attempt) -> list[Trial]:
    """Chapter 4's final design in it ("small-s4")."""
    of.progress("small model on the labels, S4")
    part = build.Part(build.sized(of.encoder.model, "s4", of.ways.share))
    own = part.sized
    note = f"{own.params:,} parameters beside the frozen ones: {own.design}"
    return [_on_labels(of, "small-s4", part, of.ways.design, note)]


def pairs_head(of: Attempt) -> list[Trial]:
    """A linear head that tells right from wrong pairs of prompt and choice ("pairs-head")."""
    of.progress("linear head on pairs of prompt and choice")
    student, texts, goals = _by_pair(of, "head")
    cost = linear.fit(student.model, texts, goals)
    return [_answered(of, "pairs-head", student, cost, "ridge regression, in closed form")]


def pairs_full(of: Attempt) -> list[Trial]:
    """All of the small model trained to tell them apart ("pairs-full").

    It takes as many steps as there are to be at least: choices may be many.
    """
    of.progress("small model on pairs of prompt and choice")
    student, texts, goals = _by_pair(of, "full")
    recipe = of.ways.small.model_copy(update={"epochs": 0})
    cost = classifier.fit(student.model, texts, goals, recipe).cost
    return [_answered(of, "pairs-full", student, cost, f"{recipe.least_steps} steps")]


def distilled(of: Attempt, teacher: Trial) -> Trial:
    """The small model, trained on what the tuned `lm` says of more texts ("small-distilled").

    Without such texts, each half of the scored ones (their labels unseen) makes the student
    that answers the other half. The price is that of one student, and of its teacher.
    """
    of.progress("small model, taught by T-Few")
    scored, small = of.scored, of.ways.small
    rows = np.arange(len(scored))
    groups = [(of.texts, rows)]
    if not of.texts:
        groups = [(scored[1 - half :: 2], rows[half::2]) for half in (0, 1)]
    hits, spent, answering = np.zeros(len(scored), dtype=bool), Cost(), 0.0
    for more, mine in groups:
        read = [*of.shots, *more]
        table, asked = RankTeacher(of.lm).logits(read)
        student = _by_class(of, "full", small.seed)
        learnt = students.classify(student, read, table, small)
        answers, answered = right(student, [scored[i] for i in mine])
        hits[mine] = answers.numpy()
        spent += asked + learnt.cost + Cost(answered.seconds)
        answering += answered.flops
    return Trial(
        strategy="small-distilled",
        model=of.encoder.name,
        hits=hits,
        train_flops=teacher.train_flops + spent.flops / len(groups),
        flops_per_query=answering / len(scored),
        labels=len(of.shots),
        seconds=teacher.seconds + spent.seconds,
        note=f"taught by t-few on {len(read)} texts",
    )


def _texts(of: Attempt) -> list[str]:
    return [e.prompt for e in of.shots]


def _by_class(of: Attempt, trains: Trains, seed: int) -> ClassTeacher:
    """A small classifier with an output for each answer, before it has learnt anything."""
    model = classifier.new(of.encoder, len(of.classes), trains, seed=seed)
    return ClassTeacher(model, of.classes)


def _on_labels(of: Attempt, strategy: str, trains: Trains, recipe: Recipe, note: str = "") -> Trial:
    """The small model, or what of it is trained, by steps on the labels."""
    student = _by_class(of, trains, recipe.seed)
    learnt = students.classify(student, of.shots, None, recipe)
    return _answered(of, strategy, student, learnt.cost, note)


def _by_pair(of: Attempt, trains: Trains) -> tuple[PairTeacher, list[str], Tensor]:
    """A small classifier of right and wrong pairs; the labelled pairs, and which are right."""
    model = classifier.new(of.encoder, pairs.CLASSES, trains, seed=of.ways.small.seed)
    return PairTeacher(model), pairs.texts(of.shots), pairs.goals(of.shots)


def _answered(of: Attempt, strategy: str, student: Teacher, cost: Cost, note: str) -> Trial:
    """What a small model that has learnt answers; cost: of the learning."""
    hits, answered = right(student, of.scored)
    return Trial(
        strategy=strategy,
        model=of.encoder.name,
        hits=hits.numpy(),
        train_flops=cost.flops,
        flops_per_query=answered.flops / len(of.scored),
        labels=len(of.shots),
        seconds=cost.seconds + answered.seconds,
        note=note,
    )
