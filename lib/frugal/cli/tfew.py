"""`frugal tfew` and `frugal vectors`: tune on a few examples, or on a mixture before that."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from frugal.cli.fewshot import Scores, finish, look, overlap, write_scores
from frugal.cli.options import (
    BackboneName,
    DryRun,
    Json,
    Limit,
    Mfu,
    Precision,
    Preset,
    Seed,
    Template,
    Truncate,
    UsdPerHour,
    amount,
    there,
)
from frugal.cli.options import count as number
from frugal.cli.output import Outputs, emit, remark
from frugal.costs import Scenario
from frugal.engine import stderr
from frugal.errors import FrugalError, unknown

if TYPE_CHECKING:
    from frugal.engine.presets import Preset as Settings
    from frugal.fewshot.tfew import Recipe
    from frugal.tasks import Example, Task

Steps = Annotated[int | None, number(help="Else the preset's.")]
Rate = Annotated[
    float | None,
    amount("--lr", help="Learning rate; else the preset's.", least=1e-12, most=1e6),
]
Start = Annotated[
    Path | None, typer.Option(help="Folder of vectors to begin from, such as `vectors` saves.")
]
Save = Annotated[
    Path | None, typer.Option(help="Folder for the adapter; a training killed there goes on.")
]


def tfew(
    task: Annotated[
        str | None,
        typer.Argument(
            callback=there,
            metavar="[TASK|FILE]",
            help="May lack under --dry-run alone: all runs.",
        ),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="FILE to score; else what is not drawn.")
    ] = None,
    template: Template = "",
    backbone: BackboneName = None,
    method: Annotated[str, typer.Option(help="What is trained.")] = "ia3",
    shots: Annotated[
        int | None, number(help="Labelled examples; else the task's or the preset's.")
    ] = None,
    steps: Steps = None,
    lr: Rate = None,
    losses: Annotated[
        str | None, typer.Option(help="Some of lm,unlikelihood,length_normalized; else all.")
    ] = None,
    micro_batch: Annotated[
        int | None, number(help="Examples in one pass, to spare memory.")
    ] = None,
    templates: Annotated[
        str | None, typer.Option(help="first, or all of the task's; else the preset's.")
    ] = None,
    start: Start = None,
    seed: Seed = 0,
    limit: Limit = None,
    precision: Precision = None,
    preset: Preset = "laptop",
    save: Save = None,
    scores: Scores = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Answer what the benchmark keeps unlabelled, into this CSV (RAFT)."),
    ] = None,
    truncate: Truncate = False,
    dry_run: DryRun = False,
    count: Annotated[str, typer.Option(help="FLOPs of a dry run: paper or exact.")] = "paper",
    gpu: Annotated[str, typer.Option(help="Of a dry run: a GPU of data/gpus.csv.")] = Scenario.gpu,
    mfu: Mfu = 0.05,  # what T-Few's half hour was
    usd_per_hour: UsdPerHour = None,
    as_json: Json = False,
) -> None:
    """The T-Few recipe: train on a few labelled examples with three losses, then answer.

    Under `accelerate launch` all processes work on the one training.
    """
    from frugal import tasks
    from frugal.engine import backbones, presets, processes
    from frugal.fewshot import estimate, evaluate, studies
    from frugal.fewshot.tfew import Recipe

    processes.join()
    if templates and templates not in (uses := get_args(tasks.Use)):
        raise unknown("use of templates", templates, uses)
    chosen = presets.named(
        preset, backbone=backbone, templates=templates, limit=limit, precision=precision
    )
    given = presets.said(method=method, steps=steps, lr=lr, micro_batch=micro_batch)
    if losses is not None:
        given["losses"] = [name.strip() for name in losses.split(",")]
    if dry_run and (task is None or not _at_hand(task, chosen.backbone)):
        cost = estimate.study(
            chosen,
            names=[task] if task else (),
            backbone=backbone,
            given=given,
            count=count,
            gpu=gpu,
            mfu=mfu,
            usd_per_hour=usd_per_hour,
        )
        for warning in cost["warnings"]:
            stderr.note(warning)
        emit(cost, as_json)
        return
    if task is None:
        raise FrugalError("name a TASK or FILE; only --dry-run goes without, over all runs")
    if predictions and test:
        raise FrugalError("--predictions answers the benchmark's own examples; --test has others")
    outputs = Outputs(
        {"--scores": scores, "--predictions": predictions},
        {"--save": save},
        reads=(task, test, chosen.backbone, start),
    )
    _begun_here(save)
    if test:
        source, scored = tasks.pair(task, test, template=template)
    else:
        source = scored = tasks.load(task, template=template)
    mine = chosen.listed(chosen.backbone).recipe
    recipe = Recipe.of(chosen.recipe, source.recipe, mine, given, {"seed": seed})
    wanted = shots or source.shots or chosen.labels
    shots = shots or _spared(source, wanted, keep_half=not (test or predictions))
    examples = source.wordings(shots, seed, chosen.templates)
    first, drawn = [wordings[0] for wordings in examples], 0 if test else shots
    if test:
        scored = scored.without(first)
    remark(source, scored)
    if predictions:
        queries = source.questions(limit)
    else:
        queries = scored.test(limit, shots=drawn, seed=seed)
        look(queries[0])
        overlap(scored, first, queries)
    model = backbones.load(
        chosen.backbone, precision=_precision(chosen, recipe, save), truncate=truncate
    )
    if dry_run:
        cost = _plan(model, source, examples, recipe)
        emit({**cost, "preset": chosen.name}, as_json)
        return
    result, found, trained = evaluate.few_shot(
        model, source, examples, queries, recipe, start=start, checkpoint=save
    )
    record = {**result.model_dump(), "start": str(start) if start else None, "preset": chosen.name}
    if predictions:
        record["accuracy"] = None
    else:
        of = {"limit": limit, "shots": drawn, "seed": seed}
        runs = evaluate.under(chosen.templates, result, model, scored, recipe, **of)
        if len(runs) > 1:
            record |= studies.over_templates(runs)
    if processes.number() == 0:
        finish(
            record,
            outputs,
            as_json,
            {
                "--scores": lambda file: write_scores(file, found),
                "--predictions": lambda file: studies.leaderboard(source, found).to_csv(
                    file, index=False
                ),
            },
            trained.tuned,
        )
    processes.leave()


def vectors(
    task: Annotated[
        list[str], typer.Argument(metavar="TASK|FILE…", help="The tasks of the mixture.")
    ],
    save: Annotated[Path, typer.Option(help="Folder for the vectors; `tfew --start` takes it.")],
    backbone: BackboneName = None,
    method: Annotated[str, typer.Option(help="What is trained.")] = "ia3",
    steps: Steps = None,
    lr: Rate = None,
    start: Start = None,
    seed: Seed = 0,
    limit: Annotated[int, number(help="Examples of a task, at most.")] = 1000,
    precision: Precision = None,
    preset: Preset = "laptop",
    truncate: Truncate = False,
    as_json: Json = False,
) -> None:
    """Train vectors on a mixture of tasks with the LM loss alone, for `tfew --start`.

    T-Few pretrains its (IA)³ in this way (§3.4). All templates are used. A run killed goes on.
    """
    from frugal import tasks
    from frugal.engine import backbones, presets, processes
    from frugal.fewshot import evaluate, tfew

    processes.join()
    chosen = presets.named(preset, backbone=backbone, precision=precision)
    outputs = Outputs({}, {"--save": save}, reads=(*task, chosen.backbone, start))
    _begun_here(save)
    recipe = tfew.Recipe.of(
        chosen.recipe,
        chosen.listed(chosen.backbone).recipe,
        chosen.pretrain,
        presets.said(method=method, steps=steps, lr=lr, seed=seed),
    )
    sources = [tasks.load(name) for name in task]
    remark(*sources)
    examples = tasks.mixture(sources, limit, seed=seed)
    model = backbones.load(
        chosen.backbone, precision=_precision(chosen, recipe, save), truncate=truncate
    )
    encoded = tfew.encode(model, examples, recipe)
    spent = evaluate.training_flops(model, encoded, recipe)
    trained = tfew.train(model, encoded, recipe, start=start, checkpoint=save)
    if processes.number() == 0:
        result: dict[str, Any] = {
            "tasks": task,
            "preset": chosen.name,
            "backbone": model.name,
            "precision": model.precision,
            "method": recipe.method,
            "seed": seed,
            "examples": len(examples),
            "trainable_params": trained.tuned.trainable_params,
            "steps": recipe.steps,
            "first_loss": trained.loss[0],
            "last_loss": trained.loss[-1],
            "train_seconds": trained.seconds,
            "train_flops": spent,
        }
        finish(result, outputs, as_json, {}, trained.tuned)
    processes.leave()


def _begun_here(folder: Path | None) -> None:
    """Raise FrugalError for a folder of a model or an adapter that no training there has left."""
    from frugal.fewshot import tfew
    from frugal.peft import formats, hf

    if folder is None or (folder / tfew.STATE).exists():
        return  # whether it is this training's, its state says
    for name in ("config.json", *formats.OWN, *hf.FILES):
        if (folder / name).exists():
            raise FrugalError(f"--save: {folder} holds another's {name}; name another folder")


def _precision(chosen: "Settings", recipe: "Recipe", save: Path | None) -> str:
    """The preset's; of "fastest" what a training that goes on began in, else what is fastest."""
    from frugal import peft
    from frugal.engine import backbones, checkpoints
    from frugal.fewshot import tfew

    def begun() -> str | None:
        about = checkpoints.about(save / tfew.STATE) if save else None
        return about.get("precision", "float32") if about else None

    return backbones.resolved(chosen.precision, peft.precisions(recipe.method), begun=begun)


