"""Answers that a model writes, token by token, instead of ranking the choices.

Ranking always answers with one of the choices. What is written may be none of them, so it is right
only where it is the right choice: exact match, on tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from frugal import stats
from frugal.engine import stderr
from frugal.engine.backbones import Backbone
from frugal.fewshot import encoding, evaluate, tfew
from frugal.fewshot.choices import ChoiceScores
from frugal.fewshot.encoding import EncodedExample
from frugal.tasks import Example, Task


@dataclass(frozen=True)
class Written:
    """What a model wrote behind a prompt.

    text: as far as the longest choice goes, and two tokens more; choice: which one it begins with,
    the longest that fits, or None; right: whether that is the label
    """

    text: str
    choice: int | None
    right: bool


def written(
    backbone: Backbone, examples: Sequence[Example] | Sequence[EncodedExample]
) -> list[Written]:
    """The most likely token behind each prompt, again and again (greedy decoding).

    Causal LMs and encoder–decoders, tuned or not. A choice of an encoder–decoder ends with the end
    of text; that of a causal LM, which is never trained to end, may go on.
    """
    found, model = [], backbone.model
    with torch.inference_mode(), stderr.bar(len(examples), "examples") as shown:
        for encoded in encoding.encode(backbone, examples):
            own = [tuple(s[encoded.start :]) for s in encoded.sequences]
            before = torch.tensor([encoded.sequences[0][: encoded.start]], device=backbone.device)
            inputs = {"input_ids": before}
            if backbone.family == "encoder-decoder":
                read = torch.tensor([list(encoded.read)], device=backbone.device)
                inputs = {"input_ids": read, "decoder_input_ids": before}
            ids = model.generate(
                **inputs,
                attention_mask=torch.ones_like(inputs["input_ids"]),
                generation_config=_greedy(backbone, max(map(len, own)) + 2),
            )
            told = tuple(ids[0, encoded.start :].tolist())
            fits = [i for i, choice in enumerate(own) if told[: len(choice)] == choice]
            choice = max(fits, key=lambda i: len(own[i]), default=None)
            text = backbone.tokenizer.decode(told, skip_special_tokens=True)
            found.append(Written(text, choice, choice == encoded.label))
            shown(len(found))
    return found


def hits(answers: Sequence[Written]) -> NDArray[np.bool_]:
    """(examples,) which were written rightly, as `stats.compare` takes them."""
    return np.array([answer.right for answer in answers])


def _greedy(backbone: Backbone, tokens: int) -> GenerationConfig:
    """So many tokens, whatever a model's own file says of penalties and samples."""
    config, tokenizer = backbone.model.config, backbone.tokenizer
    ends = config.eos_token_id
    pad = tokenizer.pad_token_id
    return GenerationConfig(
        max_new_tokens=tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=ends,
        pad_token_id=pad if pad is not None else (ends[0] if isinstance(ends, list) else ends),
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
    )


def beside_ranking(
    backbone: Backbone, task: Task, *, labels: int, limit: int | None, recipe: tfew.Recipe
) -> pd.DataFrame:
    """The same test texts ranked and written, before and after T-Few; a row each.

    Columns: task, way ("zero-shot", "T-Few"), ranked and written (accuracies), none (the share of
    what is written that is no choice), difference (`stats.Difference`, written less ranked, over
    texts, for these labels), for example (what was written first). The model is what it was before.
    """
    queries = task.test(limit, shots=labels, seed=recipe.seed)
    rows = []

    def add(way: str, ranked: ChoiceScores) -> None:
        told = written(backbone, queries)
        by_rank, by_hand = ranked.hits.numpy(), hits(told)
        rows.append(
            {
                "task": task.name,
                "way": way,
                "ranked": by_rank.mean(),
                "written": by_hand.mean(),
                "none": sum(answer.choice is None for answer in told) / len(told),
                "difference": stats.compare(by_hand, by_rank),
                "for example": told[0].text.strip(),
            }
        )

    add("zero-shot", evaluate.rank(backbone, task, queries)[1])
    examples = task.wordings(labels, recipe.seed, "first")
    _, ranked, trained = evaluate.few_shot(backbone, task, examples, queries, recipe)
    try:
        add("T-Few", ranked)
    finally:
        trained.tuned.detach()
    return pd.DataFrame(rows)
