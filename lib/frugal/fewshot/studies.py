"""Studies of many runs as DataFrames: what each loss brings, why ICL swings, and their spread."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from frugal.costs import arch, flops
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, evaluate, losses, packing, passes, tfew
from frugal.fewshot.choices import ChoiceScores
from frugal.tasks import Example, Task

# The four rows of T-Few's loss ablation (§3.2), by the names that they have there.
ABLATION: dict[str, tuple[str, ...]] = {
    "L_LM": ("lm",),
    "L_LM + L_UL": ("lm", "unlikelihood"),
    "L_LM + L_LN": ("lm", "length_normalized"),
    "L_LM + L_LN + L_UL": ("lm", "unlikelihood", "length_normalized"),
}


def loss_ablation(
    backbone: Backbone, task: Task, *, recipe: tfew.Recipe, **options: Any
) -> pd.DataFrame:
    """T-Few with each sum of losses of T-Few's ablation; a row a run.

    options: as `evaluate.tuned_runs` takes them; its columns, and `losses`, which names the sum as
        `tables.load("tfew_loss_ablation")` does

    All sums see the same examples in the same order.
    """
    frames = []
    for name, chosen in ABLATION.items():
        mine = recipe.model_copy(update={"losses": chosen})
        runs = evaluate.tuned_runs(backbone, task, recipe=mine, **options)
        frames.append(runs.assign(losses=name))
    return pd.concat(frames, ignore_index=True)


def swapped(shots: Sequence[Example]) -> list[Example]:
    """The same shots, each solved wrongly: its label is the choice after the right one."""
    return [s.model_copy(update={"label": (s.label + 1) % len(s.choices)}) for s in shots]


def label_swap(
    backbone: Backbone, task: Task, right: pd.DataFrame, *, limit: int | None
) -> pd.DataFrame:
    """ICL behind right and behind wrong labels: the draws of `right`, and behind wrong ones again.

    right: `evaluate.prompted_runs`, of this task among others, on `limit` examples or more

    Columns: task, shots, draw, labels ("right" or "swapped"), accuracy, hits. If the labels in the
    context did not matter (Min et al. 2022), both would be equal. Raises FrugalError where `right`
    has fewer examples.
    """
    runs = []
    same = (right["task"] == task.name) & (right["method"] == "icl") & (right["template"] == 0)
    for run in right[same].itertuples():
        of = {"shots": run.shots, "seed": run.seed}
        drawn, queries = task.draw(run.shots, run.seed), task.test(limit, **of)
        if run.examples < len(queries):
            raise FrugalError(f"right: its runs have {run.examples} examples, not {len(queries)}")
        result, _ = evaluate.rank(backbone, task, queries, swapped(drawn), seed=run.seed)
        for labels, hits in (("right", run.hits[: len(queries)]), ("swapped", result.hits)):
            accuracy = hits.count("1") / len(hits)
            runs.append((task.name, run.shots, run.seed, labels, accuracy, hits))
    return pd.DataFrame(runs, columns=["task", "shots", "draw", "labels", "accuracy", "hits"])


def rungs(backbone: Backbone, example: Example) -> pd.DataFrame:
    """Three ways of scoring an example's choices with an encoder–decoder, the dearest first.

    The prompt read for every choice; read once and its states repeated for every choice (T-Few's
    released code); and all choices in one row of the decoder, which projects what was read to K
    and V once. Columns: rung, loss (L_LM + L_UL + L_LN, nats), flops (counted by FlopCounterMode,
    with eager attention, which it sees whole), closed (the closed form of `costs.flops`), ratio
    (of flops, to the last). Raises FrugalError for a model of another family.
    """
    if backbone.family != "encoder-decoder":
        raise FrugalError(f"rungs: {backbone.name} is no encoder–decoder")
    (encoded,), model = encoding.encode(backbone, [example]), backbone.model
    batch = packing.pack([packing.tree(encoded)], [[0]], backbone.device)
    # Rows of their own are padded to the longest choice.
    longest = max(map(len, encoded.sequences)) - encoded.start
    sizes: Any = {
        "prompt_tokens": len(encoded.read),
        "choice_tokens": [longest] * len(example.choices),
    }
    shape = arch.from_config(model.config)
    rungs = {"prompt read for every choice": False, "read once, states repeated": True}
    records: list[tuple[str, ChoiceScores, int, float]] = []
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as last:
            packed = choices.forward(backbone, batch)
        for rung, once in rungs.items():
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                logp = passes.one_row_per_choice(backbone, [encoded], read_once=once)
            scores = dataclasses.replace(packed, token_logp=logp)
            closed = sum(flops.one_row_per_choice(shape, **sizes, read_once=once).values())
            records.append((rung, scores, counter.get_total_flops(), closed))
    finally:
        model.set_attn_implementation(attention)
    closed = round(evaluate.counted(evaluate.query_flops(backbone, [example]), backbone.name))
    records.append(("read once, K and V shared", packed, last.get_total_flops(), closed))
    found = pd.DataFrame(records, columns=["rung", "loss", "flops", "closed"])
    found["loss"] = [sum(float(f(s)) for f in losses.LOSSES.values()) for s in found["loss"]]
    return found.assign(ratio=found["flops"] / found["flops"].iloc[-1])


def summary(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Median and interquartile range of `accuracy` over everything but the columns `by`.

    Columns: those of `by`, runs, median, iqr, low, high. The paper's own summary (§4.1): median
    over templates and few-shot seeds, interquartile range as the spread.
    """
    if runs.empty or (missing := [name for name in [*by, "accuracy"] if name not in runs]):
        raise FrugalError(f"summary: no runs, or no column {', '.join(missing)}")
    groups = runs.groupby(list(by), sort=False)["accuracy"]
    quarters = groups.quantile([0.25, 0.75]).unstack()
    found = groups.agg(runs="size", median="median", low="min", high="max")
    found.insert(2, "iqr", quarters[0.75] - quarters[0.25])
    return found.reset_index()


def over_templates(runs: Sequence[evaluate.RunResult]) -> dict[str, Any]:
    """Accuracy in several templates: median, interquartile range, and each."""
    each = [run.accuracy for run in runs]
    low, median, high = pd.Series(each).quantile([0.25, 0.5, 0.75]).tolist()
    return {"accuracy": median, "iqr": high - low, "accuracies": each}


def leaderboard(task: Task, scores: ChoiceScores) -> pd.DataFrame:
    """The answers to `task.questions()` as RAFT takes them: columns ID, the source's, and Label."""
    if task.unlabelled is None:
        raise FrugalError(f"{task.name}: has no unlabelled examples to answer")
    chosen = scores.predictions.tolist()
    names = task.labels or task.questions(1)[0].choices
    ids = task.unlabelled.select(range(len(chosen)))["ID"]
    return pd.DataFrame({"ID": list(ids), "Label": [names[choice] for choice in chosen]})