def _at_hand(task: str, backbone: str) -> bool:
    """Whether the exact cost of a training can be had: its text and its model need no hub."""
    from frugal import tasks
    from frugal.engine import backbones

    if tasks.is_file(task):
        return True
    return backbones.at_hand(backbone) and not tasks.defined(task).source.split


def _spared(source: "Task", wanted: int, keep_half: bool) -> int:
    """The number of labels that is wanted, or what a small file can spare of them."""
    spare = source.drawable // (2 if keep_half and not source.test_size else 1)
    if spare < wanted:
        stderr.note(f"{source.name}: trains on {spare} of its {source.drawable} lines")
    return max(1, min(wanted, spare))


def _plan(
    model: Any, source: "Task", examples: "list[list[Example]]", recipe: Any
) -> dict[str, Any]:
    """What a training would take, from closed forms: nothing is trained."""
    from frugal.costs import methods
    from frugal.fewshot import evaluate

    method, shape = methods.get(recipe.method, recipe.options), evaluate.architecture(model)
    return {
        "task": source.name,
        "backbone": model.name,
        "precision": model.precision,
        "shots": len(examples),
        "dry_run": True,
        "method": recipe.method,
        "steps": recipe.steps,
        "seed": recipe.seed,
        "trainable_params": methods.trainable(shape, method) if shape else None,
        "train_flops": evaluate.training_flops(model, examples, recipe),
    }
