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
        Path | None, typer.Option(help="CSV for all rows that are done. Goes on with those in it.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the runs; else runs/PLAN-PRESET.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Of the plan; else all. Repeatable.")
    ] = None,
    way: Annotated[
        list[str] | None, typer.Option(help="Of the plan; else all. Repeatable.")
    ] = None,
    plan: Annotated[
        str, typer.Option(help="What is measured: table1, or many-shots (ICL to 128 examples).")
    ] = "table1",
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
        specs = table1.specs(chosen, own, names=task or (), ways=way or (), of=plan)
        found = (spec for name in NAMES for spec in table1.specs(chosen, name, of=plan))
        every = list({spec.id: spec for spec in found}.values())
    runs = Store(store or Path("runs") / f"{plan}-{chosen.name}")
    about = {"store": str(runs.folder), "preset": chosen.name, "precision": own}
    there = set(table1_record.kept(out, every)["spec"])
    wanted = [spec for spec in specs if spec.id not in there]
    if dry_run:
        cost = table1.cost(runs, wanted)
        done = len(specs) - len(wanted) + cost.done
        left = {"runs": len(specs), "done": done, "flops": cost.flops, "hours": cost.hours}
        emit({"dry_run": True, **about, **left}, as_json)
        return
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs({"--out": out})

    def rows() -> pd.DataFrame:
        return table1_record.joined(out, runs, every)

    def save(file: Path) -> None:
        rows().to_csv(file, index=False)

    with stderr.bar(len(specs), "runs") as progress:

        def after(done: int, total: int) -> None:
            progress(len(specs) - len(wanted) + done)
            outputs.write("--out", save)

        sweep.run(wanted, runs, ray=ray, progress=after)
    numbers = ["accuracy", "flops_per_query"]
    table = rows()
    means = (
        table.assign(**table[numbers].apply(pd.to_numeric))
        .groupby(["task", "way", "precision"], as_index=False)
        .agg(
            draws=("draw", "size"), accuracy=("accuracy", "mean"), flops=("flops_per_query", "mean")
        )
    )
    record = {**about, "runs": len(specs), "means": means.to_dict("records")}
    finish(record, outputs, as_json, {"--out": save})
