"""The same FLOPs in seconds: a prompt read at once, behind a cache, or written token by token.

FLOPs do not know how often the weights are read from memory: a prefill reads them once for all of
its tokens, decoding reads them again for every token. What that costs can only be measured.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import torch

from frugal.costs import arch, check, flops
from frugal.costs.methods import FROZEN, Method
from frugal.engine import stderr
from frugal.engine.backbones import Backbone
from frugal.errors import FrugalError, unknown
from frugal.fewshot.passes import prefix_cache
from frugal.internals import DynamicCache, cache_named

Kind = Literal["prefill", "decode"]
KINDS = ("prefill", "decode")
Run = Callable[[], Any]


@dataclass(frozen=True)
class Work:
    """`batch` sequences of `tokens` tokens each.

    kind:    "prefill" feeds them at once and predicts after the last one; "decode" feeds one
             token a step, as generation does, and predicts after each
    context: tokens in front of a prefill whose K and V are cached already
    """

    batch: int
    tokens: int
    kind: Kind = "prefill"
    context: int = 0

    def __post_init__(self) -> None:
        check.whole("batch", self.batch, least=1)
        check.whole("tokens", self.tokens, least=1)
        check.whole("context", self.context)
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        if self.kind == "decode" and self.context:
            raise FrugalError("context: decoding is measured from an empty cache")

    def flops(self, shape: arch.Architecture, method: Method = FROZEN) -> int:
        """Exact FLOPs on `shape`; of a prefill also with a `method` attached."""
        sizes: dict[str, Any] = {"context_tokens": self.context, "batch": self.batch}
        if self.kind == "decode":
            return sum(flops.decode(shape, new_tokens=self.tokens, **sizes).values())
        fed: dict[str, Any] = {"prompt_tokens": self.tokens, "logits_at": 1, "method": method}
        return sum(flops.forward(shape, **fed, **sizes).values())


def splits(totals: Sequence[int], batches: Sequence[int], kind: Kind = "prefill") -> list[Work]:
    """Each total number of tokens as every batch size; FrugalError where it does not divide."""
    for total in totals:
        for batch in batches:
            if total % check.whole("batches", batch, least=1):
                raise FrugalError(f"batches: {batch} sequences cannot share {total} tokens evenly")
    return [Work(batch, total // batch, kind) for total in totals for batch in batches]


def prepare(backbone: Backbone, work: Work) -> Run:
    """A function that does `work` once; what it needs beforehand is made here.

    Raises FrugalError for a model that is not a causal LM, or a context it does not have.
    """
    if backbone.family != "causal":
        raise FrugalError(f"{backbone.name} is of the family {backbone.family}, not a causal LM")
    length, limit = work.context + work.tokens, backbone.max_tokens
    if limit is not None and length > limit:
        raise FrugalError(f"tokens: {length} do not fit {backbone.name}, which takes {limit}")
    model, generator = backbone.model, torch.Generator().manual_seed(0)

    def tokens(rows: int, columns: int) -> torch.Tensor:
        return torch.randint(model.config.vocab_size, (rows, columns), generator=generator)

    ids = tokens(work.batch, work.tokens).to(backbone.device)
    prefix: Any = None
    if work.context:
        with torch.inference_mode():
            prefix = prefix_cache(backbone, tokens(1, work.context)[0].tolist())

    def prefill() -> Any:
        behind = cache_named(model, prefix) if work.context else {}
        return model(ids, **behind, use_cache=bool(behind), logits_to_keep=1).logits

    def decode() -> Any:
        behind = cache_named(model, DynamicCache())
        for at in range(work.tokens):
            logits = model(ids[:, at : at + 1], **behind, use_cache=True).logits
        return logits

    return prefill if work.kind == "prefill" else decode


def measure(backbone: Backbone, works: Sequence[Work], repeats: int) -> pd.DataFrame:
    """Seconds of each of `works`, `repeats` times; a row a run, beside its exact FLOPs.

    Columns: kind, batch, tokens, context, flops, repeat, seconds. Every work runs once unmeasured;
    then the works take turns, so that a slow minute of the machine slows all of them.
    """
    check.whole("repeats", repeats, least=1)
    shape = arch.from_config(backbone.model.config)
    runs = [prepare(backbone, work) for work in works]
    records = []
    with torch.inference_mode():
        for repeat in stderr.each(range(-1, repeats), "rounds"):
            for work, run in zip(works, runs, strict=True):
                took = {"repeat": repeat, "seconds": seconds(run, backbone.device)}
                records.append({**vars(work), "flops": work.flops(shape), **took})
    return pd.DataFrame(records[len(works) :])


def medians(runs: pd.DataFrame) -> pd.DataFrame:
    """A row a work: FLOPs, the median of its seconds, their spread (slowest / fastest), FLOP/s."""
    by_work = runs.groupby(["kind", "batch", "tokens", "context"], sort=False)
    found = by_work.agg(flops=("flops", "first"), seconds=("seconds", "median"))
    found["spread"] = by_work["seconds"].max() / by_work["seconds"].min()
    found["flops_per_second"] = found["flops"] / found["seconds"]
    return found.reset_index()


def seconds(run: Run, device: torch.device) -> float:
    """How long `run` takes, all that it asks of an accelerator included."""
    _wait(device)
    started = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    """Until an accelerator has done what was asked of it."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
