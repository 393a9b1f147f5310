"""The T-Few recipe: train a few vectors on a few examples, with three losses.

Source: Liu et al., NeurIPS 2022, §3: (IA)³, L_LM + L_UL + L_LN, Adafactor, 1,000 steps of 8.
"""

import dataclasses
import functools
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from frugal import peft
from frugal.engine import digests, processes, training
from frugal.engine.backbones import Backbone
from frugal.engine.checkpoints import Checkpoint
from frugal.errors import FrugalError, first_problem
from frugal.fewshot import choices, encoding, losses, packing, probe
from frugal.fewshot.encoding import EncodedExample
from frugal.tasks.templates import Example

STATE = "training.safetensors"  # what a training that was killed goes on from, beside its result

# An example, or the same example in several wordings, one of which is drawn at every sight of it.
Wordings = Example | Sequence[Example]
Encoded = list[list[EncodedExample]]  # by example, then by wording
Numbered = tuple[int, EncodedExample]  # an example in tokens, and its number among all
Loss = Callable[[choices.ChoiceScores, Sequence[int]], Tensor]


class Recipe(BaseModel):
    """What is trained, and how; the defaults are the paper's (§3.4 and its released settings).

    warmup:      share of the steps
    micro_batch: examples in one forward and backward pass; 0: the whole batch, or a process's part
    max_tokens:  the start of a prompt that takes more is cut; 0: as many as the model takes
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "ia3"
    options: dict[str, Any] = {}
    losses: tuple[Literal["lm", "unlikelihood", "length_normalized"], ...] = Field(
        ("lm", "unlikelihood", "length_normalized"), min_length=1
    )
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(8, ge=1)
    optimizer: Literal["adafactor", "adamw"] = "adafactor"
    lr: float = Field(3e-3, gt=0)
    warmup: float = Field(0.06, ge=0, le=1)
    gradient_clip: float = Field(1.0, gt=0)
    micro_batch: int = Field(0, ge=0)
    max_tokens: int = Field(0, ge=0)
    seed: int = 0

    @classmethod
    def of(cls, *layers: Mapping[str, Any]) -> "Recipe":
        """A recipe of several settings, of which a later one wins; FrugalError for a bad value."""
        try:
            return cls(**{name: value for layer in layers for name, value in layer.items()})
        except ValidationError as error:
            raise FrugalError(f"recipe: {first_problem(error)}") from error


class Objective(Protocol):
    """A loss in place of the recipe's: of a student that learns from a teacher, say."""

    def __call__(self, scores: choices.ChoiceScores, which: Sequence[int]) -> Tensor:
        """Mean over the examples of `scores`, which are those of these numbers; scalar."""

    def fingerprint(self) -> str:
        """Changes whenever a loss can."""


@dataclass(frozen=True)
class Trained:
    """The tuned model, the loss of every step, what training took, and whether it was packed."""

    tuned: peft.Tuned
    loss: list[float]
    tokens_computed: int
    seconds: float
    packed: bool = True


def train(
    backbone: Backbone,
    examples: Sequence[Wordings] | Encoded,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    start: str | Path | None = None,
    checkpoint: Path | None = None,
    every: int = 50,
    progress: Callable[[int, float], Any] = lambda step, loss: None,
) -> Trained:
    """Attach `recipe.method` to the backbone and train it on the examples.

    objective:  a loss of its own, of all choices, in place of those of the recipe
    start:      a folder of saved vectors to begin from (`Tuned.save`), instead of their own start
    checkpoint: a folder where the state is kept every `every` steps; if one is there from the
        same recipe, examples and model, training goes on from it, to bit-identical vectors
    progress:   called after each step with its number and loss

    Several processes (`engine.processes`) share every batch: their result is that of one process,
    up to the order of its sums. Deterministic on one machine. Raises FrugalError on a loss that is
    not finite, for examples the model cannot take, and for a checkpoint of another training.
    """
    if not examples:
        raise FrugalError("nothing to train on: the list of examples is empty")
    if objective and recipe.losses == ("lm",):
        raise FrugalError("recipe: an objective reads all choices, losses = ['lm'] the right one")
    probe.packs(backbone)
    started = time.perf_counter()
    encoded = encode(backbone, examples, recipe)
    trees = [packing.tree(e) for several in encoded for e in several]
    longest = sum(sorted(map(len, trees))[-recipe.batch_size :])  # no batch has a longer row
    packs = functools.partial(probe.packs, backbone, longest, choices.answers(backbone, trees))
    loss_of = objective or _as_recipe(recipe)
    loss_on = functools.partial(_loss, backbone, loss_of, packs())
    wordings, tokens = list(map(len, encoded)), 0
    # Some methods look at the loss of each example before they start.
    numbered = [(i, e) for i, several in enumerate(encoded) for e in several]
    tuned = _attached(backbone, recipe, start, (loss_on([one])[0] for one in numbered))
    parameters = dict(tuned.named_parameters())
    preparing = time.perf_counter() - started

    def backward(step: int) -> float:
        nonlocal tokens
        batch = [(i, encoded[i][wording]) for i, wording in seen(step, recipe, wordings)]
        value, computed = _gradients(backbone, batch, parameters, recipe.micro_batch, loss_on)
        tokens += computed
        return value

    try:
        # What was attached may change what packing suits.
        packed = packs()
        loss_on = functools.partial(_loss, backbone, loss_of, packed)
        state = None
        if checkpoint:
            begun = digests.weights(tuned.named_parameters()) if start else ""
            goal = objective.fingerprint() if objective else ""
            state = kept(
                checkpoint,
                recipe,
                digest([e.example for several in encoded for e in several if e.example]) + goal,
                start=begun,
                tokens=digests.text(repr(encoded)),
                precision=backbone.precision,
                model=digests.weights(backbone.model.named_parameters()),
            )
        loss, seconds = training.run(
            parameters,
            _optimizer(recipe, list(parameters.values())),
            backward,
            steps=recipe.steps,
            factor=lambda step: training.schedule(step, recipe.steps, recipe.warmup),
            gradient_clip=recipe.gradient_clip,
            state=state,
            every=every,
            progress=progress,
        )
    except BaseException:
        tuned.detach()  # whoever catches it can attach again
        raise
    return Trained(tuned, loss, tokens, preparing + seconds, packed)


