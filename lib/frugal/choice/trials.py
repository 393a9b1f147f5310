"""Every way of classifying that this project knows, tried on one task: who is right, at what cost.

All ways answer the same examples, none of which they have seen with its label.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugal import peft
from frugal.budgets import students
from frugal.budgets.distill import ClassTeacher, RankTeacher, right
from frugal.costs import check
from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe, Trains
from frugal.engine import backbones
from frugal.engine.backbones import Backbone
from frugal.engine.presets import Preset
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, tfew
from frugal.fewshot.choices import ChoiceScores
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
        """As a preset says, for so many labels; the small model learns in float32 or bfloat16."""
        of = preset.budgets
        small = Recipe(
            epochs=of.epochs,
            least_steps=of.least_steps,
            batch_size=min(of.batch_size, labels),
            lr=of.teacher_lr,
            precision=backbones.trained(preset.precision),
            seed=seed,
        )
        return cls(
            recipe=tfew.Recipe(**{**preset.recipe, "steps": preset.capstone.steps}, seed=seed),
            icl_shots=max(preset.icl_shots),
            small=small,
            design=small.model_copy(update={"lr": of.design_lr}),
            share=of.design_share,
        )


@dataclass(frozen=True)
class Attempt:
    """Every way on one task: what it is made of, what it learns from and what it answers.

    lm: ranks choices: zero-shot, with solved examples in the prompt ("icl"), and tuned ("t-few")
    encoder: of the small classifier: all of it trained on the labels ("small-full"), or the
        design S4 in it ("small-s4"), or all of it on what T-Few says of more texts
        ("small-distilled")
    shots, scored, texts: examples with their labels, examples to answer, and these more texts,
        whose labels nobody looks at
    """

    task: Task
    lm: Backbone
    encoder: Backbone
    ways: Ways
    shots: list[Example]
    scored: list[Example]
    texts: list[Example]
    progress: Callable[[str], Any]

    @classmethod
    def on(
        cls,
        task: Task,
        lm: Backbone,
        encoder: Backbone,
        ways: Ways,
        *,
        labels: int,
        limit: int | None = None,
        unlabelled: int = 0,
        seed: int = 0,
        progress: Callable[[str], Any] = lambda message: None,
    ) -> "Attempt":
        """On examples of `task`: `labels` that are labelled, and others.

        limit, unlabelled: at most so many; what a file has beyond those scored is unlabelled

        Raises FrugalError where too few are left to score, and where all have the same answer.
        """
        check.whole("labels", labels, least=1)
        drawn = task.draw(min(labels + unlabelled, max(labels, task.drawable)), seed)
        most = limit if limit is None or task.test_size else limit + unlabelled
        left = task.test(most, shots=labels, seed=seed)
        shots, scored = drawn[:labels], left[:limit]
        texts = drawn[labels:] if task.test_size else left[len(scored) :][:unlabelled]
        if len(scored) < 2:
            raise FrugalError(f"{task.name}: one example is left to score; use fewer labels")
        answers = {e.choices[e.label] for e in [*shots, *scored]}
        if len(answers) == 1:
            raise FrugalError(
                f"{task.name}: the right answer is always {answers.pop()!r}; there is nothing to "
                "learn"
            )
        return cls(task, lm, encoder, ways, shots, scored, texts, progress)

    @cached_property
    def encoded(self) -> list[encoding.EncodedExample]:
        """The scored examples in the tokens of `lm`."""
        return encoding.encode(self.lm, self.scored)

    @property
    def query_flops(self) -> float:
        """Exact FLOPs of a query to `lm`, mean over the scored examples."""
        return evaluate.counted(evaluate.query_flops(self.lm, self.encoded), self.lm.name)

    def run(self) -> Tried:
        """What each way answers, and the ways this task does not allow, with why.

        `lm` is then what it was before.
        """
        found: list[Trial] = []
        left_out: list[dict[str, str]] = []
        shots, scored, ways = self.shots, self.scored, self.ways
        tried = Tried(self.task.name, len(shots), len(scored), self.task.chance, found, left_out)
        try:
            self.progress("zero-shot")
            asked = evaluate.rank(self.lm, self.task, self.encoded)
            found.append(self._ranked("zero-shot", *asked))
            if k := self._fitting():
                self.progress(f"in-context learning, {k} shots")
                note = f"{k} shots, computed again at every query"
                asked = evaluate.rank(self.lm, self.task, scored, shots[:k])
                found.append(self._ranked("icl", *asked, note))
            else:
                why = "not one solved example fits into a prompt beside the longest query"
                left_out.append({"strategy": "icl", "why": why})
            self.progress(f"T-Few, {ways.recipe.steps} steps")
            trained, scores, _ = evaluate.few_shot(self.lm, self.task, shots, scored, ways.recipe)
            teacher = replace(
                self._ranked("t-few", trained, scores),
                train_flops=evaluate.counted(trained.train_flops, trained.backbone),
                seconds=trained.seconds + trained.train_seconds,
            )
            found.append(teacher)
            try:
                of = classes([*shots, *scored, *self.texts])
            except FrugalError as error:
                left_out += [{"strategy": name, "why": str(error)} for name in SMALL]
                return tried
            self.progress("small model on the labels")
            found.append(self._on_labels("small-full", of, "full", ways.small))
            self.progress("small model on the labels, S4")
            try:
                part = build.Part(build.sized(self.encoder.model, "s4", ways.share))
                own = part.sized
                note = f"{own.params:,} parameters beside the frozen ones: {own.design}"
                found.append(self._on_labels("small-s4", of, part, ways.design, note))
            except FrugalError as error:  # too few layers, or too few parameters, for the design
                left_out.append({"strategy": "small-s4", "why": str(error)})
            self.progress("small model, taught by T-Few")
            found.append(self._distilled(of, teacher))
        finally:
            if tuned := peft.of(self.lm.model):
                tuned.detach()
        return tried

    def _fitting(self) -> int:
        """How many of the shots a prompt holds beside the longest query."""

        def tokens(examples: list[Example]) -> list[int]:
            texts = [e.prompt + max(e.choices, key=len) for e in examples]
            return [len(ids) + 2 for ids in self.lm.tokenizer(texts)["input_ids"]]  # a blank line

        room = min(ICL_TOKENS, (self.lm.max_tokens or math.inf) - max(tokens(self.scored)))
        shots = self.shots[: self.ways.icl_shots]
        return sum(total <= room for total in accumulate(tokens(shots)))

    @staticmethod
    def _ranked(
        strategy: str, result: evaluate.RunResult, scores: ChoiceScores, note: str = ""
    ) -> Trial:
        name, hits = result.backbone, scores.hits.numpy()
        cost = evaluate.counted(result.flops_per_query, name)
        return Trial(strategy, name, hits, 0.0, cost, result.shots, result.seconds, note)

    def _student(self, of: tuple[str, ...], trains: Trains, recipe: Recipe) -> ClassTeacher:
        return ClassTeacher(classifier.new(self.encoder, len(of), trains, seed=recipe.seed), of)

    def _on_labels(
        self, strategy: str, of: tuple[str, ...], trains: Trains, recipe: Recipe, note: str = ""
    ) -> Trial:
        """The small model, or what of it is trained, on the labels."""
        student = self._student(of, trains, recipe)
        learnt = students.classify(student, self.shots, None, recipe)
        hits, answered = right(student, self.scored)
        return Trial(
            strategy=strategy,
            model=self.encoder.name,
            hits=hits.numpy(),
            train_flops=learnt.cost.flops,
            flops_per_query=answered.flops / len(self.scored),
            labels=len(self.shots),
            seconds=learnt.cost.seconds + answered.seconds,
            note=note,
        )

    def _distilled(self, of: tuple[str, ...], teacher: Trial) -> Trial:
        """The small model, trained on what the tuned `lm` says of `texts`.

        Without such texts, each half of the scored ones (their labels unseen) makes the student
        that answers the other half. The price is that of one student, and of its teacher.
        """
        scored, small = self.scored, self.ways.small
        rows = np.arange(len(scored))
        pairs = [(self.texts, rows)]
        if not self.texts:
            pairs = [(scored[1 - half :: 2], rows[half::2]) for half in (0, 1)]
        hits, spent, answering = np.zeros(len(scored), dtype=bool), Cost(), 0.0
        for more, mine in pairs:
            read = [*self.shots, *more]
            table, asked = RankTeacher(self.lm).logits(read)
            student = self._student(of, "full", small)
            learnt = students.classify(student, read, table, small)
            answers, answered = right(student, [scored[i] for i in mine])
            hits[mine] = answers.numpy()
            spent += asked + learnt.cost + Cost(answered.seconds)
            answering += answered.flops
        return Trial(
            strategy="small-distilled",
            model=self.encoder.name,
            hits=hits,
            train_flops=teacher.train_flops + spent.flops / len(pairs),
            flops_per_query=answering / len(scored),
            labels=len(self.shots),
            seconds=teacher.seconds + spent.seconds,
            note=f"taught by t-few on {len(read)} texts",
        )
