"""A small classifier: an encoder, the mean of its states, one linear layer; and its training.

Trained on labels, or on a teacher's logits (`distill`); all of it, or a design of chapter 4 in it.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from frugal import peft
from frugal.budgets.distill import TEMPERATURE, Cost, kd_loss
from frugal.costs import arch, flops
from frugal.engine import digests, training
from frugal.engine.backbones import Backbone
from frugal.engine.checkpoints import Checkpoint
from frugal.errors import FrugalError
from frugal.spaces import build
from frugal.spaces.sizes import Sized
from frugal.tasks import Example

BATCH_TOKENS = 4096  # in a forward pass of `Classifier.logits`
MIXED = 8  # batches whose examples are sorted by length among each other


class Classifier(nn.Module):
    """Logits over the classes of a text: W · mean over tokens of the encoder's states + b.

    classes: the answer choices, in the order of the logits
    """

    def __init__(self, encoder: Any, tokenizer: Any, classes: Sequence[str]) -> None:
        super().__init__()
        encoder.pooler = None  # reads the first token alone; its weights would get no gradient
        self.encoder, self.tokenizer, self.classes = encoder, tokenizer, tuple(classes)
        self.head = nn.Linear(encoder.config.hidden_size, len(self.classes))
        shape = arch.from_config(encoder.config)
        self.arch = shape.replace(pooler=False)
        self.design: Sized | None = None
        self.tuned: peft.Tuned | None = None

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, S) token ids, (B, S) true where there is one → (B, classes)."""
        states = self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[..., None].to(states.dtype)
        return self.head((states * weights).sum(1) / weights.sum(1))

    def encode(self, examples: Sequence[Example]) -> list[list[int]]:
        """The prompts in tokens; what is longer than the encoder takes loses its end."""
        found: list[list[int]] = self.tokenizer(
            [e.prompt for e in examples],
            truncation=True,
            max_length=self.encoder.config.max_position_embeddings,
        )["input_ids"]
        return found

    def batch(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, padded to the longest row."""
        ids = nn.utils.rnn.pad_sequence([torch.tensor(r) for r in rows], batch_first=True)
        lengths = torch.tensor([len(r) for r in rows])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        return ids.to(self.device), mask.to(self.device)

    def flops(self, tokens: int, *, train: bool = False) -> int:
        """Exact FLOPs of one text of so many tokens: forward, or all of a training step."""
        head = 2 * self.head.in_features * self.head.out_features * (3 if train else 1)
        if self.design:
            return build.flops_of(self.design, self.arch, tokens, train=train) + head
        counted = flops.train_step if train else flops.forward
        return sum(counted(self.arch, prompt_tokens=tokens).values()) + head

    def tune(self, design: str, share: float, seed: int = 0) -> None:
        """Freeze the encoder and give it a design of chapter 4, which is trained with the head.

        design, share: as `spaces.build.sized` takes them, which also raises
        """
        self.design = build.sized(self.encoder, design, share)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tuned = build.attach(self.encoder, self.design)

    def trained(self) -> dict[str, nn.Parameter]:
        """What a training changes, by name."""
        own = {n: p for n, p in self.named_parameters() if p.requires_grad}
        return own | (dict(self.tuned.named_parameters()) if self.tuned else {})

    @torch.inference_mode()
    def logits(self, examples: Sequence[Example]) -> tuple[Tensor, Cost]:
        """As of a `Teacher`: (examples, most choices), -inf where there are fewer; and the cost."""
        started = time.perf_counter()
        rows = self.encode(examples)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found = torch.empty(len(rows), len(self.classes))
        while order:
            size = max(1, BATCH_TOKENS // len(rows[order[-1]]))
            order, some = order[:-size], order[-size:]
            found[some] = self(*self.batch([rows[i] for i in some])).float().cpu()
        each = cache(self.flops)
        lengths = [len(r) for r in rows]
        # Column 0 of the classes stands in where there is no choice, until it is masked.
        offered = [torch.tensor([self.classes.index(c) for c in e.choices]) for e in examples]
        column = nn.utils.rnn.pad_sequence(offered, batch_first=True, padding_value=-1)
        table = found.gather(1, column.clamp(min=0)).masked_fill(column < 0, -math.inf)
        seconds = time.perf_counter() - started
        return table, Cost(seconds, sum(lengths), float(sum(map(each, lengths))))

    def fingerprint(self) -> str:
        attached = self.tuned.named_parameters() if self.tuned else ()
        return digests.weights([*self.named_parameters(), *attached])


def classes(examples: Sequence[Example]) -> tuple[str, ...]:
    """All choices there are, in the order in which they first appear.

    Raises FrugalError where they are more than any example offers: such examples do not choose
    among the same answers, and a classifier has one output for each.
    """
    found = tuple(dict.fromkeys(c for e in examples for c in e.choices))
    if len(found) > max(len(e.choices) for e in examples):
        raise FrugalError(
            f"the examples do not choose among the same answers ({len(found)} in all), so that no "
            "classifier can be trained on them"
        )
    return found


def targets(examples: Sequence[Example], of: Sequence[str]) -> Tensor:
    """(examples,) the class of each label."""
    place = {choice: i for i, choice in enumerate(of)}
    return torch.tensor([place[e.choices[e.label]] for e in examples])


def by_class(table: Tensor, examples: Sequence[Example], of: Sequence[str]) -> Tensor:
    """(examples, most choices) in each example's own order → (examples, classes).

    -inf where an example does not offer a class, as a teacher's logits have it.
    """
    place = {choice: i for i, choice in enumerate(of)}
    pairs = [(i, j, place[c]) for i, e in enumerate(examples) for j, c in enumerate(e.choices)]
    row, column, target = torch.tensor(pairs).T
    found = table.new_full((len(examples), len(of)), -math.inf)
    return found.index_put((row, target), table[row, column])


def new(
    backbone: Backbone, of: Sequence[str], *, layers: int | None = None, seed: int = 0
) -> Classifier:
    """A classifier on a copy of the encoder `backbone`, its head at random.

    layers: so many fresh layers on the backbone's embeddings, instead of its own ones

    Raises FrugalError for a backbone that is no encoder.
    """
    if backbone.family != "encoder":
        raise FrugalError(f"{backbone.name} is of the family {backbone.family}, not an encoder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if layers is None:
            encoder = copy.deepcopy(backbone.model)
        else:
            config = copy.deepcopy(backbone.model.config)
            config.num_hidden_layers = layers
            encoder = type(backbone.model)(config)
            encoder.embeddings.load_state_dict(backbone.model.embeddings.state_dict())
        found = Classifier(encoder, backbone.tokenizer, of)
    return found.to(backbone.device).eval()  # without dropout, so that a resumed run is the same


class Fit(BaseModel):
    """How a classifier is trained: AdamW, linear warm-up and decay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=200, ge=1)
    batch_size: int = Field(default=32, ge=1)
    lr: float = Field(default=2e-4, gt=0)
    warmup: float = Field(default=0.06, ge=0, le=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=TEMPERATURE, gt=0)  # where it learns logits
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """The loss of every step, and what the training took, what a checkpoint spared included."""

    loss: list[float]
    cost: Cost


