"""The live study: the same dollars in human labels, in distillation, or in an LLM's labels.

A *cell* is one number of labels and one seed. In it a teacher and small students are trained on the
same labels; the teacher labels texts that nobody has labelled, and other students learn those; an
LLM labels as many texts as the same dollars pay for. All are scored on the same test texts.
"""

import hashlib
import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from frugal.budgets import classifier, labels, sources
from frugal.budgets.classifier import Classifier, Fit
from frugal.budgets.distill import Cost, outputs
from frugal.engine import backbones, presets
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError, unknown
from frugal.fewshot import tasks
from frugal.fewshot.tasks import Example, Task

Progress = Callable[[str], Any]
NOTHING = Cost()


class Setting(BaseModel):
    """What is compared; a preset's `budgets` gives all of it.

    labels:     N, the human labels that every strategy begins with
    layers:     of the students; unlabelled: texts for the teacher and the LLM, the same for all N
    llm, llm_shots: who annotates, after so many of the human labels as examples ("" for nobody)
    epochs, least_steps: of a training, whichever is longer; teacher, student: the rest of it
    usd_per_hour: of this machine; by default the paper's GPU hour
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    encoder: str
    llm: str
    llm_shots: int = Field(ge=0)
    labels: tuple[int, ...] = Field(min_length=1)
    layers: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    unlabelled: int = Field(ge=1)
    limit: int = Field(ge=1)
    epochs: int = Field(ge=1)
    least_steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    teacher_lr: float = Field(gt=0)
    student_lr: float = Field(gt=0)
    usd_per_label: float = Field(
        default=0.129, ge=0
    )  # FEVER's, the least a label costs in the paper
    usd_per_hour: float = Field(default=1.875, ge=0)  # the paper's A40
    usd_per_1k_tokens: float = Field(default=0.02, ge=0)  # text-davinci-003's, unverified

    @property
    def id(self) -> str:
        """Changes with everything but how many cells there are."""
        text = self.model_dump_json(exclude={"labels", "seeds"})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def fit(self, examples: int, lr: float, seed: int) -> Fit:
        steps = max(self.least_steps, math.ceil(self.epochs * examples / self.batch_size))
        return Fit(steps=steps, batch_size=self.batch_size, lr=lr, seed=seed)


@dataclass
class Bench:
    """What the cells of a study share: task, models, the folder where nothing is done twice."""

    setting: Setting
    folder: Path

    @cached_property
    def task(self) -> Task:
        return tasks.load(self.setting.task)

    @cached_property
    def encoder(self) -> Backbone:
        return backbones.load(self.setting.encoder)

    @cached_property
    def llm(self) -> Backbone:
        return backbones.load(self.setting.llm)

    @cached_property
    def test(self) -> list[Example]:
        return self.task.test(self.setting.limit)

    def _pool(self, seed: int) -> list[Example]:
        return self.task.draw(self.task.drawable, seed)

    def texts(self, seed: int) -> list[Example]:
        """The texts that nobody labels by hand: the same for every number of labels."""
        return self._pool(seed)[-self.setting.unlabelled :]

    def people(self, count: int, seed: int) -> list[Example]:
        """`count` examples with labels bought from people; those that were bought before are free.

        Raises FrugalError where the task has not so many beside the unlabelled texts.
        """
        pool = self._pool(seed)
        if count + self.setting.unlabelled > len(pool):
            raise FrugalError(
                f"{self.task.name}: {count} labels and {self.setting.unlabelled} texts without "
                f"are more than the {len(pool)} there are"
            )
        source = sources.HumanPool(self.setting.usd_per_label)
        cap = len(pool) * source.usd
        bought = labels.buy(source, pool[:count], self.folder / f"people-{seed}", cap_usd=cap)
        return bought.labelled(pool[:count])

    def llm_says(
        self, train: Sequence[Example], texts: Sequence[Example], seed: int
    ) -> tuple[list[Example], float]:
        """The texts that an LLM labels for the price of the labels in `train`, and USD spent.

        The examples it is shown are among those; its token price pays for its computing.
        """
        s = self.setting
        shots = tuple(train[: s.llm_shots])
        source = sources.LocalModel(self.llm, s.usd_per_1k_tokens, shots)
        cap = (len(train) - len(shots)) * s.usd_per_label
        bought = labels.buy(source, texts, self.folder / f"llm-{seed}", cap_usd=cap)
        return bought.labelled(texts), bought.spent_usd + len(shots) * s.usd_per_label


def run(
    setting: Setting,
    folder: Path,
    *,
    out: Path | None = None,
    progress: Progress = lambda message: None,
) -> pd.DataFrame:
    """Every cell of the study: a row a trained model; columns as `cell` gives them, and where,
    when and under which setting it was computed.

    folder: checkpoints, teacher outputs and bought labels; a study that was killed goes on
    out:    a CSV file, written again after every cell; cells it holds already are not computed

    Raises FrugalError where `out` holds the runs of another setting.
    """
    found = _read(out, setting) if out and out.exists() else pd.DataFrame()
    bench = Bench(setting, folder)
    for n, seed in itertools.product(setting.labels, setting.seeds):
        if len(found) and ((found["labels"] == n) & (found["seed"] == seed)).any():
            continue
        progress(f"{n} labels, seed {seed}")
        rows = pd.DataFrame(cell(bench, n, seed))
        today = datetime.now(timezone.utc).date().isoformat()
        rows = rows.assign(setting=setting.id, machine=presets.machine(), date=today)
        found = pd.concat([found, rows], ignore_index=True)
        if out:
            _write(out, found)
    return found


def cell(bench: Bench, n: int, seed: int) -> list[dict[str, Any]]:
    """All strategies on `n` human labels: a record a model.

    strategy:  "teacher"; "annotate", a student on the labels; "annotate more", on as many as the
               dollars of distillation buy; "distill", on the teacher's logits; "llm", on an LLM's
               labels for the dollars of the human ones
    layers:    of the model (0: all of the encoder's); trained_on: examples it learnt from
    accuracy:  on the test texts; hits: which of them, as 0 and 1
    usd_labels, usd_compute, usd: what it cost; seconds, tokens, flops: of the computing in it
    """
    s, place = bench.setting, bench.folder / f"{n}-{seed}"
    train, texts = bench.people(n, seed), bench.texts(seed)
    classes = classifier.classes([*train, *texts])
    records: list[dict[str, Any]] = []

    def trained(
        strategy: str,
        layers: int,
        examples: Sequence[Example],
        usd_labels: float,
        logits: Tensor | None = None,
        before: Cost = NOTHING,
    ) -> tuple[Classifier, Cost]:
        model = classifier.new(bench.encoder, classes, layers=layers or None, seed=seed)
        fitted = classifier.fit(
            model,
            examples,
            classifier.targets(examples, classes) if logits is None else logits,
            s.fit(len(examples), s.student_lr if layers else s.teacher_lr, seed),
            checkpoint=place / f"{strategy}-{layers}".replace(" ", "-"),
        )
        cost, hits = before + fitted.cost, model.hits(bench.test)
        usd = cost.seconds / 3600 * s.usd_per_hour
        records.append(
            {
                "task": bench.task.name,
                "labels": n,
                "seed": seed,
                "strategy": strategy,
                "layers": layers,
                "trained_on": len(examples),
                "accuracy": float(hits.double().mean()),
                "hits": "".join(str(int(h)) for h in hits),
                "usd_labels": usd_labels,
                "usd_compute": usd,
                "usd": usd_labels + usd,
                **vars(cost),
            }
        )
        return model, cost

    paid = n * s.usd_per_label
    teacher, taught = trained("teacher", 0, train, paid)
    table, asked = outputs(teacher, texts, place / "teacher-outputs")
    for layers in s.layers:
        trained("annotate", layers, train, paid)
        trained("distill", layers, texts, paid, table, taught + asked)
        dollars = records[-1]["usd_compute"]
        if s.usd_per_label and (more := math.floor(dollars / s.usd_per_label)):
            longer = bench.people(n + more, seed)
            trained("annotate more", layers, longer, len(longer) * s.usd_per_label)
    if s.llm:
        said, usd = bench.llm_says(train, texts, seed)
        for layers in s.layers if said else ():
            trained("llm", layers, said, usd)
    return records


def _read(file: Path, setting: Setting) -> pd.DataFrame:
    try:
        found = pd.read_csv(file, dtype={"hits": str})
        others = set(found["setting"]) - {setting.id}
    except (ValueError, KeyError, OSError) as error:
        raise FrugalError(f"{file}: not the table of a study ({error})") from error
    if others:
        raise FrugalError(f"{file}: holds runs of another setting; name another file")
    return found


def _write(file: Path, table: pd.DataFrame) -> None:
    """Make the table appear whole or not at all."""
    fresh = file.with_suffix(".new")
    file.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(fresh, index=False)
    os.replace(fresh, file)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, least and most accuracy over seeds, and mean dollars, of every strategy at every N."""
    by = runs.groupby(["labels", "strategy", "layers"], sort=False)
    table = by["accuracy"].agg(["mean", "min", "max", "count"])
    table["usd"] = by["usd"].mean()
    return table.reset_index()


def differences(runs: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Accuracy of strategy `first` minus that of `second`, at every N, size and seed.

    Columns: labels, layers, seed, difference. Raises FrugalError for a strategy that has no runs.
    """
    for name in (first, second):
        if name not in set(runs["strategy"]):
            raise unknown("strategy", name, set(runs["strategy"]))
    wide = runs.pivot_table(
        index=["labels", "layers", "seed"], columns="strategy", values="accuracy"
    )
    return (wide[first] - wide[second]).dropna().rename("difference").reset_index()
