"""`frugal spaces`: draw designs, search among them, and report what the search found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frugal.cli.options import DryRun, Json, OnRay, Precision, Preset, amount, changes
from frugal.cli.options import count as number
from frugal.cli.options import seed as seeds
from frugal.cli.output import Outputs, emit, show
from frugal.costs import arch as architectures
from frugal.costs.arch import Architecture
from frugal.engine import stderr
from frugal.errors import FrugalError, first_problem
from frugal.spaces import sizes, space
from frugal.spaces.design import MOST_LAYERS
from frugal.spaces.sizes import Sized

if TYPE_CHECKING:
    from frugal.spaces.search import Search, Stage

app = typer.Typer(help="Design spaces of parameter-efficient tuning, S0 to S4.")

DEFAULT_ARCH = "t5-base"


@app.command()
def sample(
    stage: Annotated[str, typer.Option(help="S0, S1, S2, S3 or S4, as the paper found them.")],
    layers: Annotated[
        int | None,
        number(help="Layers of the model, encoder and decoder together.", most=MOST_LAYERS),
    ] = None,
    count: Annotated[int, number(help="Designs to draw.", most=100_000)] = 100,
    budget: Annotated[
        float, amount(help="Share of the model's parameters that is trained.", most=1.0)
    ] = sizes.BUDGET,
    seed: Annotated[int, seeds(help="Decides the draw.")] = 0,
    arch: Annotated[
        str | None,
        typer.Option(help="Whose parameters; else T5-base, or its widths at --layers layers."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Designs at random, with the sizes that meet the budget."""
    chosen = _architecture(arch, layers)
    drawn = space.stage(stage, chosen.layers + chosen.decoder_layers)
    designs = sizes.draw(drawn, chosen, count, seed=seed, budget=budget)
    emit(
        {
            "stage": stage,
            "arch": chosen.name,
            "seed": seed,
            "budget": round(budget * chosen.params),
            "space": drawn.count(),
            "designs": [_record(sized, as_json) for sized in designs],
        },
        as_json,
    )


def _record(sized: Sized, whole: bool) -> dict[str, Any]:
    """A design for a script, or the two columns of it that a person reads."""
    record: dict[str, Any] = {"text": str(sized.design), "params": sized.params}
    if whole:
        record["groups"] = [
            {"layers": list(g.layers), "methods": list(g.methods), "tuned": g.tuned}
            for g in sized.design.groups
        ]
        record["sizes"] = {str(layer): dict(of) for layer, of in sized.sizes.items()}
    return record


def _architecture(name: str | None, layers: int | None) -> Architecture:
    """The named one, or T5-base with as many layers, the larger half of them in its encoder."""
    if name is None and layers is not None:
        base = architectures.get(DEFAULT_ARCH)
        if layers == base.layers + base.decoder_layers:
            return base
        if layers < 2:
            raise FrugalError("--layers must be at least 2, or name an --arch")
        return base.replace(
            name=f"{DEFAULT_ARCH} of {layers} layers",
            layers=layers - layers // 2,
            decoder_layers=layers // 2,
        )
    found = architectures.get(name or DEFAULT_ARCH)
    has = found.layers + found.decoder_layers
    if layers not in (None, has):
        raise FrugalError(f"--layers {layers}: {found.name} has {has}")
    return found


Store = Annotated[Path | None, typer.Option(help="Folder of the search; else runs/spaces-PRESET.")]


