"""In-context learning: the task is told by examples in the prompt, and nothing is trained."""

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from frugal.costs import arch, flops
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError
from frugal.fewshot import packing
from frugal.fewshot.encoding import EncodedExample
from frugal.tasks import Example


def prompted(
    queries: Sequence[Example],
    shots: Sequence[Example],
    *,
    order: Sequence[int] | None = None,
) -> list[Example]:
    """The queries, each with the solved `shots` in front of its prompt, blank lines between them.

    order: in which order the shots stand, as indices; by default as they come

    Raises FrugalError where `order` is not a permutation.
    Source: Brown et al. 2020, §2; the k-shot setting T-Few compares with (§4.2).
    """
    order = range(len(shots)) if order is None else order
    if sorted(order) != list(range(len(shots))):
        raise FrugalError(f"order: {list(order)} is not a permutation of {len(shots)} shots")
    solved = [f"{s.prompt}{s.choices[s.label]}\n\n" for s in shots]
    context = "".join(solved[i] for i in order)
    return [q.model_copy(update={"prompt": context + q.prompt}) for q in queries]


def nearest(alike: Tensor, count: int) -> list[list[int]]:
    """For each query the `count` texts that are most like it, the most like one last.

    alike: (queries, texts), higher for what is more alike; of equals the first is nearer

    Raises FrugalError where there are fewer texts. The last shot is the one a model reads last.
    Source: Liu et al. 2022 (What makes good in-context examples for GPT-3?), §3.
    """
    if not 0 <= count <= alike.shape[1]:
        raise FrugalError(f"nearest: {count} of {alike.shape[1]} texts")
    order = alike.argsort(dim=1, descending=True, stable=True)
    found: list[list[int]] = order[:, :count].flip(1).tolist()
    return found


def prefix(encoded: Sequence[EncodedExample]) -> int:
    """Tokens that all these prompts begin with, as the scorer finds them."""
    return packing.shared_prefix(encoded, uses=packing.PREFIX_SAVING + 1)


def behind(
    lm: Backbone, encoded: Sequence[EncodedExample], packed: bool = True
) -> tuple[float, float]:
    """Exact FLOPs of the prefix that all share, and of one query behind it, mean over them."""
    shape, front = arch.from_config(lm.model.config), prefix(encoded)
    kept = flops.forward(shape, prompt_tokens=front, logits_at=0) if front else {}
    each = []
    for e in encoded:
        cut = replace(e, sequences=[s[front:] for s in e.sequences], start=e.start - front)
        passes: list[dict[str, Any]] = [*packing.shapes(cut, packed)]
        fed = (flops.forward(shape, **sizes, context_tokens=front) for sizes in passes)
        each.append(sum(sum(parts.values()) for parts in fed))
    return float(sum(kept.values())), statistics.fmean(each)
