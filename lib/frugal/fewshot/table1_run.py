"""A run of a plan of Table 1's kind: one way on one task, with one draw of labels.

All runs of a task answer the same test texts, and keep which of them they got right, so that any
two ways are compared text by text (`table1_record`).
"""

import functools
import random
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from frugal import stats, tasks
from frugal.costs import flops
from frugal.encoders import classifier, pairs
from frugal.engine import backbones, digests, runs
from frugal.engine.backbones import Backbone
from frugal.fewshot import calibration, encoding, evaluate, icl, packing, studies
from frugal.fewshot.encoding import EncodedExample
from frugal.fewshot.tfew import Recipe
from frugal.tasks import Example, Task

JOB = "table1.score"
CONTEXT = ("pool", "nearest", "swapped", "reordered")  # of a way: which shots a query is shown


def inputs(backbone: str, task: str, encoder: str = "", **_: Any) -> dict[str, str]:
    """What a run reads beside its params, and the libraries that compute it."""
    return {
        "backbone": digests.backbone(backbone),
        "task": tasks.content(task),
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers")),
        **({"encoder": digests.backbone(encoder)} if encoder else {}),
    }


def score_flops(**params: Any) -> float:
    """FLOPs of `score`: of a training and of all queries, shots read once for all of them."""
    return Asked(**params).flops()


@runs.job(JOB, inputs=inputs, flops=score_flops)
def score(**params: Any) -> dict[str, Any]:
    """Answer the test texts of a task in one way, after one draw of labels; `Asked` has the params.

    `hits` are `stats.packed`. `flops_per_query` is of one query alone, with its shots and
    nothing cached; `train_flops` of all that is done once, before the first query. Of a prompted
    way also what it is when `calibrated`.
    """
    return Asked(**params).result()


