"""The small form of SetFit's recipe beside its authors' package, in the rows of `make bench`.

Both see the same 32 labels and the same budget: R = 5 pairs of either kind for each text, one epoch
of them in batches of 16, AdamW at 2e-5. Theirs also drops out, decays weights, pairs a text with
itself and ends in a logistic regression; ours ends in ridge regression. Whether that costs accuracy
is what the interval says: draws and texts are paired, draws are new labels.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import measure
import torch
from datasets import Dataset
from measure import FLOAT, Row, Work
from setfit import SetFitModel, Trainer, TrainingArguments

from frugal import stats, tasks
from frugal.budgets.distill import ClassTeacher
from frugal.encoders import classifier, contrastive, linear
from frugal.engine import artifacts, backbones
from frugal.tasks import Example

LABELS = 32
RECIPE = contrastive.Recipe(rounds=5, batch_size=16, lr=2e-5)
Answers = list[int]


def works(quick: bool) -> list[Work]:
    draws, limit = (1, 20) if quick else (5, 200)
    names = ["movie-reviews", "tweets"]
    if artifacts.state("bigbench") == "ok":
        names.append("intent-recognition")
    return [
        Work(work, lambda work=work, name=name: beside(work, name, draws, limit))
        for name in names
        for work in [f"SetFit on MiniLM, 32 labels of {name}"]
    ]


def beside(work: str, name: str, draws: int, limit: int) -> list[Row]:
    """Both on `draws` draws of labels, in turn."""
    task = tasks.load(name)
    scored = task.test(limit)
    seconds: dict[Any, list[float]] = {ours: [], theirs: []}
    said: dict[Any, list[Answers]] = {ours: [], theirs: []}
    for seed in range(draws):
        shots = task.draw(LABELS, seed)
        for side in seconds:
            started = time.perf_counter()
            said[side].append(side(shots, scored, seed))
            seconds[side].append(time.perf_counter() - started)
    mine, other = torch.tensor(said[ours]), torch.tensor(said[theirs])
    labels = torch.tensor([e.label for e in scored])
    hits = [(side == labels).double().numpy() for side in (mine, other)]
    apart = stats.compare(*hits)
    shares = "{:.3f}, theirs {:.3f}".format(*(side.mean() for side in hits))
    print(f"{work}: {shares}: {apart.of('ours', 'theirs')}")
    assert draws == 1 or apart.high > 0, f"{work}: the small form is worse than its model"
    times = (statistics.median(seconds[side]) for side in (theirs, ours))
    row = measure.row(work, "setfit", FLOAT, FLOAT, *times, None, draws)
    return [row | {"same_predictions": round((mine == other).double().mean().item(), 4)}]


def ours(shots: Sequence[Example], scored: Sequence[Example], seed: int) -> Answers:
    minilm = backbones.load("minilm-l6", device="cpu")
    classes = shots[0].choices
    student = ClassTeacher(classifier.new(minilm, len(classes), "full", seed=seed), classes)
    texts, goals = [e.prompt for e in shots], student.targets(shots)
    recipe = RECIPE.model_copy(update={"seed": seed})
    contrastive.fit(student.model, texts, goals, recipe)
    linear.fit(student.model, texts, goals)
    return [int(place) for place in student.logits(scored)[0].argmax(1)]


def theirs(shots: Sequence[Example], scored: Sequence[Example], seed: int) -> Answers:
    folder = artifacts.member("minilm-l6", "model/config.json").parent
    model = SetFitModel.from_pretrained(str(folder))
    data = Dataset.from_dict({"text": [e.prompt for e in shots], "label": [e.label for e in shots]})
    with tempfile.TemporaryDirectory() as out:
        asked = TrainingArguments(
            output_dir=out,
            batch_size=RECIPE.batch_size,
            num_iterations=RECIPE.rounds,
            num_epochs=1,
            body_learning_rate=RECIPE.lr,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            show_progress_bar=False,
        )
        Trainer(model=model, args=asked, train_dataset=data).train()
    return [int(label) for label in model.predict([e.prompt for e in scored])]
