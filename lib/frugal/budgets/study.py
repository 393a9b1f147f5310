"""The live study: the same dollars in human labels, in distillation, or in an LLM's labels.

A *cell* is one number of labels and one seed. In it a teacher and small students are trained on the
same labels; the teacher labels texts that nobody has labelled, and other students learn those; an
LLM labels as many texts as the same dollars pay for. All are scored on the same test texts, so
that two strategies are compared text by text. A run is one student of a cell, or its teacher.
"""

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock
from pydantic import Field, model_validator
from torch import Tensor

from frugal import peft, stats, tasks
from frugal.budgets import annotators, compare, labels, students
from frugal.budgets.distill import ClassTeacher, outputs, right
from frugal.budgets.students import Learnt
from frugal.costs import prices
from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe
from frugal.encoders.schedule import Schedule
from frugal.engine import backbones, digests, presets, runs, sweep
from frugal.engine.backbones import Backbone
from frugal.engine.runs import RunSpec, Store
from frugal.engine.training import Cost
from frugal.errors import FrugalError
from frugal.fewshot import evaluate, tfew
from frugal.kernels.precision import FLOATS, NAMES, rates
from frugal.tasks import Example, Task, texts

JOB = "budgets.cell"
KEY = 2  # of the settings' ids: 1 hashed the setting alone, not what it reads
TEACHER = "teacher"
SHARE = 0.4  # of the rate of the machine's matrix products, what these trainings reach
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

    @model_validator(mode="after")
    def _teachable(self) -> "Setting":
        low, method = self.teacher_precision, self.teacher_recipe.method
        if low == "float32":
            return self
        if self.teacher in ("", self.encoder):
            raise ValueError(
                f"teacher_precision: {self.encoder} teaches, an encoder whose weights are trained, "
                f"in float32; {low} is for a language model's frozen ones"
            )
        if low not in (able := peft.precisions(method)):
            raise ValueError(
                f"teacher_precision: {method} trains in {' or '.join(able)}, not in {low}"
            )
        return self

    @classmethod
    def of(cls, preset: presets.Budgets, **given: Any) -> "Setting":
        """That of a preset, replaced by what `given` says (`presets.said`)."""
        return cls(**preset.model_dump() | presets.said(**given))

    @property
    def id(self) -> str:
        """Changes with all that a row depends on, and with the models and texts that are read.

        But not with which cells and which students there are: see `content`.
        """
        return digests.of(KEY, self.own(), self.read(), classifier.VERSION)[:12]

    def own(self) -> dict[str, Any]:
        """What every cell shares, as JSON."""
        left_out = {"labels", "seeds", "students", "preset"}
        # A study that did not name these, since there was no choice, is the same one.
        later = ("precision", "training", "teacher_precision", "teacher_epochs")
        fields = type(self).model_fields
        left_out |= {name for name in later if getattr(self, name) == fields[name].default}
        return self.model_dump(mode="json", exclude=left_out)

    def read(self) -> dict[str, str]:
        """Digests of the task and the models that every cell reads."""
        models = {who: content(who) for who in (self.encoder, self.teacher, self.llm) if who}
        return {"task": tasks.content(self.task), **models}

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
    _pools: dict[int, list[Example]] = field(default_factory=dict, repr=False)

    @cached_property
    def task(self) -> Task:
        return tasks.load(self.setting.task)

    @property
    def teacher(self) -> str:
        return self.setting.teacher or self.setting.encoder

    @cached_property
    def encoder(self) -> Backbone:
        return backbones.load(self.setting.encoder)

    @cached_property
    def llm(self) -> Backbone:
        return backbones.load(self.setting.llm, precision=self.setting.precision)

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
        if seed not in self._pools:
            pool = self.task.draw(self.task.drawable, seed)
            if not self.task.test_size:
                kept = {e.model_dump_json() for e in self._kept}
                pool = [e for e in pool if e.model_dump_json() not in kept]
            self._pools[seed] = pool
        return self._pools[seed]

    def texts(self, seed: int) -> list[Example]:
        """The texts that nobody labels by hand: the same for every number of labels.

        First those of the test part that are not scored, then those last in the pool.
        """
        spare = self._kept[self.setting.limit :]
        few = random.Random(seed).sample(spare, min(self.setting.unlabelled, len(spare)))
        more = self.setting.unlabelled - len(few)
        return few + self._pool(seed)[::-1][:more]

    def wanted(self, count: int, seed: int) -> list[Example]:
        """The `count` examples that people are asked about.

        Raises FrugalError where the task has not so many beside the unlabelled texts.
        """
        pool = self._pool(seed)
        there = len(pool) + len(self._kept) - len(self.test)
        if count > len(pool) or count + self.setting.unlabelled > there:
            raise FrugalError(
                f"{self.task.name}: {count} labels and {self.setting.unlabelled} texts without "
                f"are more than the {len(pool)} there are to label, and {there} to read"
            )
        return pool[:count]

    def people(self, count: int, seed: int) -> list[Example]:
        """`count` examples with labels bought from people; those that were bought before are free.

        Raises FrugalError as `wanted` does.
        """
        asked = self.wanted(count, seed)
        source = annotators.HumanPool(self.setting.usd_per_label)
        cap, place = len(self._pool(seed)) * source.usd, self.folder / f"people-{seed}"
        with alone(place):
            return labels.buy(source, asked, place, cap_usd=cap).labelled(asked)

    def new(
        self, who: str, examples: Sequence[Example], seed: int, *, teaches: bool = False
    ) -> ClassTeacher | Backbone:
        """The model `who`, before it learns the examples."""
        return students.new(
            who,
            self.encoder,
            texts.classes([*examples, *self.test]),
            share=self.setting.design_share,
            seed=seed,
            precision=self.setting.teacher_precision if teaches else "float32",
        )

    def ranking(self, examples: int, seed: int, teaches: bool) -> tfew.Recipe:
        """How a language model learns so many examples."""
        s = self.setting
        recipe = s.teacher_recipe if teaches else s.student_recipe
        steps = recipe.steps if teaches else s.steps(examples, recipe.batch_size)
        return recipe.model_copy(update={"steps": steps, "seed": seed})

    def classifying(self, who: str, seed: int, teaches: bool) -> Recipe:
        """How a classifier learns."""
        s = self.setting
        fresh, design = students.fresh(who), students.of_encoder(who)
        lr = s.student_lr if fresh else s.design_lr if design else s.teacher_lr
        epochs, least = (
            (s.teacher_epochs, s.teacher_steps) if teaches else (s.epochs, s.least_steps)
        )
        return Recipe(
            epochs=epochs,
            least_steps=least,
            batch_size=s.batch_size,
            lr=lr,
            precision=s.training,
            seed=seed,
        )

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
        model, state = self.new(who, examples, seed, teaches=teaches), folder / _slug(who)
        with alone(state):
            if isinstance(model, Backbone):
                recipe = self.ranking(len(examples), seed, teaches)
                return students.rank(model, examples, table, recipe, checkpoint=state)
            how = self.classifying(who, seed, teaches)
            return students.classify(model, examples, table, how, checkpoint=state)

    def flops(
        self,
        who: str,
        examples: Sequence[Example],
        asked: Sequence[Example],
        seed: int,
        *,
        teaches: bool = False,
    ) -> tuple[float, float]:
        """Exact, of `learn` and of answering `asked` then, without doing it."""
        student = self.new(who, examples, seed, teaches=teaches)
        if isinstance(student, Backbone):
            recipe = self.ranking(len(examples), seed, teaches)
            spent = evaluate.training_flops(student, examples, recipe)
            each = evaluate.counted(evaluate.query_flops(student, asked), student.name)
            return evaluate.counted(spent, student.name), len(asked) * each
        model = student.model
        lengths, others = (
            [len(ids) for ids in model.encode([e.prompt for e in some])]
            for some in (examples, asked)
        )
        how = self.classifying(who, seed, teaches)
        schedule = Schedule.of(lengths, how, model.split.below, model.head.in_features)
        _, trained = schedule.cost(lengths, model.trains, model.arch, model.head.out_features)
        return trained, model.flops(others)

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
        place = self.folder / f"llm-{seed}"
        with alone(place):
            bought = labels.buy(source, some, place, cap_usd=sum(price) + 1e-9)
        return bought.labelled(some), spent[-1] if spent else 0.0


