"""Our own Table 1: zero-shot, in-context learning and few-shot tuning on many tasks, paired.

What is measured was frozen before anything was scored (`data/table1.toml`). A run is one way on one
task with one draw of labels; all runs of a task answer the same test texts, and keep which of them
they got right, so that any two ways are compared text by text.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from torch.nn.utils.rnn import pad_sequence

from frugal import data, peft, tasks
from frugal.costs import flops
from frugal.encoders import classifier
from frugal.engine import backbones, digests, presets, runs
from frugal.engine.backbones import Backbone
from frugal.engine.presets import Preset, Table
from frugal.errors import FrugalError, first_problem, unknown
from frugal.fewshot import calibration, encoding, evaluate, icl, packing
from frugal.fewshot.encoding import EncodedExample
from frugal.fewshot.tfew import Recipe
from frugal.tasks import Example, Task

JOB = "table1.score"
CALIBRATED = ", calibrated"  # behind the name of a way that is prompted


class Way(Table):
    """How a task is answered: by `shots` in the prompt, a `recipe` (T-Few's), or a linear `head`.

    draws: of labels; also: only on the tasks of `Frozen.also`
    """

    draws: int = Field(ge=1)
    also: bool = False
    shots: int | None = Field(None, ge=0)
    recipe: dict[str, Any] = Field({})
    head: dict[str, Any] = Field({})

    @property
    def kind(self) -> Literal["prompt", "tune", "head"]:
        if self.shots is not None:
            return "prompt"
        return "tune" if self.recipe else "head"


class Rates(Table):
    """How rates are chosen: on a task that is not in the table. tried: way -> rates."""

    task: str
    draws: int = Field(ge=1)
    tried: dict[str, tuple[float, ...]]


class Frozen(Table):
    """What is measured, as `data/table1.toml` says what each is."""

    tasks: tuple[str, ...] = Field(min_length=1)
    also: tuple[str, ...]
    limit: int = Field(ge=1)
    labels: int = Field(ge=1)
    encoder: str
    recipe: dict[str, Any]
    ways: dict[str, Way]
    rates: Rates


def frozen(preset: str = "") -> Frozen:
    """What is measured, with what a preset sets instead."""
    table = data.toml("table1.toml")
    own = table.pop("presets").get(preset, {})
    try:
        return Frozen.model_validate(table | own)
    except ValidationError as error:
        raise FrugalError(f"table1.toml: {first_problem(error)}") from error


def specs(
    preset: Preset,
    precision: str,
    *,
    names: Sequence[str] = (),
    ways: Sequence[str] = (),
) -> list[runs.RunSpec]:
    """A run for every task, way and draw; those of one model after each other, task by task.

    precision: of the language model's frozen weights, resolved; what trains them takes float32
    names, ways: of the tasks and ways, if not all. Raises FrugalError for one that is unknown.
    """
    plan = frozen(preset.name)
    for what, given, known in (("task", names, plan.tasks), ("way", ways, plan.ways)):
        if wrong := [name for name in given if name not in known]:
            raise unknown(f"{what} of Table 1", wrong[0], known)
    wanted = [
        (task, name, draw)
        for task in plan.tasks
        if not names or task in names
        for name, way in plan.ways.items()
        if (not ways or name in ways) and (task in plan.also or not way.also)
        for draw in range(way.draws)
    ]
    found = _specs(preset, plan, precision, [(*some, plan.ways[some[1]]) for some in wanted])
    # A model is held until another is wanted.
    models = [(spec.params["backbone"], spec.params["precision"]) for spec in found]
    places = {model: i for i, model in enumerate(dict.fromkeys(models))}
    return sorted(found, key=lambda s: places[s.params["backbone"], s.params["precision"]])


def rate_specs(preset: Preset, precision: str) -> list[runs.RunSpec]:
    """The runs that rates were chosen by, way by way, rate by rate."""
    plan = frozen(preset.name)
    wanted = [
        (plan.rates.task, name, draw, _at(plan.ways[name], lr))
        for name, rates in plan.rates.tried.items()
        for lr in rates
        for draw in range(plan.rates.draws)
    ]
    return _specs(preset, plan, precision, wanted)


def _at(way: Way, lr: float) -> Way:
    """The same way at another rate."""
    changed = {kind: {**of, "lr": lr} for kind in ("recipe", "head") if (of := getattr(way, kind))}
    return way.model_copy(update=changed)


def _specs(
    preset: Preset, plan: Frozen, precision: str, wanted: Sequence[tuple[str, str, int, Way]]
) -> list[runs.RunSpec]:
    """wanted: task, name of the way, draw, way"""
    read = functools.cache(inputs)
    found = []
    for task, name, draw, way in wanted:
        backbone, own, recipe = preset.backbone, precision, {}
        if way.kind == "tune":
            how = Recipe.of(plan.recipe, way.recipe)
            recipe = how.model_dump(mode="json", exclude={"seed"})
            own = precision if precision in peft.precisions(how.method) else "float32"
        if way.kind == "head":
            backbone, own = plan.encoder, "float32"
            recipe = classifier.Recipe(**way.head).model_dump(mode="json", exclude={"seed"})
        params = {
            "task": task,
            "way": name,
            "draw": draw,
            "backbone": backbone,
            "precision": own,
            "kind": way.kind,
            "shots": plan.labels if way.shots is None else way.shots,
            "limit": plan.limit,
            "recipe": recipe,
        }
        own_inputs = read(backbone=backbone, task=task)
        found.append(
            runs.spec(JOB, params, inputs=own_inputs, preset=preset.name, num_gpus=preset.num_gpus)
        )
    return found


def inputs(backbone: str, task: str, **_: Any) -> dict[str, str]:
    """What a run reads beside its params, and the libraries that compute it."""
    return {
        "backbone": digests.backbone(backbone),
        "task": tasks.content(task),
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers")),
    }


def score_flops(**params: Any) -> float:
    """FLOPs of `score`: of a training and of all queries, shots read once for all of them."""
    return Asked(**params).flops()


@runs.job(JOB, inputs=inputs, flops=score_flops)
def score(**params: Any) -> dict[str, Any]:
    """Answer the test texts of a task in one way, after one draw of labels.

    params: as `Asked` has them. `flops_per_query` is of one query alone, with its shots and nothing
    cached; `train_flops` of all that is done once, before the first query. Of a prompted way also
    what it is when `calibrated`.
    """
    return Asked(**params).result()


@dataclass(frozen=True)
class Asked:
    """What a run is asked to do.

    kind: "prompt", "tune" or "head", with that recipe; way: what this is called
    shots: solved examples in the prompt, or labels to learn from; draw: which ones
    limit: test texts
    """

    task: str
    way: str
    draw: int
    backbone: str
    precision: str
    kind: str
    shots: int
    limit: int
    recipe: dict[str, Any]

    def result(self) -> dict[str, Any]:
        """See `score`."""
        return {"prompt": self._prompted, "tune": self._tuned, "head": self._head}[self.kind]()

    @property
    def model(self) -> Backbone:
        return backbones.held(self.backbone, self.precision)

    @property
    def source(self) -> Task:
        return _task(self.task, tasks.content(self.task))

    @property
    def drawn(self) -> list[Example]:
        return self.source.draw(self.shots, self.draw)

    @property
    def queries(self) -> list[EncodedExample]:
        """The test texts in tokens, nothing shown before them."""
        return _queries(
            self.backbone, self.precision, self.task, tasks.content(self.task), self.limit
        )

    def _prompted(self) -> dict[str, Any]:
        blank, places = calibration.once(self.source.test(self.limit, content_free=True))
        queries, drawn = self.queries, self.drawn
        if drawn:
            texts = self.source.test(self.limit)
            queries = encoding.encode(self.model, icl.prompted(texts, drawn))
        unread = encoding.encode(self.model, icl.prompted(blank, drawn))
        # Together, behind shots that are read once for all of them.
        _, scores = evaluate.rank(self.model, self.source, [*queries, *unread])
        beta = scores.table(scores.mean_logp)
        beta, prior = beta[: len(queries)], beta[len(queries) :][places]
        labels = torch.tensor([e.label for e in queries])
        plain, other = (
            (values.argmax(dim=1) == labels).numpy()
            for values in (beta, calibration.calibrated(beta, prior))
        )
        each, prior_each = (
            evaluate.query_flops(self.model, some, packed=scores.packed)
            for some in (queries, unread)
        )
        if each is None or prior_each is None:
            costs: tuple[float | None, float | None] = (None, None)
        elif len(blank) == 1:  # the prior of the choices is one for all
            costs = (each, prior_each)
        else:
            costs = (each + prior_each, 0.0)
        return {**_result(plain, each, 0.0, 0), "calibrated": _result(other, *costs, 0)}

    def _tuned(self) -> dict[str, Any]:
        how = Recipe.of(self.recipe, {"seed": self.draw})
        examples = self.source.wordings(self.shots, self.draw, "first")
        found, scores, trained = evaluate.few_shot(
            self.model, self.source, examples, self.queries, how
        )
        trained.tuned.detach()
        spent = found.train_flops, found.trainable_params
        return _result(scores.hits.numpy(), found.flops_per_query, *spent)

    def _head(self) -> dict[str, Any]:
        """A linear head on frozen states: of a text, or, where answers differ, of each pair."""
        how, texts, asked, outputs = self._for_head()
        head = classifier.new(self.model, outputs, "head", max_tokens=how.max_tokens, seed=how.seed)
        train, queries = self.drawn, self.source.test(self.limit)
        shared = len(texts) == len(train)
        goals = [e.label for e in train]
        if not shared:
            goals = [int(i == e.label) for e in train for i in range(len(e.choices))]
        fitted = classifier.fit(head, texts, torch.tensor(goals), how)
        said, cost = head.outputs(asked)
        if not shared:
            values = (said[:, 1] - said[:, 0]).split([len(e.choices) for e in queries])
            said = pad_sequence(values, batch_first=True, padding_value=float("-inf"))
        hits = said.argmax(dim=1) == torch.tensor([e.label for e in queries])
        trained = sum(p.numel() for p in head.trained().values())
        return _result(hits.numpy(), cost.flops / len(queries), fitted.cost.flops, trained)

    def _for_head(self) -> tuple[classifier.Recipe, list[str], list[str], int]:
        """Recipe, what is read in training and in scoring, and the number of classes.

        Where all examples share their answers these are the classes; else a text with an answer is
        right or wrong.
        """
        train, queries = self.drawn, self.source.test(self.limit)
        shared = len({e.choices for e in (*train, *queries)}) == 1
        texts, asked = (
            [e.prompt + c for e in some for c in ([""] if shared else e.choices)]
            for some in (train, queries)
        )
        how = classifier.Recipe(**self.recipe, seed=self.draw)
        return how, texts, asked, len(train[0].choices) if shared else 2

    def flops(self) -> float:
        """See `score_flops`."""
        if self.kind == "head":
            how, texts, asked, outputs = self._for_head()
            return classifier.planned_flops(self.model, outputs, "head", how, texts, asked)
        once: float | None = 0.0
        if self.kind == "tune":
            how_tuned = Recipe.of(self.recipe, {"seed": self.draw})
            examples = self.source.wordings(self.shots, self.draw, "first")
            once = evaluate.training_flops(self.model, examples, how_tuned)
            each = evaluate.query_flops(self.model, self.queries)
            parts = (once, *[each] * len(self.queries))
            return sum(evaluate.counted(part, self.backbone) for part in parts)
        return self._prompt_flops()

    def _prompt_flops(self) -> float:
        shape = evaluate.architecture(self.model)
        if shape is None:
            return evaluate.counted(None, self.backbone)
        blank, _ = calibration.once(self.source.test(self.limit, content_free=True))
        queries = [*self.queries, *encoding.encode(self.model, blank)]
        context = "".join(e.prompt for e in icl.prompted(blank[:1], self.drawn))
        front = len(self.model.tokenizer(context)["input_ids"]) if self.shots else 0

        @functools.cache
        def cost(*sizes: tuple[str, int]) -> int:
            fed = dict(sizes)
            if self.model.family == "causal":
                return sum(flops.forward(shape, **fed, context_tokens=front).values())
            fed["prompt_tokens"] += front
            return sum(flops.forward(shape, **fed).values())

        first = sum(flops.forward(shape, prompt_tokens=front, logits_at=0).values()) if front else 0
        return float(first + sum(cost(*f.items()) for e in queries for f in packing.shapes(e)))


@functools.lru_cache(maxsize=1)
def _task(name: str, content: str) -> Task:
    """Kept for the other runs of a task, until what it is made of changes."""
    return tasks.load(name)


@functools.lru_cache(maxsize=1)
def _queries(
    backbone: str, precision: str, task: str, content: str, limit: int
) -> list[EncodedExample]:
    """The test texts in tokens, kept for the other runs that show nothing before them."""
    return encoding.encode(backbones.held(backbone, precision), _task(task, content).test(limit))


def _result(
    hits: NDArray[Any], flops_per_query: float | None, train_flops: float | None, trained: int
) -> dict[str, Any]:
    return {
        "score": float(hits.mean()),
        "hits": packed(hits),
        "examples": len(hits),
        "flops_per_query": flops_per_query,
        "train_flops": train_flops,
        "trainable_params": trained,
    }


def packed(hits: NDArray[Any]) -> str:
    """(texts,) right or wrong, as hexadecimal digits: four texts each, the first one highest."""
    return np.packbits(hits.astype(bool)).tobytes().hex()


def unpacked(hits: str, examples: int) -> NDArray[np.bool_]:
    """(examples,) right or wrong, of what `packed` made."""
    bits = np.frombuffer(bytes.fromhex(hits), dtype=np.uint8)
    return np.unpackbits(bits, count=examples).astype(bool)


def records(store: runs.Store, wanted: Sequence[runs.RunSpec]) -> list[dict[str, Any]]:
    """The runs that are done, as `data/results/table1.csv` keeps them, sorted.

    A run of a prompted way is two rows: as it is, and calibrated.
    """
    machine, found = presets.machine(), []
    for spec in wanted:
        if not store.done(spec.id):
            continue
        took, result = store.machine(spec.id), store.result(spec.id)
        other = result.pop("calibrated", None)
        about = {
            "shots": spec.params["shots"],
            "lr": spec.params["recipe"].get("lr"),
            "seconds": round(took["seconds"], 2),
            "precision": spec.params["precision"],
            "backbone": spec.params["backbone"],
            "preset": spec.preset,
            "date": took["started"][:10],
            "machine": machine,
            "versions": spec.inputs["versions"],
            "spec": spec.id,
        }
        named = {k: spec.params[k] for k in ("task", "way", "draw")}
        for suffix, of in (("", result), (CALIBRATED, other)):
            if of:
                accuracy = {"accuracy": of.pop("score")}
                found.append({**named, "way": named["way"] + suffix, **accuracy, **of, **about})
    return sorted(found, key=lambda row: [row[k] for k in ("task", "way", "precision", "draw")])
