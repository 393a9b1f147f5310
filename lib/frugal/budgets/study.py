"""The live study: the same dollars in human labels, in distillation, or in an LLM's labels.

A *cell* is one number of labels and one seed. In it a teacher and small students are trained on the
same labels; the teacher labels texts that nobody has labelled, and other students learn those; an
LLM labels as many texts as the same dollars pay for. All are scored on the same test texts, so
that two strategies are compared text by text.
"""

import itertools
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field
from torch import Tensor

from frugal import tasks
from frugal.budgets import annotators, labels, students
from frugal.budgets.distill import outputs, right
from frugal.budgets.students import Learnt
from frugal.costs import prices
from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe
from frugal.engine import backbones, digests, files, presets
from frugal.engine.backbones import Backbone
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.fewshot import tfew
from frugal.tasks import Example, Task, texts

Progress = Callable[[str], Any]
KEY = 2  # of the settings' ids: 1 hashed the setting alone, not what it reads
TEACHER = "teacher"
TOO_FEW = 0.05  # so small a share of more labels changes less than can be measured


class Setting(presets.Study):
    """What is compared; a preset's `budgets` gives all of it.

    teacher_recipe, student_recipe: of a language model, which learns to rank the choices; the
        steps of a student are counted as in `steps`
    usd_per_hour: of this machine; by default the paper's GPU hour
    """

    teacher_recipe: tfew.Recipe = tfew.Recipe.of()
    student_recipe: tfew.Recipe = tfew.Recipe.of()
    # FEVER's is the least that a label costs in the paper.
    usd_per_label: float = Field(default=prices.get("label", "fever").usd, ge=0)
    usd_per_hour: float = Field(default=prices.get("gpu", "a40").usd, ge=0)
    usd_per_1k_tokens: float = Field(default=prices.get("token", "text-davinci-003").usd, ge=0)

    @classmethod
    def of(cls, preset: presets.Budgets, **given: Any) -> "Setting":
        """That of a preset, replaced by what `given` says (`presets.said`)."""
        return cls(**preset.model_dump() | presets.said(**given))

    @property
    def id(self) -> str:
        """Changes with all that a row depends on, and with the models and texts that are read.

        But not with which cells and which students there are: see `content`.
        """
        own = self.model_dump(mode="json", exclude={"labels", "seeds", "students", "preset"})
        read = {"task": tasks.content(self.task)}
        read |= {who: content(who) for who in (self.encoder, self.teacher, self.llm) if who}
        return digests.of(KEY, own, read, classifier.VERSION)[:12]

    def steps(self, examples: int, batch_size: int) -> int:
        """Of a student on so many examples."""
        return max(self.least_steps, math.ceil(self.epochs * examples / batch_size))


def content(who: str) -> str:
    """What tells a student, or a teacher, from another of its name: a digest of its weights.

    "" of one that is made of the setting's encoder.
    """
    return "" if students.of_encoder(who) else digests.backbone(who)[:24]


