"""The ways of the language model: asked as it is, shown solved examples, or tuned.

Each gives the trials that it makes; the model is then what it was before.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import torch

from frugal.choice.trials import Attempt, Trial
from frugal.fewshot import calibration, encoding, evaluate, icl, tfew
from frugal.fewshot.choices import ChoiceScores
from frugal.tasks import Example
from frugal.tasks.templates import CONTENT_FREE

ICL_TOKENS = 1500  # of solved examples in a prompt; more take minutes on two cores
MANY_TOKENS = 2048  # where they are read once: a query then costs up to half as much again


def zero_shot(of: Attempt) -> Iterator[Trial]:
    """The model as it is ("zero-shot"), and less its prior ("zero-shot-calibrated")."""
    of.progress("zero-shot")
    result, scores = evaluate.rank(of.lm, of.task, of.encoded)
    plain = ranked("zero-shot", result, scores)
    yield plain
    of.progress("zero-shot, calibrated")
    blank, places = calibration.once(content_free(of.scored))
    asked, free = evaluate.rank(of.lm, of.task, blank)
    prior = free.table(free.mean_logp)[places]
    found = calibration.calibrated(scores.table(scores.mean_logp), prior).argmax(dim=1)
    hits = (found == torch.tensor([e.label for e in of.scored])).numpy()
    once, each = evaluate.counted(asked.flops_per_query, asked.backbone), 0.0
    if len({frozenset(e.choices) for e in blank}) > 1:  # each query has a prior of its own
        every = evaluate.query_flops(of.lm, [blank[i] for i in places], packed=free.packed)
        once, each = 0.0, evaluate.counted(every, asked.backbone)
    yield replace(
        plain,
        strategy="zero-shot-calibrated",
        hits=hits,
        train_flops=once,
        flops_per_query=plain.flops_per_query + each,
        seconds=plain.seconds + asked.seconds,
        note=f"less what the choices score behind {blank[0].prompt!r:.80}",
    )


def content_free(examples: Sequence[Example]) -> list[Example]:
    """The examples in prompts that say nothing of them: "N/A" between what all prompts share.

    What all share, by whole words, tells no two of them apart, whoever wrote the file; a template
    need not be known. Where all prompts are one, that is "N/A" alone.
    """
    prompts = [e.prompt for e in examples]
    front = back = ""
    if len(set(prompts)) > 1:
        front = _shared(prompts)
        back = _shared([p[len(front) :][::-1] for p in prompts])[::-1]
    prompt = re.sub(r"\S+\Z", "", front) + CONTENT_FREE + re.sub(r"\A\S+", "", back)
    return [e.model_copy(update={"prompt": prompt}) for e in examples]


def _shared(texts: Sequence[str]) -> str:
    """What all begin with."""
    return texts[0][: encoding.common([[*map(ord, text)] for text in texts])]


def shown(of: Attempt) -> list[Trial]:
    """Solved examples in the prompt, which every query computes again ("icl")."""
    k = fitting(of, of.ways.icl_shots, ICL_TOKENS)
    of.progress(f"in-context learning, {k} shots")
    asked = evaluate.rank(of.lm, of.task, of.scored, of.shots[:k])
    return [ranked("icl", *asked, f"{k} shots, computed again at every query")]


def many(of: Attempt) -> list[Trial]:
    """As many solved examples as there is room for, computed once and kept ("icl-many").

    `train_flops` are those of the kept part, `flops_per_query` of what stands behind it.
    """
    k = fitting(of, len(of.shots), MANY_TOKENS)
    of.progress(f"in-context learning, {k} shots in a cached prefix")
    encoded = encoding.encode(of.lm, icl.prompted(of.scored, of.shots[:k]))
    result, scores = evaluate.rank(of.lm, of.task, encoded)
    plain = ranked("icl-many", result, scores)
    kept, each = icl.behind(of.lm, encoded, scores.packed)
    note = (
        f"{k} shots, {icl.prefix(encoded):,} tokens that are computed once and kept for all queries"
    )
    return [replace(plain, labels=k, train_flops=kept, flops_per_query=each, note=note)]


def fitting(of: Attempt, most: int, tokens: int) -> int:
    """How many of the labelled examples, at most so many, a prompt holds beside any query."""

    def counted(examples: list[Example]) -> list[int]:
        texts = [e.prompt + max(e.choices, key=len) for e in examples]
        return [len(ids) + 2 for ids in of.lm.tokenizer(texts)["input_ids"]]  # a blank line

    room = min(tokens, (of.lm.max_tokens or math.inf) - max(counted(of.scored)))
    return sum(total <= room for total in accumulate(counted(of.shots[:most])))


def tuned(of: Attempt, strategy: str, recipe: tfew.Recipe) -> Trial:
    """The model with what the recipe's method added, which stays attached."""
    note = f"{recipe.method}, {recipe.steps} steps, rate {recipe.lr:g}"
    of.progress(f"{strategy}: {note}")
    trained, scores, _ = evaluate.few_shot(of.lm, of.task, of.shots, of.scored, recipe)
    return replace(
        ranked(strategy, trained, scores, note),
        train_flops=evaluate.counted(trained.train_flops, trained.backbone),
        seconds=trained.seconds + trained.train_seconds,
    )


def ranked(
    strategy: str, result: evaluate.RunResult, scores: ChoiceScores, note: str = ""
) -> Trial:
    """A way that ranked the choices, as it was asked."""
    name, hits = result.backbone, scores.hits.numpy()
    cost = evaluate.counted(result.flops_per_query, name)
    return Trial(strategy, name, hits, 0.0, cost, result.shots, result.seconds, note)
