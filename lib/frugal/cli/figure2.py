"""`frugal figure2`: every method of T-Few's Figure 2 on a task, each with its own recipe."""

from pathlib import Path
from typing import Annotated

import typer

from frugal.cli.fewshot import finish
from frugal.cli.options import BackboneName, DryRun, Json, OnRay, Precision, Preset, count
from frugal.cli.options import seed as seeds
from frugal.cli.output import Outputs, emit


def figure2(
    out: Annotated[Path | None, typer.Option(help="CSV for the runs, a row each.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the runs; else runs/figure2-PRESET.")
    ] = None,
    backbone: BackboneName = None,
    task: Annotated[str | None, typer.Option(help="Else the preset's.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Of data/figure2.toml; else the preset's. Repeatable.")
    ] = None,
    steps: Annotated[int | None, count(help="That stand for the paper's 1,000.")] = None,
    seed: Annotated[list[int] | None, seeds(help="Else the preset's. Repeatable.")] = None,
    limit: Annotated[int | None, count(help="Test examples.")] = None,
    precision: Precision = None,
    preset: Preset = "laptop",
    ray: OnRay = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Train and score every method on the same labels. Killed, it goes on with the next run."""
    import pandas as pd

    from frugal.engine import backbones, presets, sweep
    from frugal.engine.runs import Store
    from frugal.fewshot import figure2

    chosen = presets.named(preset, backbone=backbone, precision=precision)
    settings = chosen.figure2.given(task=task, methods=method, steps=steps, seeds=seed, limit=limit)
    runs = Store(store or Path("runs") / f"figure2-{chosen.name}")
    own = backbones.resolved(chosen.precision, begun=lambda: runs.precision(figure2.JOB))
    specs = figure2.specs(chosen.given(precision=own), settings)
    if dry_run:
        plan = sweep.plan(specs, runs, flops_per_second=1.0)
        cost = {"runs": plan.runs, "done": plan.done, "flops": plan.flops}
        about = {"store": str(runs.folder), "preset": chosen.name}
        emit({"dry_run": True, **about, **cost}, as_json)
        return
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs({"--out": out}, reads=(task, chosen.backbone))
    sweep.run(specs, runs, ray=ray)
    found = figure2.records(runs, specs)
    record = {"store": str(runs.folder), "preset": chosen.name, "runs": found}
    table = pd.DataFrame(found)
    finish(record, outputs, as_json, {"--out": lambda file: table.to_csv(file, index=False)})
