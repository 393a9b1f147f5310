"""T-Few's Figure 2, live: every method on the same labels, each with its own recipe.

Source: Liu et al., NeurIPS 2022, Figure 2, Table 4 and appendix D; the recipes are in
`data/figure2.toml`.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from frugal import data, tasks
from frugal.costs import methods
from frugal.costs.arch import Architecture
from frugal.engine import backbones, digests, presets, runs, sweep
from frugal.engine.presets import Figure2, Preset
from frugal.errors import unknown
from frugal.fewshot import evaluate
from frugal.fewshot.tfew import Recipe
from frugal.papers import tables

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
    """A run for each seed and method, on the preset's backbone."""
    mine = preset.listed(preset.backbone).recipe
    read = inputs(preset.backbone, settings.task)
    return [
        runs.spec(
            JOB,
            {
                "name": name,
                "backbone": preset.backbone,
                "dtype": preset.dtype,
                "task": settings.task,
                "labels": settings.labels,
                "limit": settings.limit,
                "seed": seed,
                "recipe": recipe(name, settings, {**preset.recipe, **mine}).model_dump(
                    mode="json", exclude={"seed"}
                ),
            },
            inputs=read,
            preset=preset.name,
        )
        for seed in settings.seeds
        for name in settings.methods
    ]


def inputs(backbone: str, task: str, **_: Any) -> dict[str, str]:
    """What a run reads beside its params."""
    return {"backbone": digests.backbone(backbone), "task": tasks.content(task)}


def score_flops(**params: Any) -> float:
    """Exact FLOPs of `score`: of the training, and of answering every query alone."""
    of = {k: params[k] for k in ("task", "labels", "limit", "seed")}
    model = backbones.held(params["backbone"], params["dtype"])
    source = tasks.load(of["task"])
    how = Recipe.of(params["recipe"], {"seed": of["seed"]})
    examples = source.wordings(of["labels"], of["seed"])
    queries = source.test(of["limit"], shots=of["labels"], seed=of["seed"])
    training = evaluate.training_flops(model, examples, how)
    query = evaluate.query_flops(model, queries)
    return sum(evaluate.counted(n, model.name) for n in (training, *[query] * len(queries)))


@runs.job(JOB, inputs=inputs, flops=score_flops)
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
    found = evaluate.tuned_runs(
        model, source, labels=labels, seeds=[seed], limit=limit, recipe=how
    ).iloc[0]
    return {
        "score": found["accuracy"],
        "examples": int(found["examples"]),
        "trainable_params": int(found["trainable_params"]),
        "train_flops": None if pd.isna(found["train_flops"]) else float(found["train_flops"]),
        "first_loss": found["loss"][0],
        "last_loss": found["loss"][-1],
    }


def table(store: runs.Store, wanted: list[runs.RunSpec]) -> pd.DataFrame:
    """The runs that are done, a row each, flat, as `data/results/figure2.csv` keeps them."""
    found = sweep.collect(store, wanted)
    if found.empty:
        return found
    how = pd.json_normalize(found["recipe"].tolist())
    left = ["name", "backbone", "task", "labels", "seed", "score", "examples"]
    right = ["trainable_params", "train_flops", "first_loss", "last_loss", "seconds"]
    flat = pd.concat([found[left], how[["steps", "lr", "optimizer"]], found[right]], axis=1)
    return flat.rename(columns={"score": "accuracy"}).assign(
        preset=found["preset"],
        date=found["started"].str.slice(0, 10),
        machine=presets.machine(),
    )


def published() -> pd.DataFrame:
    """Figure 2's numbers, from Table 4: mean accuracy over its datasets, parameters, by method.

    Columns: name (of `data/figure2.toml`), row, printed (parameters as printed), params, accuracy
    (a fraction).
    """
    rows = tables.scores("tfew_table4_peft")
    known = data.toml("figure2.toml")
    return pd.DataFrame([_row(name, entry["row"], rows) for name, entry in known.items()])


def _row(name: str, row: str, rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, Any]:
    cells = rows["", row]
    printed = cells["params"]["printed"]
    scores = [float(c["printed"]) for column, c in cells.items() if column != "params"]
    unit = {"K": 1e3, "M": 1e6, "B": 1e9}[printed[-1]]
    return {
        "name": name,
        "row": row,
        "printed": printed,
        "params": float(printed[:-1]) * unit,
        "accuracy": sum(scores) / len(scores) / 100,
    }


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
