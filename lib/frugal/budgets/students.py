"""Who learns: a small classifier or a language model, from labels or from a teacher's logits.

A student is named by what it is: "2 layers" (fresh ones on the embeddings of an encoder), "s4" or
another design of chapter 4 (in the frozen encoder), or a backbone: of an encoder all is trained,
anything else ranks the choices and is trained as T-Few does. What has learnt can teach.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from frugal.budgets.distill import ClassTeacher, Imitation, RankTeacher, Teacher
from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe
from frugal.engine import backbones
from frugal.engine.backbones import Backbone
from frugal.engine.training import Cost
from frugal.fewshot import evaluate, packing, tfew
from frugal.spaces import build
from frugal.spaces.design import METHODS
from frugal.tasks import Example

_LAYERS = re.compile(r"(\d+) layers?")


def fresh(who: str) -> bool:
    """Whether the student has new layers, which learn at another rate than pretrained ones."""
    return bool(_LAYERS.fullmatch(who))


def of_encoder(who: str) -> bool:
    """Whether it is made of an encoder that is named beside it, and no backbone of its own."""
    return fresh(who) or who == "s4" or who in METHODS or "[" in who


@dataclass(frozen=True)
class Learnt:
    """A model that has learnt, and can be asked or teach; what that took.

    params:  of the model, without what a method adds to it; trained: that the training changed
    """

    model: Teacher
    cost: Cost
    params: int
    trained: int


def new(
    who: str,
    encoder: Backbone,
    of: Sequence[str],
    *,
    share: float,
    seed: int,
    precision: str = "float32",
) -> ClassTeacher | Backbone:
    """The student `who`, before it has learnt anything.

    encoder: what its layers, its words or its frozen states come from; of: the answer choices
    share:   of the encoder's parameters, for a design
    precision: of a language model's weights

    Raises FrugalError for a name that is neither, and for a design the encoder has no room for.
    """
    if found := _LAYERS.fullmatch(who):
        model = classifier.new(encoder, len(of), layers=int(found[1]), seed=seed)
    elif of_encoder(who):
        design = build.Part(build.sized(encoder.model, who, share))
        model = classifier.new(encoder, len(of), design, seed=seed)
    else:
        backbone = encoder if who == encoder.name else backbones.load(who, precision=precision)
        if backbone.family != "encoder":
            return backbone
        model = classifier.new(backbone, len(of), seed=seed)
    return ClassTeacher(model, tuple(of))


def classify(
    student: ClassTeacher,
    examples: Sequence[Example],
    table: Tensor | None,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
) -> Learnt:
    """Train a classifier on the labels of the examples, or on `table`, a teacher's logits.

    table: (examples, most choices), each example's choices in its own order
    """
    model, texts = student.model, [e.prompt for e in examples]
    goals = student.targets(examples) if table is None else student.by_class(table, examples)
    fitted = classifier.fit(model, texts, goals, recipe, checkpoint=checkpoint)
    every, changed = model.parameters(), model.trained().values()
    params, trained = (sum(p.numel() for p in some) for some in (every, changed))
    return Learnt(student, fitted.cost, params, trained)


def rank(
    backbone: Backbone,
    examples: Sequence[Example],
    table: Tensor | None,
    recipe: tfew.Recipe,
    *,
    checkpoint: Path | None = None,
) -> Learnt:
    """Train a language model likewise; on a teacher's logits it ranks the choices as the teacher.

    What is trained stays attached to `backbone`.
    """
    objective = None
    if table is not None:
        objective = Imitation(table)
        recipe = recipe.model_copy(update={"losses": tfew.Recipe.of().losses})  # of all choices
    encoded = tfew.encode(backbone, examples, recipe)
    spent = evaluate.counted(evaluate.training_flops(backbone, encoded, recipe), backbone.name)
    trained = tfew.train(backbone, encoded, recipe, objective=objective, checkpoint=checkpoint)
    tokens = [len(packing.tree(e)) for (e,) in encoded]
    seen = [tfew.seen(step, recipe, [1] * len(tokens)) for step in range(recipe.steps)]
    cost = Cost(trained.seconds, sum(tokens[i] for step in seen for i, _ in step), spent)
    params = sum(p.numel() for p in backbone.model.parameters())
    return Learnt(RankTeacher(backbone), cost, params, trained.tuned.trainable_params)