def encode(backbone: Backbone, examples: Sequence[Wordings] | Encoded, recipe: Recipe) -> Encoded:
    """Every wording of every example in tokens, as much of it as the recipe's losses read.

    What is in tokens stays as it is, so that FLOPs are counted of what is trained on.
    """
    if all(isinstance(e, list) and isinstance(e[0], EncodedExample) for e in examples):
        return cast("Encoded", list(examples))
    wordings = [_wordings(e) for e in cast("Sequence[Wordings]", examples)]
    flat = encoding.encode(
        backbone.limited(recipe.max_tokens), [e for several in wordings for e in several]
    )
    if recipe.losses == ("lm",):  # reads the right choice alone
        flat = [dataclasses.replace(e, sequences=[e.sequences[e.label]], label=0) for e in flat]
    ends = list(itertools.accumulate(map(len, wordings), initial=0))
    return [flat[a:b] for a, b in itertools.pairwise(ends)]


def seen(step: int, recipe: Recipe, wordings: Sequence[int]) -> list[tuple[int, int]]:
    """The examples of step `step`, and the wording that each has there.

    wordings: how many each example comes in; one is drawn anew at every sight of the example, as
        the released code draws a template. A function of its arguments alone.
    """
    first = step * recipe.batch_size
    indices = training.batch_indices(step, recipe.batch_size, len(wordings), recipe.seed)
    return [
        (i, random.Random(f"{recipe.seed}/{place}").randrange(wordings[i]))
        for place, i in enumerate(indices, start=first)
    ]


def _attached(
    backbone: Backbone, recipe: Recipe, start: str | Path | None, each: Iterator[Tensor]
) -> peft.Tuned:
    """The recipe's method on the backbone, at its own start or at saved parameters of its kind."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # some methods start at random
        fresh = peft.attach(backbone.model, recipe.method, recipe.options, losses=each)
    if start is None:
        return fresh
    fresh.detach()
    tuned = peft.load(backbone.model, start)
    found, wanted = ({n: p.shape for n, p in t.named_parameters()} for t in (tuned, fresh))
    if found != wanted:
        tuned.detach()
        raise FrugalError(f"{start}: does not hold what this recipe trains ({recipe.method})")
    return tuned


def _as_recipe(recipe: Recipe) -> Loss:
    """L_LM + L_UL + L_LN, or those of them that the recipe names."""
    each = [losses.LOSSES[name] for name in recipe.losses]
    return lambda scores, which: torch.stack([loss(scores) for loss in each]).sum()


def _loss(
    backbone: Backbone, loss_of: Loss, packed: bool, part: Sequence[Numbered]
) -> tuple[Tensor, int]:
    """The loss on some examples, and the tokens computed for it."""
    which, encoded = zip(*part, strict=True)
    scores = choices.together(backbone, encoded, packed=packed)
    return loss_of(scores, which), scores.tokens_computed


def _gradients(
    backbone: Backbone,
    batch: Sequence[Numbered],
    parameters: Mapping[str, Tensor],
    micro_batch: int,
    loss_of: Callable[[Sequence[Numbered]], tuple[Tensor, int]],
) -> tuple[float, int]:
    """Leave the whole batch's gradients in the parameters; its loss, and the tokens computed.

    Losses are means over examples, so each micro-batch and each process counts by its share of the
    batch: L = Σ_m (n_m / n) L_m, and so do the gradients, however unequal the shares are.
    """
    mine = processes.part(batch)
    total = torch.zeros((), device=backbone.device)
    tokens = 0
    size = micro_batch or max(1, len(mine))
    for at in range(0, len(mine), size):
        part = mine[at : at + size]
        loss, computed = loss_of(part)
        loss = loss * (len(part) / len(batch))
        loss.backward()
        total += loss.detach()
        tokens += computed
    for parameter in parameters.values():
        if parameter.grad is None:  # of a process that has no part of this batch
            parameter.grad = torch.zeros_like(parameter)
    spent = torch.tensor(float(tokens), dtype=torch.float64, device=backbone.device)
    processes.add_up([*(p.grad for p in parameters.values() if p.grad is not None), total, spent])
    return total.item(), int(spent)


def _optimizer(recipe: Recipe, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.0)
    # It scales each step by the parameter's root mean square, as transformers' does with the
    # released settings (scale_parameter, no relative step); 1e-15 squared is their eps.
    return torch.optim.Adafactor(parameters, lr=recipe.lr, eps=(1e-15, 1e-3), weight_decay=0.0)


def kept(folder: Path, recipe: BaseModel, examples: str, **more: str) -> Checkpoint:
    """Where a training with `recipe` on the examples of that digest keeps its state.

    more: digests of what else it is a function of, by what an error calls them
    """
    of = {"recipe": recipe.model_dump_json(), "examples": examples, **more}
    return Checkpoint(folder / STATE, of)


def digest(examples: Sequence[Wordings]) -> str:
    """What tells one list of examples from another."""
    return digests.stream(e.model_dump_json() for several in examples for e in _wordings(several))


def _wordings(example: Wordings) -> Sequence[Example]:
    return [example] if isinstance(example, Example) else example
