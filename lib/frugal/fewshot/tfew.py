"""The T-Few recipe: train a few vectors on a few examples, with three losses.

Source: Liu et al., NeurIPS 2022, §3: (IA)³, L_LM + L_UL + L_LN, Adafactor, 1,000 steps of 8.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugal import peft
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices, losses, packing
from frugal.fewshot.tasks import Example


class Recipe(BaseModel):
    """What is trained, and how; the defaults are the paper's (§3.4 and its released settings)."""

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
    warmup: float = Field(0.06, ge=0, le=1)  # share of the steps
    gradient_clip: float = Field(1.0, gt=0)
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """The tuned model, the loss of every step, and what the training took."""

    tuned: peft.Tuned
    loss: list[float]
    tokens_computed: int
    seconds: float


def train(
    backbone: Backbone,
    examples: Sequence[Example],
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    every: int = 50,
    truncate: bool = False,
    progress: Callable[[int, float], Any] = lambda step, loss: None,
) -> Trained:
    """Attach `recipe.method` to the backbone and train it on the examples.

    checkpoint: a folder where the state is kept every `every` steps; if one is there from the
        same recipe and examples, training goes on from it, to bit-identical vectors
    truncate:   cut the start of prompts that are too long for the model
    progress:   called after each step with its number and loss

    Deterministic on one machine. Raises FrugalError on a loss that is not finite, for examples
    the model cannot take, and for a checkpoint of another training.
    """
    if not examples:
        raise FrugalError("nothing to train on: the list of examples is empty")
    choices.check(backbone)
    started = time.perf_counter()
    encoded = packing.encode(backbone, examples, truncate=truncate)
    behind = packing.shared_prefix(encoded, uses=recipe.batch_size)
    prefix = encoded[0].sequences[0][:behind]
    trees = [packing.tree(e, behind) for e in encoded]
    # Some methods look at the loss of each example before they start, some start at random.
    each = (_loss(backbone, [t], prefix, recipe)[0] for t in trees)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        tuned = peft.attach(backbone.model, recipe.method, recipe.options, losses=each)
    state = Checkpoint(checkpoint, recipe, digest(examples)) if checkpoint else None
    try:
        loss, tokens = _steps(backbone, trees, prefix, tuned, recipe, state, every, progress)
    except BaseException:
        tuned.detach()  # whoever catches it can attach again
        raise
    return Trained(tuned, loss, tokens, time.perf_counter() - started)


def _steps(
    backbone: Backbone,
    trees: Sequence[packing.ChoiceTree],
    prefix: Sequence[int],
    tuned: peft.Tuned,
    recipe: Recipe,
    state: "Checkpoint | None",
    every: int,
    progress: Callable[[int, float], Any],
) -> tuple[list[float], int]:
    """All steps that are left to do: the loss of each step, and the tokens computed."""
    parameters = dict(tuned.named_parameters())
    optimizer = _optimizer(recipe, list(parameters.values()))
    loss_of_step: list[float] = state.restore(parameters, optimizer) if state else []
    tokens = 0
    for step in range(len(loss_of_step), recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * schedule(step, recipe.steps, recipe.warmup)
        chosen = [trees[i] for i in batch_indices(step, recipe.batch_size, len(trees), recipe.seed)]
        loss, computed = _loss(backbone, chosen, prefix, recipe)
        if not math.isfinite(value := loss.item()):
            raise FrugalError(
                f"step {step + 1}: the loss is {value}; lower the learning rate ({recipe.lr:g})"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_of_step.append(value)
        tokens += computed
        progress(step + 1, value)
        if state and ((step + 1) % every == 0 or step + 1 == recipe.steps):
            state.keep(parameters, optimizer, loss_of_step)
    return loss_of_step, tokens


def _loss(
    backbone: Backbone, trees: Sequence[packing.ChoiceTree], prefix: Sequence[int], recipe: Recipe
) -> tuple[Tensor, int]:
    """The recipe's loss on some examples, and the tokens computed for it."""
    batch = packing.pack(trees, packing.layout(trees), backbone.device)
    cache = choices.prefix_cache(backbone, prefix) if prefix else None
    scores = choices.forward(backbone, batch, cache)
    loss = torch.stack([losses.LOSSES[name](scores) for name in recipe.losses]).sum()
    return loss, len(prefix) + scores.tokens_computed


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate at `step` (from 0): linear up over the warm-up, linear to 0."""
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    return (steps - step) / max(1, steps - rising)


def batch_indices(step: int, batch_size: int, examples: int, seed: int) -> list[int]:
    """Which examples step `step` sees: an endless row of shuffles, cut into batches.

    A function of its arguments alone, so that a resumed training sees what it would have seen.
    """
    places = range(step * batch_size, (step + 1) * batch_size)
    epochs = {place // examples for place in places}
    orders = {}
    for epoch in epochs:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        orders[epoch] = torch.randperm(examples, generator=generator).tolist()
    return [orders[place // examples][place % examples] for place in places]


def _optimizer(recipe: Recipe, parameters: list[Tensor]) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.0)
    # It scales each step by the parameter's root mean square, as the paper's does.
    return torch.optim.Adafactor(parameters, lr=recipe.lr, weight_decay=0.0)


def digest(examples: Sequence[Example]) -> str:
    """What tells one list of examples from another."""
    return hashlib.sha256("".join(e.model_dump_json() for e in examples).encode()).hexdigest()


class Checkpoint:
    """One file that holds all a training needs to go on: parameters, optimiser state, losses."""

    def __init__(self, folder: Path, recipe: BaseModel, examples: str) -> None:
        self.file = folder / "training.safetensors"
        self.of = {"recipe": recipe.model_dump_json(), "examples": examples}
        folder.mkdir(parents=True, exist_ok=True)

    def keep(
        self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, loss: list[float]
    ) -> None:
        """Write the state beside the old one, then put it in its place: a kill loses no state."""
        tensors = {f"parameter/{name}": p.detach() for name, p in parameters.items()}
        for i, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": value for key, value in entries.items()}
        tensors["loss"] = torch.tensor(loss, dtype=torch.float64)
        fresh = self.file.with_suffix(".new")
        save_file({k: v.contiguous() for k, v in tensors.items()}, fresh, metadata=self.of)
        os.replace(fresh, self.file)

    def restore(
        self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> list[float]:
        """Take up the state on disk, if there is one; the losses of the steps it has done."""
        if not self.file.is_file():
            return []
        try:
            with safe_open(self.file, framework="pt") as file:
                of = file.metadata()
            tensors = load_file(self.file)
        except SafetensorError as error:
            raise FrugalError(f"{self.file}: not a readable checkpoint ({error})") from error
        for what, mine in self.of.items():
            if of.get(what) != mine:
                raise FrugalError(
                    f"{self.file}: this checkpoint is of another training (its {what} differ); "
                    "name another folder or remove it"
                )
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, i, entry = key.split("/")
                state.setdefault(int(i), {})[entry] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return [float(value) for value in tensors["loss"]]
