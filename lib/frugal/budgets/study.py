"""The live study: the same dollars in human labels, in distillation, or in an LLM's labels.

A *cell* is one number of labels and one seed. In it a teacher and small students are trained on the
same labels; the teacher labels texts that nobody has labelled, and other students learn those; an
LLM labels as many texts as the same dollars pay for. All are scored on the same test texts, so
that two strategies are compared text by text.
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
from frugal.errors import FrugalError
from frugal.fewshot import tasks
from frugal.fewshot.tasks import Example, Task

Progress = Callable[[str], Any]
NOTHING = Cost()
TOO_FEW = 0.05  # so small a share of more labels changes less than can be measured


class Setting(BaseModel):
    """What is compared; a preset's `budgets` gives all of it.

    labels:     N, the human labels that every strategy begins with
    layers:     of the students; unlabelled: texts for the teacher and the LLM, the same for all N
    llm, llm_shots: who annotates, after so many of the human labels as examples ("" for nobody);
        llm_texts: of the unlabelled ones, at most
    teacher_steps: of a teacher, at every N; it is pretrained, and needs few
    epochs, least_steps: of a student's training, whichever is longer
    usd_per_hour: of this machine; by default the paper's GPU hour
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    encoder: str
    llm: str
    llm_shots: int = Field(ge=0)
    llm_texts: int = Field(ge=1)
    labels: tuple[int, ...] = Field(min_length=1)
    layers: tuple[int, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    unlabelled: int = Field(ge=1)
    limit: int = Field(ge=1)
    teacher_steps: int = Field(ge=1)
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
        """Changes with everything but which cells and which sizes of students there are."""
        text = self.model_dump_json(exclude={"labels", "seeds", "layers"})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def fit(self, examples: int, layers: int, seed: int) -> Fit:
        """How a model of so many layers is trained; the teacher's are all of the encoder's, 0."""
        steps = max(self.least_steps, math.ceil(self.epochs * examples / self.batch_size))
        if not layers:
            steps = self.teacher_steps
        lr = self.student_lr if layers else self.teacher_lr
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
        self, train: Sequence[Example], texts: Sequence[Example], seed: int, usd: float
    ) -> tuple[list[Example], float]:
        """The first of `texts`, as far as `usd` go, with an LLM's labels; and USD spent on them.

        The examples it is shown are among `train`; its token price pays for its computing. What it
        labelled before, for another cell, is not computed again, but paid for in every cell.
        """
        shots = tuple(train[: self.setting.llm_shots])
        source = sources.LocalModel(self.llm, self.setting.usd_per_1k_tokens, shots)
        price = [source.expected_usd(text) for text in texts]
        spent = list(itertools.takewhile(lambda total: total <= usd, itertools.accumulate(price)))
        some = texts[: len(spent)]
        bought = labels.buy(source, some, self.folder / f"llm-{seed}", cap_usd=sum(price) + 1e-9)
        return bought.labelled(some), spent[-1] if spent else 0.0


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
    out:    a CSV file, written again after every cell; what it holds is not computed again, so a
            study can grow in labels, seeds and sizes of students

    Raises FrugalError where `out` holds the runs of another setting.
    """
    found = _read(out, setting) if out and out.exists() else pd.DataFrame()
    bench = Bench(setting, folder)
    for seed, n in itertools.product(setting.seeds, setting.labels):
        done = _sizes(found, n, seed)
        layers = [size for size in setting.layers if size not in done]
        if not layers:
            continue
        progress(f"{n} labels, seed {seed}, layers {', '.join(map(str, layers))}")
        rows = pd.DataFrame(cell(bench, n, seed, layers))
        today = datetime.now(timezone.utc).date().isoformat()
        rows = rows.assign(setting=setting.id, machine=presets.machine(), date=today)
        found = pd.concat([found, rows if not done else rows[rows["layers"] > 0]])
        found = found.reset_index(drop=True)
        if out:
            _write(out, found)
    return found


def _sizes(found: pd.DataFrame, n: int, seed: int) -> set[int]:
    """Layers of the students that a cell holds."""
    if found.empty:
        return set()
    return set(found.loc[(found["labels"] == n) & (found["seed"] == seed), "layers"])


def cell(bench: Bench, n: int, seed: int, layers: Sequence[int]) -> list[dict[str, Any]]:
    """All strategies on `n` human labels, with students of these `layers`: a record a model.

    strategy:  "teacher"; "annotate", a student on the labels; "distill", on the teacher's logits;
               "annotate more", on labels that the dollars of distillation buy as well, where they
               are more than a few; "llm", on an LLM's labels, for the dollars of the human ones
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
        *,
        logits: Tensor | None = None,
        before: Cost = NOTHING,
        folder: Path = place,
    ) -> tuple[Classifier, Cost]:
        model = classifier.new(bench.encoder, classes, layers=layers or None, seed=seed)
        # A student's layers are new; its words are the encoder's, and few labels do not move them.
        model.encoder.embeddings.requires_grad_(not layers)
        fitted = classifier.fit(
            model,
            examples,
            classifier.targets(examples, classes) if logits is None else logits,
            s.fit(len(examples), layers, seed),
            checkpoint=folder / f"{strategy}-{layers}".replace(" ", "-"),
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
    for size in layers:
        trained("annotate", size, train, paid)
        trained("distill", size, texts, paid, logits=table, before=taught + asked)
        dollars = records[-1]["usd_compute"]
        more = math.floor(dollars / s.usd_per_label) if s.usd_per_label else 0
        if more > n * TOO_FEW:
            longer = bench.people(n + more, seed)
            trained("annotate more", size, longer, len(longer) * s.usd_per_label)
        if not s.llm:
            continue
        shown = min(s.llm_shots, n) * s.usd_per_label
        said, usd = bench.llm_says(train, texts[: s.llm_texts], seed, paid - shown)
        if said:
            # The same labels at another N make the same student: it is trained once.
            once = bench.folder / f"llm-{seed}" / str(len(said))
            trained("llm", size, said, usd + shown, folder=once)
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