@app.command()
def search(
    preset: Preset = "laptop",
    store: Store = None,
    designs: Annotated[
        int | None, number(help="Of each candidate up to S3; else the preset's.", most=10**6)
    ] = None,
    last_designs: Annotated[
        int | None, number(help="Of each candidate in S4; else the preset's.", most=10**6)
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE of the preset's search.")
    ] = None,
    precision: Precision = None,
    ray: OnRay = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """The greedy search, S0 to S4. Killed, it goes on; made larger, it keeps its runs."""
    from pydantic import ValidationError

    from frugal.costs import prices
    from frugal.engine import backbones, presets
    from frugal.engine.runs import Store as Runs
    from frugal.spaces.search import JOB, Search, Settings

    chosen, runs = presets.named(preset).spaces, Runs(_store(preset, store))
    asked = precision or chosen.precision
    own = backbones.resolved(asked, begun=lambda: runs.precision(JOB))
    given = presets.said(designs=designs, last_designs=last_designs, precision=own)
    try:
        settings = Settings.of(chosen, **changes(change) | given)
    except ValidationError as error:
        raise FrugalError(f"--set {first_problem(error)}") from error
    found = Search(settings, runs)
    if dry_run:
        rate = prices.get("gpu", settings.gpu).usd if settings.gpu else 0.0
        plan = found.plan(rate)
        named = {"store": str(found.store.folder), "preset": settings.preset}
        named["precision"] = settings.precision
        emit({"dry_run": True, **named, **vars(plan)}, as_json)
        return
    stages = found.run(ray=ray, progress=_say)
    _emit_stages(found, stages, as_json)


@app.command()
def status(preset: Preset = "laptop", store: Store = None, as_json: Json = False) -> None:
    """How many runs of a search are done, running, failed and waiting, and in which stage it is."""
    from frugal.engine import sweep
    from frugal.spaces.search import opened

    found = opened(_store(preset, store))
    states = sweep.status(found.store)
    kinds = ["done", "running", "failed", "waiting"]
    counts = states["state"].value_counts().reindex(kinds, fill_value=0)
    emit(
        {
            "store": str(found.store.folder),
            "preset": found.settings.preset or None,
            **counts.to_dict(),
            "stages": [
                {"stage": s.name, "done": s.done, "runs": s.runs, "winner": s.winner}
                for s in found.report()
            ],
            "errors": states["error"].dropna().unique().tolist(),
        },
        as_json,
    )


@app.command()
def report(
    preset: Preset = "laptop",
    store: Store = None,
    csv: Annotated[Path | None, typer.Option(help="Write the candidates here as well.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Write every run here as well.")] = None,
    as_json: Json = False,
) -> None:
    """What a search has found so far: every candidate's mean and interval, and the winners."""
    from frugal.spaces import record
    from frugal.spaces.search import opened

    found = opened(_store(preset, store))
    for file in filter(None, (csv, runs)):
        file.parent.mkdir(parents=True, exist_ok=True)
    outputs = Outputs({"--csv": csv, "--runs": runs})
    stages = found.report()
    outputs.write("--csv", lambda file: found.table(stages).to_csv(file, index=False))
    outputs.write("--runs", lambda file: record.table(found, stages).to_csv(file, index=False))
    _emit_stages(found, stages, as_json, outputs)


def _store(preset: str, folder: Path | None) -> Path:
    return folder or Path("runs") / f"spaces-{preset}"


def _emit_stages(
    found: "Search", stages: "list[Stage]", as_json: bool, outputs: Outputs | None = None
) -> None:
    from frugal.spaces.search import papers_winner

    if as_json:
        records = [stage.record() for stage in stages]
        named = {"store": str(found.store.folder), "preset": found.settings.preset or None}
        named["precision"] = found.settings.precision
        emit({**named, "stages": records}, as_json, outputs)
        return
    table = found.table(stages).rename(columns={"again": "wins again"})
    shares = {"wins again": lambda share: "" if share != share else f"{share:.0%} of resamples"}
    show(table.to_string(index=False, float_format="%.4f", formatters=shares))
    for stage in stages:
        for rival, lead in stage.leads.items():
            which = " (the paper's)" if rival == papers_winner(stage.name) else ""
            show(f"{stage.name}: {stage.winner} leads {rival}{which} by {lead}")
    if outputs:
        outputs.done()


def _say(stage: str, done: int, total: int) -> None:
    """A line when a stage is done."""
    if done == total:
        stderr.say(f"{stage}: {total} runs are done")
