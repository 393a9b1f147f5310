"""What a preset's T-Few runs take, from closed forms: nothing is downloaded, nothing computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from frugal import tasks
from frugal.costs import Scenario, arch, memory, methods, prices, scenario
from frugal.engine import backbones
from frugal.engine.presets import Preset
from frugal.errors import FrugalError
from frugal.fewshot.tfew import Recipe

# Share of the peak that T-Few's own half hour on an A100 (appendix A) makes of the 2.7e16 FLOPs it
# counts for a training (§4.2): 2.7e16 / (312e12 FLOP/s × 1800 s) = 0.048.
MFU = 0.05
SUMS = ("runs", "train_flops", "test_flops", "gpu_hours", "usd")


def study(
    preset: Preset,
    *,
    names: Sequence[str] = (),
    backbone: str | None = None,
    given: Mapping[str, Any] | None = None,
    count: str = "paper",
    gpu: str = Scenario.gpu,
    mfu: float = MFU,
    usd_per_hour: float | None = None,
) -> dict[str, Any]:
    """Runs, FLOPs, GPU hours and USD of every task of a preset × its seeds × its backbones.

    names, backbone: others than the preset's
    given: what a recipe is given by hand
    count: "paper" or "exact" FLOPs, as in `costs.Scenario`; of a training, and of answering the
        test examples in every template that is used

    An example has as many tokens as `Scenario` says, or as the recipe takes. `parts` has one record
    for each backbone and task. Raises FrugalError for a name that is unknown, or a backbone whose
    sizes are.
    """
    card = memory.gpu(gpu)
    price = prices.get("gpu", gpu) if usd_per_hour is None else None
    rate = price.usd if price else usd_per_hour
    parts = []
    for model in [backbone] if backbone else [entry.name for entry in preset.backbones]:
        shape = _shape(preset, model)
        for name in names or preset.tasks:
            part = _part(preset, name, model, shape, given or {}, count)
            spent = part["train_flops"] + part["test_flops"]
            part["gpu_hours"] = scenario.hours(spent, peak_flops=card.peak_flops, mfu=mfu)
            part["usd"] = part["gpu_hours"] * rate
            parts.append(part)
    total = {what: sum(part[what] for part in parts) for what in SUMS}
    return {
        "preset": preset.name,
        "dry_run": True,
        **total,
        "flops": total["train_flops"] + total["test_flops"],
        "count": count,
        "tokens": Scenario.query_tokens,
        "gpu": gpu,
        "mfu": mfu,
        "usd_per_hour": rate,
        "price_date": price.known_on if price else None,
        "warnings": price.warnings() if price else [],
        "parts": parts,
    }


def _shape(preset: Preset, name: str) -> arch.Architecture:
    """The sizes of a backbone: of the preset's word for them, or of a model that is at hand."""
    known = preset.listed(name).arch or name
    if known in arch.names():
        return arch.get(known)
    if backbones.at_hand(name):
        return arch.from_config(backbones.load(name, device="cpu").model.config)
    raise FrugalError(
        f"backbone {name!r}: its sizes are not known without its weights; "
        f"name one of {', '.join(arch.names())}, or a folder"
    )


def _part(
    preset: Preset,
    name: str,
    backbone: str,
    shape: arch.Architecture,
    given: Mapping[str, Any],
    count: str,
) -> dict[str, Any]:
    """All seeds of one task on one backbone."""
    task, runs = tasks.defined(name), len(preset.seeds)
    recipe = Recipe.of(preset.recipe, task.recipe, preset.listed(backbone).recipe, given)
    templates = len(task.templates) if preset.templates == "all" else 1
    tested = min(task.tested or preset.limit, preset.limit)
    asked = Scenario(
        arch=shape,
        shots=0,
        query_tokens=min(Scenario.query_tokens, recipe.max_tokens or Scenario.query_tokens),
        steps=recipe.steps,
        batch=recipe.batch_size,
        method=recipe.method,
        count=count,
    )
    return {
        "backbone": backbone,
        "task": name,
        "runs": runs,
        "shots": task.shots or preset.labels,
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "micro_batch": recipe.micro_batch or recipe.batch_size,
        "trainable_params": methods.trainable(shape, recipe.method),
        "tested": tested,
        "templates": templates,
        "train_flops": runs * asked.train_flops(),
        "test_flops": runs * tested * templates * asked.query_flops(),
    }
