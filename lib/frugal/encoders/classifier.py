"""One small classifier: an encoder, the mean of its states, one linear layer.

All of the encoder is trained, or a design in it that is handed over, or the head alone; on classes,
on numbers, or on a teacher's logits. Chapters 4, 5 and 6 train this one, so that S4 is the same
everywhere. Texts of similar length share a batch, and share it in every epoch; the order of the
batches changes.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from frugal.costs import arch
from frugal.encoders.encoder import (
    Batch,
    Split,
    padded,
    parts,
    rows_read,
    scoring_batches,
)
from frugal.encoders.losses import TEMPERATURE, loss
from frugal.encoders.schedule import Schedule, Trains, frozen_layers, text_flops
from frugal.engine import digests, training
from frugal.engine.backbones import Backbone
from frugal.engine.checkpoints import Checkpoint
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.kernels.precision import Float, products

VERSION = 2  # of this training: records that two others made, in chapters 4 and 5, are of version 1


class Recipe(BaseModel):
    """How a classifier is trained: AdamW, a linear warm-up, then linearly down to 0.

    epochs, least_steps: whichever takes longer
    max_tokens:  longer texts are cut
    temperature: where it learns logits
    precision:   of its products; what is trained is float32
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=3, ge=0)
    least_steps: int = Field(default=1, ge=1)
    batch_size: int = Field(default=16, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.06, ge=0, le=1)  # share of the steps
    gradient_clip: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=TEMPERATURE, gt=0)
    precision: Float = "float32"
    seed: int = 0

    def steps(self, texts: int) -> int:
        """Steps on so many texts."""
        return max(self.least_steps, self.epochs * math.ceil(texts / self.batch_size))