@dataclass(frozen=True)
class Asked:
    """What a run is asked to do.

    way:   what this is called; kind: "prompt", "nearest", "tune" or "head", the latter two with a
        recipe
    shots: solved examples in the prompt, or labels to learn from; draw: which ones
    limit: test texts
    context: of CONTEXT, what is set; encoder: that tells which texts are alike
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
    context: dict[str, Any] = field(default_factory=dict)
    encoder: str = ""

    @property
    def _model(self) -> Backbone:
        return backbones.held(self.backbone, self.precision)

    @property
    def _source(self) -> Task:
        return _task(self.task, tasks.content(self.task))

    @property
    def _drawn(self) -> list[Example]:
        if self.context.get("reordered"):
            order = random.Random(self.draw).sample(range(self.shots), self.shots)
            drawn = self._source.draw(self.shots, 0)
            return [drawn[i] for i in order]
        drawn = self._source.draw(max(self.shots, self.context.get("pool", 0)), self.draw)
        return studies.swapped(drawn) if self.context.get("swapped") else drawn

    @property
    def _texts(self) -> list[Example]:
        return self._source.test(self.limit)

    @property
    def _queries(self) -> list[EncodedExample]:
        """The test texts in tokens, nothing shown before them."""
        content = tasks.content(self.task)
        return _encoded(self.backbone, self.precision, self.task, content, self.limit)

    def result(self) -> dict[str, Any]:
        """See `score`."""
        by = {"prompt": self._prompted, "nearest": self._by_likeness}
        return (by | {"tune": self._tuned, "head": self._head})[self.kind]()

    def flops(self) -> float:
        """See `score_flops`."""
        if self.kind == "head":
            how, outputs, texts, asked = self._for_head()
            return classifier.planned_flops(self._model, outputs, "head", how, texts, asked)
        if self.kind == "prompt":
            return self._prompted_flops()
        if self.kind == "nearest":
            prompts = self._own_prompts(self._like())
            cost = evaluate.query_flops(self._model, prompts)
            return len(prompts) * evaluate.counted(cost, self.backbone)
        training = evaluate.training_flops(self._model, *self._training())
        query = evaluate.query_flops(self._model, self._queries)
        each = (evaluate.counted(flops, self.backbone) for flops in (training, query))
        return next(each) + len(self._queries) * next(each)

    def _prompted(self) -> dict[str, Any]:
        """Both as it is and calibrated: the queries are scored once."""
        blank, places = calibration.once(self._source.content_free(self.limit))
        queries, drawn = self._queries, self._drawn
        if drawn:
            queries = encoding.encode(self._model, icl.prompted(self._texts, drawn))
        free = encoding.encode(self._model, icl.prompted(blank, drawn))
        # Together, since the shots are then read once for all of them.
        _, scores = evaluate.rank(self._model, self._source, [*queries, *free])
        every = scores.table(scores.mean_logp)
        beta, prior = every[: len(queries)], every[len(queries) :][places]
        labels = torch.tensor([e.label for e in queries])
        plain, other = (
            (values.argmax(dim=1) == labels).numpy()
            for values in (beta, calibration.calibrated(beta, prior))
        )
        each, more = (
            evaluate.query_flops(self._model, some, packed=scores.packed)
            for some in (queries, free)
        )
        if each is None or more is None:
            costs: tuple[float | None, float | None] = (None, None)
        elif len(blank) == 1:  # the prior is the same for all
            costs = (each, more)
        else:
            costs = (each + more, 0.0)
        return {**_result(plain, each, 0.0, 0), "calibrated": _result(other, *costs, 0)}

    def _like(self) -> Tensor:
        """(queries, pool) cosine of what the encoder makes of their texts."""
        reader = classifier.new(backbones.held(self.encoder, "float32"), 1, "head")
        read = [reader.states([e.prompt for e in some])[0] for some in (self._texts, self._drawn)]
        return F.normalize(read[0], dim=-1) @ F.normalize(read[1], dim=-1).T

    def _own_prompts(self, alike: Tensor) -> list[Example]:
        """Each query behind the shots that are chosen for it."""
        queries, pool, near = self._texts, self._drawn, self.context["nearest"]
        fixed = self.shots - near  # the first of the pool, for every query
        chosen = icl.nearest(alike[:, fixed:], near)
        return [
            icl.prompted([query], [*pool[:fixed], *(pool[fixed + i] for i in mine)])[0]
            for query, mine in zip(queries, chosen, strict=True)
        ]

    def _by_likeness(self) -> dict[str, Any]:
        """Each query behind its own shots. What the encoder reads costs a hundredth, left out."""
        asked = encoding.encode(self._model, self._own_prompts(self._like()))
        result, scores = evaluate.rank(self._model, self._source, asked)
        return _result(scores.hits.numpy(), result.flops_per_query, 0.0, 0)

    def _prompted_flops(self) -> float:
        if (shape := evaluate.architecture(self._model)) is None:
            return evaluate.counted(None, self.backbone)
        blank, _ = calibration.once(self._source.content_free(self.limit))
        free = encoding.encode(self._model, blank)
        context = icl.prompted(blank[:1], self._drawn)[0].prompt.removesuffix(blank[0].prompt)
        front = len(self._model.tokenizer(context)["input_ids"]) if context else 0
        cached = front if self._model.family == "causal" else 0
        before = flops.forward(shape, prompt_tokens=cached, logits_at=0) if cached else {}

        @functools.cache
        def cost(*sizes: tuple[str, Any]) -> int:
            fed = dict(sizes)
            fed["prompt_tokens"] += front - cached
            return sum(flops.forward(shape, **fed, context_tokens=cached).values())

        passes = (fed for e in (*self._queries, *free) for fed in packing.shapes(e))
        return float(sum(before.values()) + sum(cost(*fed.items()) for fed in passes))

    def _training(self) -> tuple[list[list[Example]], Recipe]:
        how = Recipe.of(self.recipe, {"seed": self.draw})
        return self._source.wordings(self.shots, self.draw, "first"), how

    def _tuned(self) -> dict[str, Any]:
        examples, how = self._training()
        found, scores, trained = evaluate.few_shot(
            self._model,
            self._source,
            examples,
            self._queries,  # type: ignore[arg-type]  # in tokens already
            how,
        )
        trained.tuned.detach()
        spent = found.train_flops, found.trainable_params
        return _result(scores.hits.numpy(), found.flops_per_query, *spent)

    def _for_head(self) -> tuple[classifier.Recipe, int, list[str], list[str]]:
        """Recipe, number of classes, and what is read in training and in scoring.

        Where all examples share their answers these are the classes, and a text is read; else it is
        read with each of its answers, which is wrong or right.
        """
        train, queries = self._drawn, self._texts
        shared = len({e.choices for e in (*train, *queries)}) == 1
        if shared:
            texts, asked = ([e.prompt for e in some] for some in (train, queries))
        else:
            texts, asked = map(pairs.texts, (train, queries))
        how = classifier.Recipe(**self.recipe, seed=self.draw)
        return how, len(train[0].choices) if shared else pairs.CLASSES, texts, asked

    def _head(self) -> dict[str, Any]:
        """A linear head on frozen states."""
        how, outputs, texts, asked = self._for_head()
        train, queries = self._drawn, self._texts
        shared = len(texts) == len(train)
        goals = torch.tensor([e.label for e in train]) if shared else pairs.goals(train)
        head = classifier.new(self._model, outputs, "head", seed=self.draw)
        fitted = classifier.fit(head, texts, goals, how)
        said, cost = head.outputs(asked)
        if not shared:
            said = pairs.table(said, queries)
        hits = said.argmax(dim=1) == torch.tensor([e.label for e in queries])
        trained = sum(p.numel() for p in head.trained().values())
        return _result(hits.numpy(), cost.flops / len(queries), fitted.cost.flops, trained)


@functools.lru_cache(maxsize=1)
def _task(name: str, content: str) -> Task:
    """Kept for the other runs of a task, until what it is made of changes."""
    return tasks.load(name)


@functools.lru_cache(maxsize=1)
def _encoded(
    backbone: str, precision: str, task: str, content: str, limit: int
) -> list[EncodedExample]:
    """The test texts in tokens, kept for the other runs that show nothing before them."""
    return encoding.encode(backbones.held(backbone, precision), _task(task, content).test(limit))


def _result(
    hits: NDArray[Any], flops_per_query: float | None, train_flops: float | None, trained: int
) -> dict[str, Any]:
    return {
        "score": float(hits.mean()),
        "hits": stats.packed(hits),
        "examples": len(hits),
        "flops_per_query": flops_per_query,
        "train_flops": train_flops,
        "trainable_params": trained,
    }
