"""A found design against single methods, all weights and none, on draws that chose nobody."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from frugal import stats
from frugal.costs.arch import Architecture
from frugal.engine import sweep
from frugal.engine.runs import RunSpec, Store
from frugal.errors import FrugalError
from frugal.spaces import sizes
from frugal.spaces.build import named
from frugal.spaces.design import METHODS
from frugal.spaces.search import Settings
from frugal.stats import Difference

FIRST_SEED = 1000  # a search seeds its runs with 0, 1, 2, …
NAMES = {**METHODS, "s4": "the paper's S4"}


def specs(
    settings: Settings, designs: Mapping[str, Mapping[str, Any]], seeds: int
) -> dict[str, list[RunSpec]]:
    """Runs of each design by what it is called: on each task, with each of `seeds` draws.

    designs: what `train.finetune` takes as a design, and what of the recipe it changes

    A design that misses the budget, as BitFit alone does, trains what comes nearest to it.
    """
    settings, shape = settings.known(), settings.architecture()
    found: dict[str, list[RunSpec]] = {}
    for design, changes in designs.items():
        budget, recipe = _budget(design, shape, settings.budget), {**settings.recipe, **changes}
        found[design] = [
            run
            for seed in range(FIRST_SEED, FIRST_SEED + seeds)
            for run in settings.runs(design, seed, budget=budget, recipe=recipe)
        ]
    return found


def _budget(design: str, shape: Architecture, budget: float) -> float:
    if design in ("full", "head"):
        return budget
    found = named(design, shape.layers + shape.decoder_layers)
    try:
        sizes.solve(found, shape, budget)
    except FrugalError:
        return sizes.solve(found, shape, budget, tolerance=math.inf).params / shape.params
    return budget


def table(store: Store, wanted: Mapping[str, list[RunSpec]]) -> pd.DataFrame:
    """A row a run that is done; columns name, design, task, seed, params, score, seconds.

    params: of the design; the head, which all train, is not counted
    """
    parts = [
        sweep.collect(store, runs).assign(name=NAMES.get(name, name))
        for name, runs in wanted.items()
    ]
    every = pd.concat(parts, ignore_index=True)
    return every[["name", "design", "task", "seed", "params", "score", "seconds"]]


def gap(runs: pd.DataFrame, ours: str, theirs: str, *, of: int = 1) -> Difference:
    """Mean score of `ours` less that of `theirs`, draw by draw, over the tasks as they are.

    of: how many such comparisons are looked at together
    """
    wide = runs.pivot(index="seed", columns=["task", "name"], values="score")
    tasks = wide.columns.unique("task")
    each = [stats.compare(wide[[(t, ours)]], wide[[(t, theirs)]]) for t in tasks]
    return stats.average(each, of=of)
