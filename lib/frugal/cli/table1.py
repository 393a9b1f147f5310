"""`frugal table1`: our own Table 1, every way on every task, as it was frozen."""

from pathlib import Path
from typing import Annotated

import typer

from frugal.cli.fewshot import finish
from frugal.cli.options import DryRun, Json, OnRay, Precision, Preset
from frugal.cli.output import Outputs, emit
from frugal.engine import stderr


def table1(
    out: Annotated[
        Path | None, typer.Option(help="CSV for all rows that are done, written after every run.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the runs; else runs/table1-PRESET.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Of data/table1.toml; else all. Repeatable.")
    ] = None,
    way: Annotated[
        list[str] | None, typer.Option(help="Of data/table1.toml; else all. Repeatable.")
    ] = None,
    rates: Annotated[
        bool, typer.Option("--rates", help="The trainings that rates were chosen by, instead.")
    ] = False,
    precision: Precision = None,
    preset: Preset = "laptop",
    ray: OnRay = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Score every way on every task, at what is fastest here. Killed, it goes on where it was."""
    import pandas as pd

    from frugal.engine import backbones, presets, sweep
    from frugal.engine.runs import Store
    from frugal.fewshot import table1, table1_record
    from frugal.kernels.precision import FASTEST, NAMES

    chosen = presets.named(preset)
    own = backbones.resolved(precision or FASTEST)
    if rates:
        specs = table1.rate_specs(chosen, own)
        every = specs
    else:
        specs = table1.specs(chosen, own, names=task or (), ways=way or ())
        found = (spec for name in NAMES for spec in table1.specs(chosen, name))
        every = list({spec.id: spec for spec in found}.values())
    runs = Store(store or Path("runs") / f"table1-{chosen.name}")
    about = {"store": str(runs.folder), "preset": chosen.name, "precision": own}
    if dry_run:
        plan = table1.cost(runs, specs)
        left = {"runs": plan.runs, "done": plan.done, "flops": plan.flops, "hours": plan.hours}
        emit({"dry_run": True, **about, **left}, as_json)
        return
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs({"--out": out})

    def rows() -> pd.DataFrame:
        return pd.DataFrame(table1_record.records(runs, every))

    def save(file: Path) -> None:
        rows().to_csv(file, index=False)

    with stderr.bar(len(specs), "runs") as progress:

        def after(done: int, total: int) -> None:
            progress(done)
            outputs.write("--out", save)

        sweep.run(specs, runs, ray=ray, progress=after)
    by = ["task", "way", "precision"]
    means = (
        rows()
        .groupby(by, as_index=False)
        .agg(
            draws=("draw", "size"), accuracy=("accuracy", "mean"), flops=("flops_per_query", "mean")
        )
    )
    record = {**about, "runs": len(specs), "means": means.to_dict("records")}
    finish(record, outputs, as_json, {"--out": save})
