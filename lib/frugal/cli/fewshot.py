"""`frugal rank` and `frugal tfew`: answer by ranking the choices, before and after tuning."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frugal.cli.output import Json, emit
from frugal.errors import FrugalError, unknown

if TYPE_CHECKING:
    from frugal.fewshot.choices import ChoiceScores
    from frugal.fewshot.tasks import Example, Task

TaskName = Annotated[str, typer.Argument(metavar="TASK|FILE.jsonl", help="What to answer.")]
BackboneName = Annotated[
    str | None, typer.Option("--backbone", help="Name, folder or hub id; else the preset's.")
]
Seed = Annotated[int, typer.Option(help="Decides which examples are drawn, and the training.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Score only the first so many examples.")]
Preset = Annotated[str, typer.Option(help="Where defaults come from: smoke, laptop, …")]
Scores = Annotated[
    Path | None, typer.Option("--scores", help="Write every choice's log-probabilities here.")
]
Truncate = Annotated[
    bool, typer.Option("--truncate", help="Cut the start of prompts that are too long.")
]


def rank(
    task: TaskName,
    train: Annotated[Path | None, typer.Option(help="JSONL to draw the shots from.")] = None,
    backbone: BackboneName = None,
    shots: Annotated[int, typer.Option(min=0, help="Solved examples in the prompt.")] = 0,
    seed: Seed = 0,
    limit: Limit = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder that `tfew --save` wrote.")] = None,
    preset: Preset = "laptop",
    scores: Scores = None,
    truncate: Truncate = False,
    as_json: Json = False,
) -> None:
    """Zero-shot or in-context answers, by the highest mean token log-probability."""
    from frugal import peft
    from frugal.engine import backbones, presets
    from frugal.fewshot import evaluate, tasks

    chosen = presets.settings(preset, backbone=backbone)
    source = tasks.load(task)
    pool = tasks.from_jsonl(train) if train else source
    examples = pool.draw(shots, seed)
    queries = source.test(limit, shots=0 if train else shots, seed=seed)
    _writable(scores)
    model = backbones.load(chosen["backbone"])
    tuned = peft.load(model.model, adapter) if adapter else None
    with _progress(len(queries), "scored") as progress:
        result, found = evaluate.rank(
            model,
            source,
            queries,
            examples,
            seed=seed,
            method=tuned.method if tuned else None,
            truncate=truncate,
            progress=progress,
        )
    _write_scores(scores, found)
    emit({**result.model_dump(), "adapter": str(adapter) if adapter else None}, as_json)


def tfew(
    task: TaskName,
    test: Annotated[
        Path | None, typer.Option(help="JSONL to score; else what is not drawn.")
    ] = None,
    backbone: BackboneName = None,
    method: Annotated[str, typer.Option(help="What is trained.")] = "ia3",
    shots: Annotated[
        int | None, typer.Option(min=1, help="Labelled examples; else the preset's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Else the preset's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; else the preset's.")] = None,
    seed: Seed = 0,
    limit: Limit = None,
    preset: Preset = "laptop",
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for the adapter; a training killed there goes on."),
    ] = None,
    scores: Scores = None,
    truncate: Truncate = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it costs and stop.")] = False,
    as_json: Json = False,
) -> None:
    """The T-Few recipe: train on a few labelled examples with three losses, then answer."""
    from pydantic import ValidationError

    from frugal.engine import backbones, presets
    from frugal.fewshot import evaluate, tasks
    from frugal.fewshot.tfew import Recipe

    chosen = presets.settings(preset, backbone=backbone)
    overrides = {"method": method, "steps": steps, "lr": lr, "seed": seed}
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        recipe = Recipe(**{**chosen["recipe"], **given})
    except ValidationError as error:
        problem = error.errors()[0]
        raise FrugalError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
    source = tasks.load(task)
    shots = shots or _default_shots(source, chosen["labels"], keep_half=test is None)
    examples = source.draw(shots, seed)
    scored = tasks.from_jsonl(test) if test else source
    queries = scored.test(limit, shots=0 if test else shots, seed=seed)
    _writable(scores)
    model = backbones.load(chosen["backbone"])
    if dry_run:
        emit(_plan(model, source, examples, recipe, truncate), as_json)
        return
    with _progress(recipe.steps, "steps") as progress:
        result, found, trained = evaluate.few_shot(
            model,
            source,
            examples,
            queries,
            recipe,
            checkpoint=save,
            truncate=truncate,
            progress=lambda step, loss: progress(step),
        )
    if save:
        trained.tuned.save(save)
        result = result.model_copy(update={"adapter": str(save)})
        (save / "result.json").write_text(result.model_dump_json(indent=2) + "\n")
    _write_scores(scores, found)
    emit(result.model_dump(), as_json)


def _default_shots(source: "Task", wanted: int, keep_half: bool) -> int:
    """The preset's number of labels, or what a small file can spare of them."""
    spare = source.drawable // (2 if keep_half and not source.test_size else 1)
    if spare < wanted:
        print(f"{source.name}: trains on {spare} of its {source.drawable} lines", file=sys.stderr)
    return max(1, min(wanted, spare))


def _plan(
    model: Any, source: "Task", examples: "list[Example]", recipe: Any, truncate: bool
) -> dict[str, Any]:
    """What a training would take, from closed forms: nothing is trained."""
    from frugal import peft
    from frugal.costs import arch, methods
    from frugal.fewshot import evaluate

    if recipe.method not in peft.METHODS:
        raise unknown("method", recipe.method, peft.METHODS)
    method = methods.get(recipe.method, recipe.options)
    return {
        "task": source.name,
        "backbone": model.name,
        "shots": len(examples),
        "dry_run": True,
        "method": recipe.method,
        "steps": recipe.steps,
        "seed": recipe.seed,
        "trainable_params": methods.trainable(arch.from_config(model.model.config), method),
        "train_flops": evaluate.training_flops(model, examples, recipe, truncate=truncate),
    }


def _writable(path: Path | None) -> None:
    """Say that a file cannot be written before an hour of work, not after it."""
    if path and not path.parent.is_dir():
        raise FrugalError(f"--scores: there is no folder {path.parent}")


def _write_scores(path: Path | None, scores: "ChoiceScores") -> None:
    """One line per example and choice; see the README for the fields."""
    if path is None:
        return
    sums, means, tokens = (v.tolist() for v in (scores.sum_logp, scores.mean_logp, scores.tokens))
    labels, of = scores.correct.tolist(), scores.example.tolist()
    first: dict[int, int] = {}
    with path.open("w", encoding="utf-8") as file:
        for i, example in enumerate(of):
            record = {
                "example": example,
                "choice": i - first.setdefault(example, i),
                "logp_sum": sums[i],
                "logp_mean": means[i],
                "tokens": tokens[i],
                "label": labels[i],
            }
            file.write(json.dumps(record) + "\n")


class _progress:
    """A bar on a terminal, nothing in a log."""

    def __init__(self, total: int, unit: str) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=total, unit=f" {unit}", file=sys.stderr, disable=None, leave=False)

    def __enter__(self) -> Any:
        return lambda done: self.bar.update(done - self.bar.n)

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
