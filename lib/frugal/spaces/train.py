"""Training of encoder classifiers and regressors, and the job that a search is made of.

A linear head on the mean of the last layer's states. Texts of similar length share a batch, so that
little is padded, and they share it in every epoch; the order of the batches changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from frugal import peft
from frugal.costs import arch, flops
from frugal.encoders.encoder import Batch, Encoder, Split, shuffled
from frugal.engine import backbones, digests, runs, training
from frugal.engine.backbones import Backbone
from frugal.spaces import build
from frugal.spaces.sizes import Sized
from frugal.tasks import metrics, texts
from frugal.tasks.texts import TextTask

CACHE_BYTES = 4 * 2**30  # of states that are kept; those beyond are computed in every epoch


class Recipe(BaseModel):
    """How a design is trained: AdamW, a linear warm-up, then linearly down to 0.

    max_tokens: longer texts are cut
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(3, ge=1)  # the paper's, in its search
    batch_size: int = Field(16, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: float = Field(0.06, ge=0, le=1)  # share of the steps
    gradient_clip: float = Field(1.0, gt=0)
    max_tokens: int = Field(128, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """What a training gave: score on the test texts, loss of each step, what was trained.

    params:  of the design; head_params: of the head, which every design trains
    predicted: class, or number, of each test text
    """

    score: float
    loss: list[float]
    params: int
    head_params: int
    predicted: Tensor


def fit(
    backbone: Backbone,
    design: Sized | str,
    task: TextTask,
    recipe: Recipe,
    *,
    cached: bool = True,
) -> Fitted:
    """Train `design` and a head on the task, and score it; the backbone is then what it was.

    design: with its sizes; or "full" for all weights, "head" for the head alone
    cached: whether the states of frozen layers are kept; the losses are the same

    Deterministic on one machine. Raises FrugalError for a backbone that is no encoder, and on a
    loss that is not finite.
    """
    encoder = Encoder(backbone)
    labels = torch.tensor(task.train_labels, dtype=torch.float32, device=backbone.device)
    shift, scale = labels.mean(), labels.std(correction=0).clamp_min(1e-6)
    target = labels.long() if task.classes > 1 else (labels - shift) / scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        tuned = _attach(backbone.model, design)
        head = nn.Linear(backbone.model.config.hidden_size, task.classes)
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
    head.to(backbone.device)
    try:
        trained = dict(head.named_parameters(prefix="head"))
        trained |= dict(tuned.named_parameters()) if tuned else {}
        split = Split(encoder, _first(design, len(encoder.layers)), CACHE_BYTES if cached else 0)
        ids = encoder.encode(task.train, recipe.max_tokens)
        batches = encoder.batches(ids, recipe.batch_size, recipe.seed)
        loss = _steps(split, head, batches, target, trained, recipe)
        ids = encoder.encode(task.test, recipe.max_tokens)
        answers = torch.empty(len(ids), task.classes, device=backbone.device)
        with torch.inference_mode():
            for batch in encoder.sorted(ids):
                answers[batch.index] = head(split.mean(batch)).float()
    finally:
        if tuned:
            tuned.detach()
    predicted = answers.argmax(-1) if task.classes > 1 else answers[:, 0] * scale + shift
    score = metrics.METRICS[task.metric](predicted.cpu().numpy(), task.test_labels)
    params = tuned.trainable_params if tuned else 0
    return Fitted(score, loss, params, sum(p.numel() for p in head.parameters()), predicted.cpu())


def _attach(model: nn.Module, design: Sized | str) -> peft.Tuned | None:
    if isinstance(design, Sized):
        return build.attach(model, design)
    return None if design == "head" else peft.attach(model, design)


def _first(design: Sized | str, layers: int) -> int:
    """How many layers below the first tuned one are frozen."""
    if isinstance(design, Sized):
        return min(design.sizes) - 1
    return layers if design == "head" else 0


def _steps(
    split: Split,
    head: nn.Module,
    batches: list[Batch],
    target: Tensor,
    trained: Mapping[str, nn.Parameter],
    recipe: Recipe,
) -> list[float]:
    """All steps; the loss of each."""
    steps = recipe.epochs * len(batches)

    def backward(step: int) -> float:
        epoch, place = divmod(step, len(batches))
        number = shuffled(len(batches), recipe.seed, epoch)[place]
        batch = batches[number]
        said, wanted = head(split.mean(batch, keep=number)).float(), target[batch.index]
        if said.shape[1] > 1:
            loss = F.cross_entropy(said, wanted)
        else:
            loss = F.mse_loss(said[:, 0], wanted)
        loss.backward()
        return loss.item()

    losses, _ = training.run(
        trained,
        torch.optim.AdamW(trained.values(), lr=recipe.lr, weight_decay=0.0),
        backward,
        steps=steps,
        factor=lambda step: training.schedule(step, steps, recipe.warmup),
        gradient_clip=recipe.gradient_clip,
    )
    return losses


def inputs(backbone: str, task: str, **_: Any) -> dict[str, str]:
    """What a run reads beside its params."""
    return {"backbone": digests.backbone(backbone), "task": texts.content(task)}


@lru_cache(maxsize=64)  # by content: a file that was edited is read again
def _task(name: str, content: str, labels: int, limit: int, seed: int) -> TextTask:
    return texts.load(name, labels, limit, seed)


def finetune_flops(
    backbone: str, task: str, design: str, labels: int, limit: int, seed: int, **more: Any
) -> float:
    """About what `finetune` costs: four characters a token, adapters not counted.

    Frozen layers run once, tuned ones forward and backward in every epoch (full fine-tuning also
    computes gradients of the weights), and the test texts once through all.
    """
    recipe = Recipe(**more["recipe"])
    drawn = _task(task, texts.content(task), labels, limit, seed)
    if backbone in arch.names():
        shape = arch.get(backbone)
    else:
        loaded = backbones.held(backbone)
        shape = arch.from_config(loaded.model.config)

    def layer(text: str) -> float:
        tokens = min(recipe.max_tokens, 2 + len(text) // 4)
        return sum(flops.forward(shape, prompt_tokens=tokens).values()) / shape.layers

    train, test = (sum(map(layer, part)) for part in (drawn.train, drawn.test))
    if design in ("full", "head"):
        frozen = 0 if design == "full" else shape.layers
    else:
        frozen = min(build.named(design, shape.layers).tuned_layers()) - 1
    passes = 3 if design == "full" else 2
    tuned = passes * recipe.epochs * (shape.layers - frozen)
    return train * (frozen + tuned) + test * shape.layers


@runs.job("spaces.finetune", inputs=inputs, flops=finetune_flops)
def finetune(
    backbone: str,
    task: str,
    design: str,
    budget: float,
    labels: int,
    limit: int,
    seed: int,
    recipe: dict[str, Any],
) -> dict[str, Any]:
    """Train a design on a task and score it.

    design: its text, "s4", a method's letter, "full" or "head"; seed: of the drawn texts and of
    the training
    """
    of = inputs(backbone, task)
    loaded = backbones.held(backbone)
    found = design if design in ("full", "head") else build.sized(loaded.model, design, budget)
    how = Recipe(**recipe, seed=seed)
    fitted = fit(loaded, found, _task(task, of["task"], labels, limit, seed), how)
    print(f"loss of the first step {fitted.loss[0]:.4f}, of the last {fitted.loss[-1]:.4f}")
    return {
        "score": fitted.score,
        "params": fitted.params,
        "head_params": fitted.head_params,
        "loss": fitted.loss[-1],
    }