def fit(
    model: Classifier,
    examples: Sequence[Example],
    goals: Tensor,
    recipe: Fit,
    *,
    checkpoint: Path | None = None,
    every: int = 50,
    progress: Callable[[int, float], Any] = lambda step, loss: None,
) -> Fitted:
    """Train `model` in place: on classes, goals (examples,) whole, or logits (examples, classes).

    checkpoint: a folder where the state is kept every `every` steps, to go on from after a kill

    Deterministic on one machine. Raises FrugalError on a loss that is not finite, an empty list,
    and a checkpoint of another training.
    """
    if not len(examples) == len(goals) > 0:
        raise FrugalError(f"nothing to train on: {len(examples)} examples, {len(goals)} goals")
    started = time.perf_counter()
    trained, rows = model.trained(), model.encode(examples)
    state = None
    if checkpoint:
        of = {"recipe": recipe.model_dump_json(), "data": _digest(rows, goals)}
        of["start"] = digests.weights([*model.named_parameters(), *trained.items()])
        state = Checkpoint(checkpoint / "student.safetensors", of)
    lengths = [len(r) for r in rows]

    def backward(step: int) -> float:
        some = mixed_batch(step, recipe.batch_size, lengths, recipe.seed)
        logits = model(*model.batch([rows[i] for i in some])).float()
        loss = _loss(logits, goals[some].to(logits.device), recipe.temperature)
        loss.backward()
        return loss.item()

    preparing = time.perf_counter() - started
    losses, seconds = training.run(
        trained,
        torch.optim.AdamW(trained.values(), lr=recipe.lr, weight_decay=0.0),
        backward,
        steps=recipe.steps,
        factor=lambda step: training.schedule(step, recipe.steps, recipe.warmup),
        gradient_clip=recipe.gradient_clip,
        state=state,
        every=every,
        progress=progress,
    )
    return Fitted(losses, _training_cost(model, lengths, recipe, preparing + seconds))


def _loss(logits: Tensor, goals: Tensor, temperature: float) -> Tensor:
    if goals.dim() == 1:
        return nn.functional.cross_entropy(logits, goals)
    return kd_loss(logits, goals, temperature=temperature)


def mixed_batch(step: int, batch_size: int, lengths: Sequence[int], seed: int) -> list[int]:
    """Which examples step `step` sees: of some batches' worth, those of about equal length.

    A function of its arguments alone. Every example comes once an epoch, as in `batch_indices`.
    """
    several = max(1, min(MIXED, len(lengths) // batch_size))
    block, place = divmod(step, several)
    drawn = training.batch_indices(block, several * batch_size, len(lengths), seed)
    drawn.sort(key=lambda i: lengths[i])
    generator = torch.Generator().manual_seed(seed * 1_000_003 + block)
    turn = int(torch.randperm(several, generator=generator)[place])
    return drawn[turn * batch_size : (turn + 1) * batch_size]


def _training_cost(model: Classifier, lengths: Sequence[int], recipe: Fit, seconds: float) -> Cost:
    """Tokens and FLOPs of all steps; of a model without a design, as if all of it were trained."""
    steps = range(recipe.steps)
    seen = [
        lengths[i] for s in steps for i in mixed_batch(s, recipe.batch_size, lengths, recipe.seed)
    ]
    each = cache(lambda tokens: model.flops(tokens, train=True))
    return Cost(seconds, sum(seen), float(sum(map(each, seen))))


def _digest(rows: Sequence[Sequence[int]], goals: Tensor) -> str:
    return digests.stream([repr(rows), digests.raw(goals)])