def specs(setting: Setting, folder: Path) -> list[RunSpec]:
    """Every cell as a run of the job "budgets.cell": of each the teacher, then the students.

    folder: of the study; it is one of the parameters, so a study that is moved is another one

    Raises FrugalError where the task has too few examples for a cell.
    """
    bench, read = Bench(setting, folder), setting.read()
    for seed in setting.seeds:
        bench.wanted(max(setting.labels), seed)
    same = {"folder": str(folder.resolve()), "setting": setting.own()}
    found = []
    for seed, n in itertools.product(setting.seeds, setting.labels):
        for who in (TEACHER, *setting.students):
            params = {**same, "labels": n, "seed": seed, "who": who}
            inputs = _inputs(read, who)
            found.append(runs.spec(JOB, params, inputs=inputs, preset=setting.preset))
    return found


def begun(setting: Setting, store: Path) -> Setting | None:
    """The one study in `store` that is `setting` but for its precisions."""
    both = itertools.product(NAMES, FLOATS)
    tried = [setting.model_copy(update={"precision": p, "training": t}) for p, t in both]
    found = [one for one in tried if Store(store / one.id).key()]
    return found[0] if len(found) == 1 else None


def run(setting: Setting, folder: Path) -> pd.DataFrame:
    """Every cell of the study that `folder` does not hold yet; a row a trained model, as `table`.

    folder: runs, checkpoints, teacher outputs and bought labels; a study that was killed goes on,
        and it can grow in labels, seeds and students
    """
    wanted, store = specs(setting, folder), Store(folder)
    sweep.run(wanted, store)
    return table(setting, store, wanted)


