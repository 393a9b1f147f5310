"""Our own Table 1: zero-shot, in-context learning and few-shot tuning on many tasks, paired.

What is measured was frozen before anything was scored (`table1_plan`). A run is one way on one task
with one draw of labels; all runs of a task answer the same test texts, and keep which of them they
got right, so that any two ways are compared text by text (`table1_record`).
"""

import functools
from collections.abc import Sequence
from dataclasses import astuple

import torch

from frugal.encoders import classifier
from frugal.engine import runs, sweep
from frugal.engine.presets import Preset
from frugal.errors import unknown
from frugal.fewshot.table1_plan import Frozen, Way, frozen
from frugal.fewshot.table1_run import CONTEXT, JOB, inputs
from frugal.fewshot.tfew import Recipe
from frugal.kernels.precision import rates

# Of the rate of the machine's matrix products, what these runs reach (data/results/bench.csv).
SHARES = {"float32": 0.8, "bfloat16": 0.6, "int8": 0.4}


def specs(
    preset: Preset,
    precision: str,
    *,
    names: Sequence[str] = (),
    ways: Sequence[str] = (),
    of: str = "table1",
) -> list[runs.RunSpec]:
    """A run for every task, way and draw; those of one model after each other, task by task.

    precision: of the language model's frozen weights, resolved; what trains them takes float32
    names, ways: of the tasks and ways, if not all; of: which plan. Raises FrugalError for one that
    is unknown.
    """
    plan = frozen(preset.name, of)
    for what, given, known in (("task", names, plan.tasks), ("way", ways, plan.ways)):
        if wrong := [name for name in given if name not in known]:
            raise unknown(f"{what} of {of}", wrong[0], known)
    wanted = [
        (task, name, draw)
        for task in plan.tasks
        if not names or task in names
        for name, way in plan.ways.items()
        if (not ways or name in ways) and (task in plan.also or not way.also)
        for draw in range(way.draws)
    ]
    found = _specs(preset, plan, precision, [(*some, plan.ways[some[1]]) for some in wanted])
    # A model is held until another is wanted.
    models = [(spec.params["backbone"], spec.params["precision"]) for spec in found]
    places = {model: i for i, model in enumerate(dict.fromkeys(models))}
    return sorted(found, key=lambda s: places[s.params["backbone"], s.params["precision"]])


def rate_specs(preset: Preset, precision: str) -> list[runs.RunSpec]:
    """The runs that rates were chosen by, way by way, rate by rate."""
    plan = frozen(preset.name)
    if (rates := plan.rates) is None:
        return []
    wanted = [
        (rates.task, name, draw, _at(plan.ways[name], lr))
        for name, tried in rates.tried.items()
        for lr in tried
        for draw in range(rates.draws)
    ]
    return _specs(preset, plan, precision, wanted)


def _at(way: Way, lr: float) -> Way:
    """The same way at another rate."""
    changed = {kind: {**of, "lr": lr} for kind in ("recipe", "head") if (of := getattr(way, kind))}
    return way.model_copy(update=changed)


def _specs(
    preset: Preset, plan: Frozen, precision: str, wanted: Sequence[tuple[str, str, int, Way]]
) -> list[runs.RunSpec]:
    """wanted: task, name of the way, draw, way"""
    read = functools.cache(inputs)
    found = []
    for task, name, draw, way in wanted:
        backbone, recipe = preset.backbone, {}
        if way.kind == "tune":
            how = Recipe.of(plan.recipe, way.recipe)
            recipe = how.model_dump(mode="json", exclude={"seed"})
        if way.kind == "head":
            backbone = plan.encoder
            recipe = classifier.Recipe(**way.head).model_dump(mode="json", exclude={"seed"})
        params = {
            "task": task,
            "way": name,
            "draw": draw,
            "backbone": backbone,
            "precision": way.precision(precision),
            "kind": way.kind,
            "shots": plan.labels if way.shots is None else way.shots,
            "limit": plan.limit,
            "recipe": recipe,
        }
        if context := {k: v for k in CONTEXT if (v := getattr(way, k))}:
            params["context"] = context
        if way.nearest:
            params["encoder"] = plan.encoder
        own_inputs = read(backbone=backbone, task=task, encoder=params.get("encoder", ""))
        found.append(
            runs.spec(JOB, params, inputs=own_inputs, preset=preset.name, num_gpus=preset.num_gpus)
        )
    return found


def cost(store: runs.Store, wanted: Sequence[runs.RunSpec]) -> sweep.Plan:
    """What is left of a sweep: FLOPs, and hours on this machine at the rates of its products."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    achieved = rates(device)
    parts = [
        sweep.plan(
            [spec for spec in wanted if spec.params["precision"] == name],
            store,
            flops_per_second=share * achieved[name],
        )
        for name, share in SHARES.items()
    ]
    return sweep.Plan(*(sum(values) for values in zip(*map(astuple, parts), strict=True)))
