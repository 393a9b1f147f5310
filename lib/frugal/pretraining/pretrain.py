"""Pretraining `nano-t0`: an encoder–decoder that answers prompts it has never seen the task of.

Source: T0 (Sanh et al. 2022), which T-Few starts from: a model trained on prompts of many tasks,
each in several wordings, answers those of other tasks. Here the parts are small and the tasks few
(see `mixture`), and beside T0's loss on the right answer stands L_LN, which ranks the answers:
what the model is for.
"""

import datetime
import math
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from frugal.engine import nano, training
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, losses, packing, probe, tfew
from frugal.pretraining.mixture import Mixture

# Batches that are drawn together and sorted by length, so that little is spent on padding.
CHUNK = 16


class Recipe(BaseModel):
    """How nano-t0 is trained.

    lr, encoder_lr: peak rates of the fresh decoder, and of what was pretrained
    horizon:  after the warm-up the rates fall as if to zero at this multiple of the steps
    cooldown: and over this last share of the steps they fall to zero indeed
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    losses: tuple[Literal["lm", "unlikelihood", "length_normalized"], ...] = (
        "lm",
        "length_normalized",
    )
    steps: int = Field(1200, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(5e-4, gt=0)
    encoder_lr: float = Field(5e-5, gt=0)
    warmup: float = Field(0.05, ge=0, le=1)  # share of the horizon
    horizon: float = Field(1.5, ge=1)
    cooldown: float = Field(0.2, gt=0, le=1)
    gradient_clip: float = Field(1.0, gt=0)
    seed: int = 0


# (IA)³'s own pretraining: the LM loss alone, on the same mixture, batches of 16 (T-Few, §3.5).
VECTORS = tfew.Recipe.model_validate({"losses": ("lm",), "batch_size": 16, "steps": 64})


def pretrain(
    mixture: Mixture,
    recipe: Recipe,
    folder: Path,
    *,
    every: int | None = None,
    progress: Callable[[int, float], Any] = lambda step, loss: None,
) -> list[float]:
    """Train nano-t0 on the mixture and save it in `folder`; the loss of each step.

    The state is kept there every `every` steps (a tenth of all, 100 at most), and training goes
    on from it to the same bits.
    Raises FrugalError on a loss that is not finite, and for a state of another training.
    """
    started, every = time.perf_counter(), every or min(100, math.ceil(recipe.steps / 10))
    model, tokenizer = nano.build(recipe.seed)
    backbone = Backbone("nano-t0", model, tokenizer, "encoder-decoder", truncate=True)
    if not probe.packs(backbone):
        raise FrugalError("nano-t0 as it is built does not suit packing")
    model.requires_grad_(False)
    parameters = nano.trained(model)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    rates = {name: _rate(name, recipe) for name in parameters}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in parameters.items() if rates[n] == rate], "lr": rate}
            for rate in dict.fromkeys(rates.values())
        ],
        weight_decay=0.0,
    )
    # The optimiser counts its parameters group by group.
    parameters = dict(sorted(parameters.items(), key=lambda item: -rates[item[0]]))
    state = tfew.kept(folder, recipe, tfew.digest(mixture.draw(CHUNK, "digest")))

    @lru_cache(maxsize=1)
    def chunk(number: int) -> list[packing.PackedBatch]:
        return _batches(backbone, mixture, recipe, number)

    def backward(step: int) -> float:
        scores = choices.forward(backbone, chunk(step // CHUNK)[step % CHUNK])
        loss = torch.stack([losses.LOSSES[name](scores) for name in recipe.losses]).sum()
        loss.backward()
        return loss.item()

    loss_of_step, _ = training.run(
        parameters,
        optimizer,
        backward,
        steps=recipe.steps,
        factor=lambda step: schedule(step, recipe),
        gradient_clip=recipe.gradient_clip,
        state=state,
        every=every,
        progress=progress,
    )
    nano.save(
        model,
        folder,
        {
            "date": datetime.date.today().isoformat(),
            "recipe": recipe.model_dump(),
            "tasks": {c.name: len(c.records) for c in mixture.components},
            "left_out": mixture.left_out,
            "seconds_of_last_call": round(time.perf_counter() - started),
            "loss": [round(sum(part) / len(part), 4) for part in _parts(loss_of_step, 50)],
        },
    )
    return loss_of_step


def vectors(
    backbone: Backbone, mixture: Mixture, folder: Path, recipe: tfew.Recipe = VECTORS
) -> tfew.Trained:
    """Pretrain (IA)³ vectors for the frozen model on the mixture, and save them in `folder`/ia3.

    Source: T-Few, §3.5; `peft.load(model, folder / "ia3")` starts from them.
    """
    examples = mixture.draw(recipe.steps * recipe.batch_size, "vectors")
    trained = tfew.train(backbone, examples, recipe, checkpoint=folder / "ia3")
    trained.tuned.save(folder / "ia3")
    return trained


def schedule(step: int, recipe: Recipe) -> float:
    """Factor on the peak rates at `step` (from 0)."""
    slow = training.schedule(step, round(recipe.steps * recipe.horizon), recipe.warmup)
    return slow * min(1.0, (recipe.steps - step) / (recipe.steps * recipe.cooldown))


def _rate(name: str, recipe: Recipe) -> float:
    return recipe.encoder_lr if name.startswith("encoder.") else recipe.lr


def _batches(
    backbone: Backbone, mixture: Mixture, recipe: Recipe, chunk: int
) -> list[packing.PackedBatch]:
    """The `CHUNK` batches that are drawn together as number `chunk`, in their steps' order."""
    size = recipe.batch_size
    examples = mixture.draw(CHUNK * size, f"{recipe.seed}/{chunk}")
    trees = [packing.tree(e) for e in encoding.encode(backbone, examples)]
    trees.sort(key=len)
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + chunk)
    order = torch.randperm(CHUNK, generator=generator).tolist()
    batches = (trees[at * size : (at + 1) * size] for at in order)
    return [packing.pack(b, packing.layout(b), backbone.device) for b in batches]


def _parts(values: list[float], size: int) -> list[list[float]]:
    return [values[i : i + size] for i in range(0, len(values), size)]