def table(setting: Setting, store: Store, wanted: Sequence[RunSpec]) -> pd.DataFrame:
    """The runs that are done: columns as `cell` gives them, and where, when and of which setting.

    rows: how many there are of the same cell and student, or teacher; teacher: of the setting
    """
    done = [spec for spec in wanted if store.done(spec.id)]
    found = pd.DataFrame(
        {
            **row,
            "rows": len(rows),
            "teacher": setting.teacher or setting.encoder,
            "content": spec.inputs.get("student", ""),
            "key": spec.key,
            "classifier": int(spec.inputs["classifier"]),
            "setting": setting.id,
            "preset": setting.preset,
            "precision": setting.precision,
            "training": setting.training,
            "machine": presets.machine(),
            "date": store.machine(spec.id)["started"][:10],
        }
        for spec in done
        for rows in [store.result(spec.id)["rows"]]
        for row in rows
    )
    return compare.packed(found)


def inputs(setting: Mapping[str, Any], who: str, **_: Any) -> dict[str, str]:
    """What a run reads beside its params."""
    return _inputs(_setting(setting).read(), who)


def _inputs(read: Mapping[str, str], who: str) -> dict[str, str]:
    student = {} if who == TEACHER else {"student": content(who)}
    return {**read, "classifier": str(classifier.VERSION), **student}


def cell_flops(folder: str, setting: Mapping[str, Any], labels: int, seed: int, who: str) -> float:
    """FLOPs of the trainings and answers in `cell` whose number of examples is known before.

    Those that dollars decide are not in it: "annotate more", and "llm". The teacher's reading of
    the unlabelled texts is in that of the teacher.
    """
    s = _setting(setting)
    bench = _bench(s.model_dump_json(), folder, s.id)
    train, more = bench.wanted(labels, seed), bench.texts(seed)
    if who == TEACHER:
        return sum(bench.flops(bench.teacher, train, bench.test + more, seed, teaches=True))
    return sum(sum(bench.flops(who, some, bench.test, seed)) for some in (train, more))


def cost(setting: Setting, wanted: Sequence[RunSpec], store: Store) -> sweep.Plan:
    """What is left: FLOPs, as `cell_flops` counts, and hours of this process by itself.

    At the rate of this machine's products in the precision of most of them: the teacher's, where it
    is a language model.
    """
    s = setting
    name = s.teacher_precision if s.teacher not in ("", s.encoder) else s.training
    rate = rates("cuda" if torch.cuda.is_available() else "cpu")[name]
    return sweep.plan(wanted, store, flops_per_second=SHARE * rate)


