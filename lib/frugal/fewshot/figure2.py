"""T-Few's Figure 2, live: every method on the same labels, each with its own recipe.

Source: Liu et al., NeurIPS 2022, Figure 2, Table 4 and appendix D; the recipes are in
`data/figure2.toml`.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from frugal import data, peft, tasks
from frugal.costs import methods
from frugal.costs.arch import Architecture
from frugal.engine import backbones, digests, presets, runs
from frugal.engine.presets import Figure2, Preset
from frugal.errors import unknown
from frugal.fewshot import evaluate
from frugal.fewshot.tfew import Recipe
from frugal.kernels.precision import NAMES
from frugal.papers import tables
from frugal.tasks import Example, Task

JOB = "figure2.score"


def recipe(name: str, settings: Figure2, common: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a method of `data/figure2.toml`, as long as the settings say.

    common: what all methods share, a preset's `recipe`
    """
    known = data.toml("figure2.toml")
    if name not in known:
        raise unknown("method of Figure 2", name, known)
    entry = known[name]
    paper = entry["paper"]
    steps = max(settings.least_steps, round(paper["steps"] * settings.steps / 1000))
    own = entry["short"] if settings.recipes == "short" else {}
    method = {"method": entry["method"], "options": entry.get("options", {})}
    return Recipe.of(common or {}, paper, own, method, {"steps": steps})


def specs(preset: Preset, settings: Figure2) -> list[runs.RunSpec]:
    """A run for each seed and method, on the preset's backbone.

    Methods that train the model's own weights do so in float32 where the others are in int8; those
    of one precision stand together, so that the model is loaded once in each.
    """
    own = backbones.resolved(preset.precision)
    mine = preset.listed(preset.backbone).recipe
    read = inputs(preset.backbone, settings.task)
    found = [
        runs.spec(
            JOB,
            {
                "name": name,
                "backbone": preset.backbone,
                "dtype": own if own in peft.precisions(how.method) else "float32",
                "task": settings.task,
                "labels": settings.labels,
                "limit": settings.limit,
                "seed": seed,
                "recipe": how.model_dump(mode="json", exclude={"seed"}),
            },
            inputs=read,
            preset=preset.name,
        )
        for seed in settings.seeds
        for name in settings.methods
        for how in [recipe(name, settings, {**preset.recipe, **mine})]
    ]
    return sorted(found, key=lambda spec: str(spec.params["dtype"]))


def inputs(backbone: str, task: str, **_: Any) -> dict[str, str]:
    """What a run reads beside its params."""
    return {"backbone": digests.backbone(backbone), "task": tasks.content(task)}


def score_flops(**params: Any) -> float:
    """Exact FLOPs of `score`: of the training, and of answering every query alone."""
    model, task = backbones.held(params["backbone"], params["dtype"]), tasks.load(params["task"])
    how = Recipe.of(params["recipe"], {"seed": params["seed"]})
    examples, queries = _drawn(task, *(params[k] for k in ("labels", "limit", "seed")))
    training = evaluate.training_flops(model, examples, how)
    query = evaluate.query_flops(model, queries)
    return sum(evaluate.counted(n, model.name) for n in (training, *[query] * len(queries)))


def precision_of(dtype: str, recipe: Mapping[str, Any], **_: Any) -> str | None:
    """What the others are in, too; of a method that trains the model's own weights that is open."""
    return dtype if peft.precisions(recipe["method"]) == NAMES else None


@runs.job(JOB, inputs=inputs, flops=score_flops, precision=precision_of)
def score(
    name: str,
    backbone: str,
    dtype: str,
    task: str,
    labels: int,
    limit: int,
    seed: int,
    recipe: dict[str, Any],
) -> dict[str, Any]:
    """Train one method on `labels` examples that `seed` draws, and answer `limit` others."""
    model, source = backbones.held(backbone, dtype), tasks.load(task)
    how = Recipe.of(recipe, {"seed": seed})
    examples, queries = _drawn(source, labels, limit, seed)
    found, _, trained = evaluate.few_shot(model, source, examples, queries, how)
    trained.tuned.detach()
    return {
        "score": found.accuracy,
        **found.model_dump(include={"examples", "trainable_params", "train_flops"}),
        "hits": found.hits,
        "first_loss": found.loss[0],
        "last_loss": found.loss[-1],
    }


def _drawn(
    task: Task, labels: int, limit: int, seed: int
) -> tuple[list[list[Example]], list[Example]]:
    """What a run trains on, and what it answers."""
    return task.wordings(labels, seed, "first"), task.test(limit, shots=labels, seed=seed)


def records(store: runs.Store, wanted: list[runs.RunSpec]) -> list[dict[str, Any]]:
    """The runs that are done, each flat, as `data/results/figure2.csv` keeps them."""
    found = []
    for spec in wanted:
        if store.done(spec.id):
            result, took = store.result(spec.id), store.machine(spec.id)
            how = spec.params["recipe"]
            learnt = ("trainable_params", "train_flops", "first_loss", "last_loss")
            found.append(
                {
                    **{k: spec.params[k] for k in ("name", "backbone", "task", "labels", "seed")},
                    "accuracy": result["score"],
                    "examples": result["examples"],
                    "hits": result.get("hits"),  # not of what was recorded before they were kept
                    **{k: how[k] for k in ("steps", "lr", "optimizer")},
                    **{k: result[k] for k in learnt},
                    "seconds": took["seconds"],
                    "precision": spec.params["dtype"],
                    "preset": spec.preset,
                    "date": took["started"][:10],
                    "machine": presets.machine(),
                }
            )
    return found


def table(store: runs.Store, wanted: list[runs.RunSpec]) -> pd.DataFrame:
    """The runs that are done, a row each; columns as in `records`."""
    return pd.DataFrame(records(store, wanted))


def published() -> pd.DataFrame:
    """Figure 2's numbers, from Table 4: mean accuracy over its datasets, parameters, by method.

    Columns: name (of `data/figure2.toml`), row, printed (parameters as printed), params, accuracy
    (a fraction).
    """
    rows = tables.scores("tfew_table4_peft")
    records = []
    for name, entry in data.toml("figure2.toml").items():
        cells = rows["", entry["row"]]
        printed = cells["params"]["printed"]
        params = float(printed[:-1]) * {"K": 1e3, "M": 1e6, "B": 1e9}[printed[-1]]
        scores = [float(c["printed"]) for column, c in cells.items() if column != "params"]
        mean = sum(scores) / len(scores) / 100
        records.append((name, entry["row"], printed, params, mean))
    return pd.DataFrame(records, columns=["name", "row", "printed", "params", "accuracy"])


def counts(shape: Architecture) -> pd.DataFrame:
    """What every method of Figure 2 trains on a model, by closed form.

    Columns: name, params, released (what the released code would train), note (why the paper
    prints another number, where it does).
    """
    records = []
    for name, entry in data.toml("figure2.toml").items():
        other = entry.get("released", {})
        options = entry.get("options", {})
        norms = methods.trainable(shape, "layernorm") if other.get("layernorm") else 0
        mine, theirs = (
            methods.trainable(shape, methods.get(entry["method"], o))
            for o in (options, {**options, **other.get("options", {})})
        )
        note = entry.get("note", "")
        records.append({"name": name, "params": mine, "released": theirs + norms, "note": note})
    return pd.DataFrame(records)