class Classifier(nn.Module):
    """(texts, outputs) of texts: W · mean over tokens of the encoder's states + b.

    precision: of the products; that which it learnt in
    """

    precision: Float = "float32"

    def __init__(
        self, encoder: Any, backbone: Backbone, outputs: int, trains: Trains, max_tokens: int
    ) -> None:
        super().__init__()
        encoder.pooler = None  # reads the first token alone; its weights would get no gradient
        self.encoder, self.trains = encoder, trains
        self.backbone, self.max_tokens = backbone, max_tokens
        self.arch = arch.from_config(encoder.config).replace(pooler=False)
        self.tuned: dict[str, nn.Parameter] = {}  # what a design added
        if trains == "head":
            encoder.requires_grad_(False)
        elif not isinstance(trains, str):
            self.tuned = dict(trains.attach(encoder).named_parameters())
        self.head = nn.Linear(encoder.config.hidden_size, outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.split = Split(encoder, frozen_layers(trains, self.arch))

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def pad(self) -> int:
        """Id of the token that shorter texts are padded with."""
        return self.backbone.tokenizer.pad_token_id or 0

    def forward(self, batch: Batch) -> Tensor:
        """(B, outputs) of a batch."""
        said: Tensor = self.head(self.mean(batch))
        return said

    def trained(self) -> dict[str, nn.Parameter]:
        """What a training changes, by name."""
        return {n: p for n, p in self.named_parameters() if p.requires_grad} | self.tuned

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; what is longer than `max_tokens` loses its end."""
        return encode(self.backbone, texts, self.max_tokens)

    def batch(self, ids: Sequence[Sequence[int]], index: Sequence[int]) -> Batch:
        """The texts at these places, padded to the longest."""
        return padded(ids, index, self.pad, self.device)

    def outputs(self, texts: Sequence[str]) -> tuple[Tensor, Cost]:
        """(texts, outputs) fp32 on the CPU; and what that took."""
        found, lengths, seconds = self._each(texts, self, self.head.out_features)
        return found, Cost(seconds, sum(lengths), self.flops(lengths))

    def states(self, texts: Sequence[str]) -> tuple[Tensor, Cost]:
        """(texts, d) what the head reads, fp32 on the CPU; and what that took."""
        found, lengths, seconds = self._each(texts, self.mean, self.head.in_features)
        return found, Cost(seconds, sum(lengths), self.flops(lengths, head=False))

    def mean(self, batch: Batch) -> Tensor:
        """(B, d) mean over its tokens of each text's states."""
        return self.split.mean(batch, self.split.frozen(batch))

    @torch.inference_mode()
    def _each(
        self, texts: Sequence[str], of: Callable[[Batch], Tensor], width: int
    ) -> tuple[Tensor, list[int], float]:
        """(texts, width) of batches, fp32 on the CPU; the texts' lengths in tokens; seconds."""
        started = time.perf_counter()
        ids = self.encode(texts)
        lengths = [len(row) for row in ids]
        found = torch.empty(len(ids), width)
        with products(self.precision, self.device):
            for index in scoring_batches(lengths, self.device):
                found[index] = of(self.batch(ids, index)).float().cpu()
        return found, lengths, time.perf_counter() - started

    def flops(self, lengths: Sequence[int], *, head: bool = True, train: bool = False) -> float:
        """Exact FLOPs of `outputs` for texts of so many tokens; without the head, of `states`.

        train: of all of a training step on them
        """
        outputs = self.head.out_features if head else 0
        of = partial(text_flops, self.trains, self.arch, outputs, train=train)
        return float(sum(map(cache(of), lengths)))

    def fingerprint(self) -> str:
        """Changes whenever an output can."""
        weights = digests.weights([*self.named_parameters(), *self.tuned.items()])
        if self.precision == "float32":
            return weights
        return digests.stream([weights, self.precision])


def encode(backbone: Backbone, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids of each text: at most `max_tokens`, and what the model can read.

    Raises FrugalError for a text that has none.
    """
    tokenizer = backbone.tokenizer
    most = min(backbone.limited(max_tokens).max_tokens or max_tokens, tokenizer.model_max_length)
    found: list[list[int]] = tokenizer(list(texts), truncation=True, max_length=most)["input_ids"]
    if not all(found):
        raise FrugalError(f"text {found.index([])}: {backbone.name} reads no token in it")
    return found


def new(
    backbone: Backbone,
    outputs: int,
    trains: Trains = "full",
    *,
    layers: int | None = None,
    max_tokens: int = 512,
    seed: int = 0,
) -> Classifier:
    """A classifier on a copy of the encoder `backbone`, its head at random.

    outputs: classes, or 1 for a number
    trains:  what is trained beside the head: "full" for all of it, "head" for nothing, or a design
    layers:  so many fresh layers on the backbone's embeddings, instead of its own ones

    Raises FrugalError for a backbone that is no encoder, where a design cannot be attached, and
    where weights that are to be trained are not float32.
    """
    if backbone.family != "encoder":
        raise FrugalError(f"{backbone.name} is of the family {backbone.family}, not an encoder")
    if trains == "full" and backbone.precision != "float32":
        raise FrugalError(
            f"{backbone.name}: its weights are {backbone.precision}; those that are trained are "
            "float32, and a recipe's `precision` is that of their products"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if layers is None:
            encoder = copy.deepcopy(backbone.model)
        else:
            config = copy.deepcopy(backbone.model.config)
            config.num_hidden_layers = layers
            encoder = type(backbone.model)(config)
            encoder.embeddings.load_state_dict(backbone.model.embeddings.state_dict())
        encoder = encoder.to(backbone.device).eval()  # without dropout: a resumed run is the same
        found = Classifier(encoder, backbone, outputs, trains, max_tokens)
    return found.to(backbone.device)


@dataclass(frozen=True)
class Fitted:
    """The loss of every step, and what the training took, what a checkpoint spared included."""

    loss: list[float]
    cost: Cost


def fit(
    model: Classifier,
    texts: Sequence[str],
    goals: Tensor,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    **options: Any,
) -> Fitted:
    """Train `model` in place, on `goals` as `losses.loss` takes them.

    checkpoint: a folder where the state is kept, to go on from after a kill; options: `every` and
        `progress` of `training.run`

    Deterministic on one machine. Raises FrugalError on a loss that is not finite, an empty list,
    and a checkpoint of another training.
    """
    if not len(texts) == len(goals) > 0:
        raise FrugalError(f"nothing to train on: {len(texts)} texts, {len(goals)} goals")
    started = time.perf_counter()
    ids = model.encode(texts)
    state = None
    if checkpoint:
        of = {
            "recipe": recipe.model_dump_json(exclude={"precision"}),
            "precision": recipe.precision,
            "data": digests.stream([repr(ids), digests.raw(goals)]),
            "start": model.fingerprint(),
        }
        state = Checkpoint(checkpoint / "student.safetensors", of)
    model.precision = recipe.precision
    lengths = [len(row) for row in ids]
    schedule = Schedule.of(lengths, recipe, model.split.below, model.head.in_features)
    batches = [
        [model.batch(ids, part) for part in parts(index, lengths, model.device)]
        for index in schedule.batches
    ]
    goals = goals.to(model.device)
    kept: dict[tuple[int, int], Tensor | None] = {}

    def backward(step: int) -> float:
        number = schedule.order[step]
        found = 0.0
        for part, batch in enumerate(batches[number]):
            with products(recipe.precision, model.device):
                states = kept[number, part] if (number, part) in kept else model.split.frozen(batch)
                said = model.head(model.split.mean(batch, states)).float()
            if number in schedule.kept:
                kept[number, part] = states
            # The loss is a mean over texts: each part counts by its share.
            share = len(batch.index) / len(schedule.batches[number])
            value = share * loss(said, goals[batch.index], recipe.temperature)
            value.backward()
            found += value.item()
        return found

    with rows_read(model.encoder, ids, model.pad):
        trained = model.trained()
        preparing = time.perf_counter() - started
        losses, seconds = training.run(
            trained,
            torch.optim.AdamW(trained.values(), lr=recipe.lr, weight_decay=0.0, fused=True),
            backward,
            steps=len(schedule.order),
            factor=lambda step: training.schedule(step, len(schedule.order), recipe.warmup),
            gradient_clip=recipe.gradient_clip,
            state=state,
            **options,
        )
    tokens, spent = schedule.cost(lengths, model.trains, model.arch, model.head.out_features)
    return Fitted(losses, Cost(preparing + seconds, tokens, spent))


def planned_flops(
    backbone: Backbone,
    outputs: int,
    trains: Trains,
    recipe: Recipe,
    texts: Sequence[str],
    asked: Sequence[str],
) -> float:
    """Exact FLOPs of a training on `texts` and of answering `asked`, without doing either."""
    shape = arch.from_config(backbone.model.config).replace(pooler=False)
    lengths, others = (
        [len(ids) for ids in encode(backbone, some, recipe.max_tokens)] for some in (texts, asked)
    )
    schedule = Schedule.of(lengths, recipe, frozen_layers(trains, shape), shape.d_model)
    _, spent = schedule.cost(lengths, trains, shape, outputs)
    return spent + sum(text_flops(trains, shape, outputs, n, train=False) for n in others)
