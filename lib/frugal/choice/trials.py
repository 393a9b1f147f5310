"""What is tried on a task: the examples that every way learns from and answers, and what came out.

All ways answer the same examples, none of which they have seen with its label; `ways` has them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugal.costs import check
from frugal.encoders import contrastive
from frugal.encoders.classifier import Recipe
from frugal.engine import backbones
from frugal.engine.backbones import Backbone
from frugal.engine.presets import Preset
from frugal.errors import FrugalError
from frugal.fewshot import encoding, evaluate, tfew
from frugal.tasks import Example, Task
from frugal.tasks.texts import classes


@dataclass(frozen=True)
class Trial:
    """A way that was tried.

    hits:   (examples,) which it got right; seconds: of training and answering here
    labels: that it learnt from; train_flops: once; flops_per_query: of one query alone
    usd_asked: what a query costs where somebody else computes it, and sends a bill
    """

    strategy: str
    model: str
    hits: NDArray[np.bool_]
    train_flops: float
    flops_per_query: float
    labels: int
    seconds: float
    note: str = ""
    usd_asked: float | None = None


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

    recipe: T-Few's; lora: LoRA's, at a rate of its own
    icl_shots: solved examples in a prompt, at most; "icl-many" shows as many as there is room for
    small:  training of all of the small model
    design, share: training of chapter 4's final design in it, on `share` of its parameters
    setfit: tuning of the small model on pairs of texts
    """

    recipe: tfew.Recipe
    lora: tfew.Recipe
    icl_shots: int
    small: Recipe
    design: Recipe
    share: float
    setfit: contrastive.Recipe

    @classmethod
    def of(cls, preset: Preset, labels: int, seed: int) -> "Ways":
        """As a preset says, for so many labels; the small model learns in float32 or bfloat16."""
        of, own = preset.budgets, preset.capstone
        steps = {**preset.recipe, "steps": own.steps}
        small = Recipe(
            epochs=of.epochs,
            least_steps=of.least_steps,
            batch_size=min(of.batch_size, labels),
            lr=of.teacher_lr,
            precision=backbones.trained(preset.precision),
            seed=seed,
        )
        return cls(
            recipe=tfew.Recipe.of(steps, own.tfew, {"seed": seed}),
            lora=tfew.Recipe.of(steps, own.lora, {"method": "lora", "seed": seed}),
            icl_shots=max(preset.icl_shots),
            small=small,
            design=small.model_copy(update={"lr": of.design_lr}),
            share=of.design_share,
            setfit=contrastive.Recipe(**own.setfit, precision=small.precision, seed=seed),
        )


@dataclass(frozen=True)
class Attempt:
    """One task: what the ways are made of, what they learn from and what they answer.

    lm:      ranks choices; encoder: of the small classifiers
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

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The answers of all examples; FrugalError where they differ from line to line."""
        return classes([*self.shots, *self.scored, *self.texts])

    @property
    def query_flops(self) -> float:
        """Exact FLOPs of a query to `lm`, mean over the scored examples."""
        return evaluate.counted(evaluate.query_flops(self.lm, self.encoded), self.lm.name)