@runs.job(JOB, inputs=inputs, flops=cell_flops)
def cell(
    folder: str, setting: Mapping[str, Any], labels: int, seed: int, who: str
) -> dict[str, Any]:
    """One student on `labels` human labels, or the teacher: rows, one a strategy.

    strategy:  "teacher"; "annotate", a student on the labels; "distill", on the teacher's logits;
               "annotate more", on labels that the dollars of distillation buy as well, where they
               are more than a few; "llm", on an LLM's labels, for the dollars of the human ones
    model:     which teacher, or student; params: that it has; trained: that the training changed
    trained_on: examples it learnt from
    accuracy:  on the test texts, `examples` of them; hits: on which of them, `stats.packed`
    usd_labels, usd_compute, usd: what it cost; seconds, tokens, flops: of the computing in it

    The seconds, and the dollars they cost, are those of this machine. `score`: the mean accuracy.
    """
    s = _setting(setting)
    bench = _bench(s.model_dump_json(), folder, s.id)
    place = bench.folder / f"{labels}-{seed}"
    train, paid = bench.people(labels, seed), labels * s.usd_per_label
    rows: list[dict[str, Any]] = []

    def scored(
        strategy: str, model: str, learnt: Learnt, examples: int, usd_labels: float, cost: Cost
    ) -> float:
        """Write the row; the dollars of its computing."""
        hits, _ = right(learnt.model, bench.test)
        usd = cost.seconds / 3600 * s.usd_per_hour
        rows.append(
            {
                "task": bench.task.name,
                "labels": labels,
                "seed": seed,
                "strategy": strategy,
                "model": model,
                "params": learnt.params,
                "trained": learnt.trained,
                "trained_on": examples,
                "accuracy": float(hits.double().mean()),
                "hits": stats.packed(hits.numpy()),
                "examples": len(hits),
                "usd_labels": usd_labels,
                "usd_compute": usd,
                "usd": usd_labels + usd,
                **vars(cost),
            }
        )
        return usd

    def on_labels(
        strategy: str, examples: Sequence[Example], usd: float, folder: Path = place
    ) -> None:
        learnt = bench.learn(who, examples, None, seed, folder / _slug(strategy))
        scored(strategy, who, learnt, len(examples), usd, learnt.cost)

    teacher = bench.learn(bench.teacher, train, None, seed, place, teaches=True)
    if who == TEACHER:
        scored("teacher", bench.teacher, teacher, labels, paid, teacher.cost)
    else:
        texts = bench.texts(seed)
        on_labels("annotate", train, paid)
        with alone(place / "teacher-outputs"):
            logits, asked = outputs(teacher.model, texts, place / "teacher-outputs")
        learnt = bench.learn(who, texts, logits, seed, place / "distill")
        spent = teacher.cost + asked + learnt.cost
        dollars = scored("distill", who, learnt, len(texts), paid, spent)
        more = math.floor(dollars / s.usd_per_label) if s.usd_per_label else 0
        if more > labels * TOO_FEW:
            longer = bench.people(labels + more, seed)
            on_labels("annotate more", longer, len(longer) * s.usd_per_label)
        if s.llm:
            shown = min(s.llm_shots, labels) * s.usd_per_label
            said, usd = bench.llm_says(train, texts[: s.llm_texts], seed, paid - shown)
            if said:
                # The same labels at another N make the same student: it is trained once.
                once = bench.folder / f"llm-{seed}" / str(len(said))
                on_labels("llm", said, usd + shown, once)
    return {"score": sum(row["accuracy"] for row in rows) / len(rows), "rows": rows}


def _setting(own: Mapping[str, Any]) -> Setting:
    """The setting of a run, which says by itself where in the study it stands."""
    return Setting.model_validate({**own, "labels": (1,), "seeds": (0,), "students": (TEACHER,)})


@lru_cache(maxsize=1)
def _bench(setting: str, folder: str, of: str) -> Bench:
    """The same for all cells of a study, so that its models are loaded once.

    setting: as JSON; of: its id, which changes with the models
    """
    return Bench(Setting.model_validate_json(setting), Path(folder))


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Nobody else works at `place`: cells of one study share labels, teachers and students."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        yield


def _slug(name: str) -> str:
    """A folder's name for a strategy or a model."""
    return re.sub(r"[^\w.]+", "-", name)