@dataclass
class Bench:
    """What the cells of a study share: task, models, the folder where nothing is done twice."""

    setting: Setting
    folder: Path
    progress: Progress = lambda message: None

    @cached_property
    def task(self) -> Task:
        found = tasks.load(self.setting.task)
        for note in found.notes:
            self.progress(f"note: {note}")
        return found

    @cached_property
    def encoder(self) -> Backbone:
        return backbones.load(self.setting.encoder)

    @cached_property
    def llm(self) -> Backbone:
        return backbones.load(self.setting.llm)

    @cached_property
    def _kept(self) -> list[Example]:
        """What nobody trains on with its label: the task's test part, or a half it is given."""
        if self.task.test_size:
            return self.task.test()
        return self.task.draw(self.task.drawable, 0)[: self.task.drawable // 2]

    @cached_property
    def test(self) -> list[Example]:
        return self._kept[: self.setting.limit]

    def _pool(self, seed: int) -> list[Example]:
        """What people may label, in an order that the seed decides."""
        pool = self.task.draw(self.task.drawable, seed)
        if self.task.test_size:
            return pool
        kept = {e.model_dump_json() for e in self._kept}
        return [e for e in pool if e.model_dump_json() not in kept]

    def texts(self, seed: int) -> list[Example]:
        """The texts that nobody labels by hand: the same for every number of labels.

        First those of the test part that are not scored, then those last in the pool.
        """
        spare = self._kept[self.setting.limit :]
        few = random.Random(seed).sample(spare, min(self.setting.unlabelled, len(spare)))
        more = self.setting.unlabelled - len(few)
        return few + self._pool(seed)[::-1][:more]

    def people(self, count: int, seed: int) -> list[Example]:
        """`count` examples with labels bought from people; those that were bought before are free.

        Raises FrugalError where the task has not so many beside the unlabelled texts.
        """
        pool = self._pool(seed)
        there = len(pool) + len(self._kept) - len(self.test)
        if count > len(pool) or count + self.setting.unlabelled > there:
            raise FrugalError(
                f"{self.task.name}: {count} labels and {self.setting.unlabelled} texts without "
                f"are more than the {len(pool)} there are to label, and {there} to read"
            )
        source = annotators.HumanPool(self.setting.usd_per_label)
        cap = len(pool) * source.usd
        bought = labels.buy(source, pool[:count], self.folder / f"people-{seed}", cap_usd=cap)
        return bought.labelled(pool[:count])

    def learn(
        self,
        who: str,
        examples: Sequence[Example],
        table: Tensor | None,
        seed: int,
        folder: Path,
        *,
        teaches: bool = False,
    ) -> Learnt:
        """The model `who`, trained on labels or on a teacher's logits; its state is kept."""
        s, state = self.setting, folder / _slug(who)
        of = texts.classes([*examples, *self.test])
        model = students.new(who, self.encoder, of, share=s.design_share, seed=seed)
        if isinstance(model, Backbone):
            recipe = s.teacher_recipe if teaches else s.student_recipe
            if not teaches:
                steps = s.steps(len(examples), recipe.batch_size)
                recipe = recipe.model_copy(update={"steps": steps})
            recipe = recipe.model_copy(update={"seed": seed})
            return students.rank(model, examples, table, recipe, checkpoint=state)
        pretrained = s.teacher_lr if model.model.trains == "full" else s.design_lr
        lr = s.student_lr if students.fresh(who) else pretrained
        epochs, least = (0, s.teacher_steps) if teaches else (s.epochs, s.least_steps)
        how = Recipe(epochs=epochs, least_steps=least, batch_size=s.batch_size, lr=lr, seed=seed)
        return students.classify(model, examples, table, how, checkpoint=state)

    def llm_says(
        self, train: Sequence[Example], texts: Sequence[Example], seed: int, usd: float
    ) -> tuple[list[Example], float]:
        """The first of `texts`, as far as `usd` go, with an LLM's labels; and USD spent on them.

        The examples it is shown are among `train`; its token price pays for its computing. What it
        labelled before, for another cell, is not computed again, but paid for in every cell.
        """
        shots = tuple(train[: self.setting.llm_shots])
        source = annotators.LocalModel(self.llm, self.setting.usd_per_1k_tokens, shots)
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
            study can grow in labels, seeds and students. A row that is damaged or lost is computed
            again, one that stands twice counts once

    Raises FrugalError where `out` holds the runs of another setting, or of an older version.
    """
    mine, contents = setting.id, {who: content(who) for who in setting.students}
    found = _read(out, mine) if out and out.exists() else pd.DataFrame()
    bench = Bench(setting, folder, progress)
    for seed, n in itertools.product(setting.seeds, setting.labels):
        kept, done = _whole(found, n, seed, contents)
        left = [who for who in setting.students if who not in done]
        taught = TEACHER in done
        if not left and taught:
            found = kept
            continue
        progress(f"{n} labels, seed {seed}, {', '.join(left) or 'teacher'}")
        rows = pd.DataFrame(cell(bench, n, seed, left))
        today = datetime.now(timezone.utc).date().isoformat()
        rows = rows.assign(
            rows=_sizes(rows),
            content=[contents.get(r.model, "") for r in rows.itertuples()],
            key=KEY,
            setting=mine,
            preset=setting.preset,
            machine=presets.machine(),
            date=today,
        )
        found = pd.concat([kept, rows[rows["strategy"] != TEACHER] if taught else rows])
        found = found.reset_index(drop=True)
        if out:
            _write(out, found)
    return found


def _sizes(rows: pd.DataFrame) -> pd.Series:
    """How many rows of this cell are of the same student, or teacher: none may get lost."""
    taught = rows["strategy"] == TEACHER
    return rows.groupby([taught, rows["model"]])["model"].transform("size")


def _whole(
    found: pd.DataFrame, n: int, seed: int, contents: Mapping[str, str]
) -> tuple[pd.DataFrame, set[str]]:
    """The table without what a cell lacks a part of, and what the cell has: students, TEACHER."""
    if found.empty:
        return found, set()
    cell = (found["labels"] == n) & (found["seed"] == seed)
    taught = found["strategy"] == TEACHER
    lost = cell & (
        found.groupby([cell, taught, "model"])["model"].transform("size") < found["rows"]
    )
    other = (
        cell & ~taught & (found["content"] != found["model"].map(contents).fillna(found["content"]))
    )
    kept = found[~(lost | other)].reset_index(drop=True)
    mine = kept[(kept["labels"] == n) & (kept["seed"] == seed)]
    has = set(mine.loc[mine["strategy"] != TEACHER, "model"])
    return kept, has | ({TEACHER} if (mine["strategy"] == TEACHER).any() else set())


def cell(bench: Bench, n: int, seed: int, who: Sequence[str]) -> list[dict[str, Any]]:
    """All strategies on `n` human labels, for each of the students `who`: a record a model.

    strategy:  "teacher"; "annotate", a student on the labels; "distill", on the teacher's logits;
               "annotate more", on labels that the dollars of distillation buy as well, where they
               are more than a few; "llm", on an LLM's labels, for the dollars of the human ones
    model:     which teacher, or student; params: that it has; trained: that the training changed
    trained_on: examples it learnt from
    accuracy:  on the test texts; hits: which of them, as 0 and 1
    usd_labels, usd_compute, usd: what it cost; seconds, tokens, flops: of the computing in it
    """
    s, place = bench.setting, bench.folder / f"{n}-{seed}"
    train, texts = bench.people(n, seed), bench.texts(seed)
    paid, name = n * s.usd_per_label, s.teacher or s.encoder
    records: list[dict[str, Any]] = []

    def scored(
        strategy: str, model: str, learnt: Learnt, examples: int, usd_labels: float, cost: Cost
    ) -> float:
        """Write the record; the dollars of its computing."""
        hits, _ = right(learnt.model, bench.test)
        usd = cost.seconds / 3600 * s.usd_per_hour
        records.append(
            {
                "task": bench.task.name,
                "labels": n,
                "seed": seed,
                "strategy": strategy,
                "model": model,
                "params": learnt.params,
                "trained": learnt.trained,
                "trained_on": examples,
                "accuracy": float(hits.double().mean()),
                "hits": "".join(str(int(h)) for h in hits),
                "usd_labels": usd_labels,
                "usd_compute": usd,
                "usd": usd_labels + usd,
                **vars(cost),
            }
        )
        return usd

    teacher = bench.learn(name, train, None, seed, place, teaches=True)
    scored("teacher", name, teacher, n, paid, teacher.cost)
    table, asked = outputs(teacher.model, texts, place / "teacher-outputs")
    before = teacher.cost + asked

    def on_labels(
        strategy: str, student: str, examples: Sequence[Example], usd: float, folder: Path = place
    ) -> None:
        learnt = bench.learn(student, examples, None, seed, folder / _slug(strategy))
        scored(strategy, student, learnt, len(examples), usd, learnt.cost)

    for student in who:
        on_labels("annotate", student, train, paid)
        learnt = bench.learn(student, texts, table, seed, place / "distill")
        dollars = scored("distill", student, learnt, len(texts), paid, before + learnt.cost)
        more = math.floor(dollars / s.usd_per_label) if s.usd_per_label else 0
        if more > n * TOO_FEW:
            longer = bench.people(n + more, seed)
            on_labels("annotate more", student, longer, len(longer) * s.usd_per_label)
        if not s.llm:
            continue
        shown = min(s.llm_shots, n) * s.usd_per_label
        said, usd = bench.llm_says(train, texts[: s.llm_texts], seed, paid - shown)
        if said:
            # The same labels at another N make the same student: it is trained once.
            once = bench.folder / f"llm-{seed}" / str(len(said))
            on_labels("llm", student, said, usd + shown, once)
    return records


def _slug(name: str) -> str:
    """A folder's name for a strategy or a model."""
    return re.sub(r"[^\w.]+", "-", name)


_NUMBERS: dict[str, Callable[[str], float]] = {
    **dict.fromkeys(("labels", "seed", "params", "trained", "trained_on", "tokens", "rows"), int),
    **dict.fromkeys(("accuracy", "usd_labels", "usd_compute", "usd", "seconds", "flops"), float),
    "key": int,
}


def _read(file: Path, setting: str) -> pd.DataFrame:
    """The sound rows of a table, each once."""
    try:
        told = pd.read_csv(file, dtype=str, keep_default_na=False)
        if lacking := {"setting", "strategy", "hits"} - set(told):
            raise ValueError(f"no column {min(lacking)}")
    except (ValueError, OSError) as error:
        raise FrugalError(f"{file}: not the table of a study ({error})") from error
    versions = {k for k in told.get("key", ["1"]) if k.isdecimal() and k != str(KEY)}
    if versions:
        raise FrugalError(
            f"{file}: its rows have keys of version {min(versions)}, and this is version {KEY}: "
            "they can be reported, but not continued. Name another file"
        )
    sound = [row for record in told.to_dict("records") if (row := _sound(record))]
    if len(told) and not sound:
        raise FrugalError(f"{file}: not the table of a study (no row of it is sound)")
    if {row["setting"] for row in sound} - {setting}:
        raise FrugalError(f"{file}: holds runs of another setting; name another file")
    once = {(r["labels"], r["seed"], r["strategy"], r["model"]): r for r in reversed(sound)}
    return pd.DataFrame(list(reversed(once.values())), columns=list(told.columns))


def _sound(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row as numbers, if it is what was written: its hits are its accuracy."""
    try:
        row = {**record, **{name: of(record[name]) for name, of in _NUMBERS.items()}}
        hits = row["hits"]
        finite = all(math.isfinite(row[name]) for name in _NUMBERS)
        same = abs(hits.count("1") / len(hits) - row["accuracy"]) < 1e-6
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, ZeroDivisionError):
        return None
    return row if finite and same and set(hits) <= {"0", "1"} and row["strategy"] else None


def _write(file: Path, table: pd.DataFrame) -> None:
    """Make the table appear whole or not at all."""
    with files.mending(
        file.parent,
        full="what was computed is kept. Make room and start the study again",
        denied="name another file",
    ):
        files.sweep(file.parent)
        with files.staged(file) as fresh:
            table.to_csv(fresh, index=False)
