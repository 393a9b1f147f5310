"""The job that a search is made of: a design trained in the small classifier, and scored."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import torch

from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe, Trains
from frugal.engine import backbones, digests, runs
from frugal.engine.backbones import Backbone
from frugal.spaces import build
from frugal.tasks import metrics, texts
from frugal.tasks.texts import TextTask


def trains(backbone: Backbone, design: str, budget: float) -> Trains:
    """What the classifier takes: "full", "head", or a design with sizes that meet the budget."""
    if design in ("full", "head"):
        return cast("Trains", design)
    return build.Part(build.sized(backbone.model, design, budget))


def inputs(backbone: str, task: str, **_: Any) -> dict[str, str]:
    """What a run reads beside its params, and which training it is."""
    return {
        "backbone": digests.backbone(backbone),
        "task": texts.content(task),
        "classifier": str(classifier.VERSION),
    }


@lru_cache(maxsize=64)  # by content: a file that was edited is read again
def _task(name: str, content: str, labels: int, limit: int, seed: int) -> TextTask:
    return texts.load(name, labels, limit, seed)


def _asked(
    backbone: str,
    task: str,
    design: str,
    budget: float,
    labels: int,
    limit: int,
    seed: int,
    recipe: Mapping[str, Any],
    precision: str = "float32",
) -> tuple[Backbone, TextTask, Trains, Recipe]:
    """What a run's params name.

    design: its text, "s4", a method's letter, "full" or "head"; seed: of the drawn texts and of
    the training
    """
    loaded = backbones.held(backbone, precision)
    drawn = _task(task, texts.content(task), labels, limit, seed)
    return loaded, drawn, trains(loaded, design, budget), Recipe(**recipe, seed=seed)


def finetune_flops(**params: Any) -> float:
    """Exact FLOPs of `finetune`; frozen layers run once for each training text."""
    backbone, drawn, what, how = _asked(**params)
    return classifier.planned_flops(backbone, drawn.classes, what, how, drawn.train, drawn.test)


def precision_of(design: str, precision: str = "float32", **_: Any) -> str | None:
    """What the search is in; a training of all weights says nothing of it."""
    return None if design == "full" else precision


@runs.job("spaces.finetune", inputs=inputs, flops=finetune_flops, precision=precision_of)
def finetune(**params: Any) -> dict[str, Any]:
    """Train a design on a task and score it; `params` are those of `_asked`."""
    backbone, drawn, what, how = _asked(**params)
    model = classifier.new(backbone, drawn.classes, what, max_tokens=how.max_tokens, seed=how.seed)
    goals = torch.tensor(drawn.train_labels)
    if drawn.classes > 1:
        goals = goals.long()
    else:  # a correlation does not see the scale of what is said
        goals = (goals - goals.mean()) / goals.std(correction=0).clamp_min(1e-6)
    fitted = classifier.fit(model, drawn.train, goals, how)
    said, _ = model.outputs(drawn.test)
    answers = said.argmax(-1) if drawn.classes > 1 else said[:, 0]
    head = sum(p.numel() for p in model.head.parameters())
    print(f"loss of the first step {fitted.loss[0]:.4f}, of the last {fitted.loss[-1]:.4f}")
    return {
        "score": metrics.METRICS[drawn.metric](answers.numpy(), drawn.test_labels),
        "params": sum(p.numel() for p in model.trained().values()) - head,
        "head_params": head,
        "loss": fitted.loss[-1],
    }
