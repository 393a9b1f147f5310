"""`frugal rank`, and what it shares with `tfew`: answer by ranking the choices."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frugal.cli.options import (
    BackboneName,
    Json,
    Limit,
    Precision,
    Preset,
    Seed,
    Template,
    Truncate,
    count,
    there,
)
from frugal.cli.output import Outputs, emit, remark
from frugal.engine import files, stderr
from frugal.engine.outputs import Save

if TYPE_CHECKING:
    from frugal.fewshot.choices import ChoiceScores
    from frugal.peft.tuned import Tuned
    from frugal.tasks import Example, Task

TaskName = Annotated[
    str,
    typer.Argument(
        callback=there,
        metavar="TASK|FILE",
        help="What to answer: a task, or a JSONL, CSV or TSV file.",
    ),
]
Scores = Annotated[
    Path | None, typer.Option("--scores", help="Write every choice's log-probabilities here.")
]


def rank(
    task: TaskName,
    train: Annotated[Path | None, typer.Option(help="FILE to draw the shots from.")] = None,
    template: Template = "",
    backbone: BackboneName = None,
    shots: Annotated[int, count(help="Solved examples in the prompt.", least=0)] = 0,
    seed: Seed = 0,
    limit: Limit = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder that `tfew --save` wrote.")] = None,
    precision: Precision = None,
    preset: Preset = "laptop",
    scores: Scores = None,
    truncate: Truncate = False,
    as_json: Json = False,
) -> None:
    """Zero-shot or in-context answers, by the highest mean token log-probability."""
    from frugal import peft, tasks
    from frugal.engine import backbones, presets
    from frugal.fewshot import evaluate

    chosen = presets.named(preset, backbone=backbone, precision=precision)
    outputs = Outputs({"--scores": scores}, reads=(task, train, chosen.backbone, adapter))
    if train:
        pool, source = tasks.pair(train, task, template=template)
    else:
        pool = source = tasks.load(task, template=template)
    examples = pool.draw(shots, seed)
    if train:
        source = source.without(examples)
    remark(pool, source)
    queries = source.test(limit, shots=0 if train else shots, seed=seed)
    look(queries[0])
    overlap(source, examples, queries)
    model = backbones.load(chosen.backbone, precision=chosen.precision, truncate=truncate)
    tuned = peft.load(model.model, adapter) if adapter else None
    method = tuned.method if tuned else None
    result, found = evaluate.rank(model, source, queries, examples, seed=seed, method=method)
    named = {"preset": chosen.name, "adapter": str(adapter) if adapter else None}
    record = {**result.model_dump(), **named}
    finish(record, outputs, as_json, {"--scores": lambda file: write_scores(file, found)})


def overlap(source: "Task", drawn: "Sequence[Example]", queries: "Sequence[Example]") -> None:
    """Say how much of a benchmark's own test part stands in what was drawn of its training part."""
    seen = {example.content for example in drawn}
    if count := sum(query.content in seen for query in queries):
        stderr.note(
            f"{source.name}: {count} of its test examples are also among the {len(drawn)} drawn"
        )


def look(example: "Example") -> None:
    """Say what a model will read where prompt and choice run into each other."""
    if example.prompt[-1:].strip() and example.choices[0][:1].strip():
        run = (example.prompt + example.choices[0])[-40:]
        stderr.note(f"no space between prompt and choice: …{run!r}")


def finish(
    record: dict[str, Any],
    asked: Outputs,
    as_json: bool,
    written: Mapping[str, Save],
    tuned: "Tuned | None" = None,
) -> None:
    """Write the files that were asked for, and print the record: so every kind of run ends.

    written: what writes each, by its option; tuned: for --save, which has the record beside it
    """

    def save(folder: Path, tuned: "Tuned") -> None:
        tuned.save(folder)
        whole = {**record, "adapter": str(asked.asked["--save"])}
        files.write(folder / "result.json", json.dumps(whole, indent=2))

    if tuned is not None and (kept := asked.write("--save", partial(save, tuned=tuned))):
        record["adapter"] = str(kept)
    for option, write in written.items():
        asked.write(option, write)
    emit(record, as_json, asked)


def write_scores(path: Path, scores: "ChoiceScores") -> None:
    """One line per example and choice; see the README for the fields."""
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
            file.write(json.dumps(record, allow_nan=False) + "\n")
