"""`frugal figure3`: T-Few's Figure 3, accuracy against cost, measured into a file and drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from frugal.cli.fewshot import BackboneName, Preset
from frugal.cli.output import Json, emit

COLUMNS = ["backbone", "task", "method", "shots", "seed", "accuracy", "examples", "flops_per_query"]


def figure3(
    runs: Annotated[Path, typer.Option(help="CSV of the runs; measured if it is not there.")],
    picture: Annotated[Path | None, typer.Option(help="PNG to draw.")] = None,
    backbone: BackboneName = None,
    preset: Preset = "laptop",
    as_json: Json = False,
) -> None:
    """Zero-shot, in-context learning and T-Few on a preset's tasks: accuracy, and FLOPs a query."""
    import pandas as pd

    from frugal.engine import presets
    from frugal.fewshot import tasks
    from frugal.show import figures, style

    chosen = presets.settings(preset, backbone=backbone)
    if not runs.exists():
        runs.parent.mkdir(parents=True, exist_ok=True)
        _measured(chosen).to_csv(runs, index=False)
    table = pd.read_csv(runs)
    if picture:
        chances = {name: tasks.load(name).chance for name in dict.fromkeys(table["task"])}
        means = table.groupby(["task", "method", "shots"])["accuracy"].mean().reset_index()
        best = means[means["method"] == "icl"].groupby("task")["accuracy"].max()
        ours = means[~means["method"].isin(["icl", "zero-shot"])].groupby("task")["accuracy"].max()
        gains = ", ".join(f"{100 * (ours[t] - best[t]):+.0f}" for t in best.index)
        of = f"{table['backbone'][0]}, {table['date'].max()}"
        title = f"T-Few against the best mean of ICL: {gains} points · {of}"
        figure = figures.accuracy_against_cost(table, chances, title)
        picture.write_bytes(style.png(figure))
    sentences = figures.accuracy_sentence(table).splitlines()
    emit({"runs": str(runs), "count": len(table), "found": " ".join(sentences)}, as_json)


def _measured(chosen: Mapping[str, Any]) -> Any:
    """One row a run, with the day and the machine."""
    import datetime

    import pandas as pd

    from frugal.engine import backbones, presets
    from frugal.fewshot import evaluate, tasks, tfew

    model = backbones.load(chosen["backbone"], dtype=chosen["dtype"])
    shared = {name: chosen[name] for name in ("limit", "templates")}
    prompted = {name: chosen[name] for name in ("icl_shots", "draws")}
    tuned = {name: chosen[name] for name in ("labels", "seeds")}
    recipe = tfew.Recipe(**chosen["recipe"])
    found = []
    for task in map(tasks.load, chosen["tasks"]):
        found.append(evaluate.prompted_runs(model, task, **prompted, **shared))
        found.append(evaluate.tuned_runs(model, task, **tuned, **shared, recipe=recipe))
    table = pd.concat(found, ignore_index=True)[COLUMNS]
    today = datetime.date.today().isoformat()
    return table.assign(date=today, machine=presets.machine())
