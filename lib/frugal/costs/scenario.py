"""Ways to answer the same queries, side by side: in-context learning, zero-shot, fine-tuning.

Pure functions of their inputs: a slider may call them at every move.
"""

import math
from dataclasses import dataclass
from typing import Literal

from frugal.costs import check, flops, memory, methods, prices
from frugal.costs.arch import Architecture
from frugal.errors import FrugalError, unknown

Count = Literal["paper", "exact"]
COUNTS = ("paper", "exact")
TOKEN_BYTES = 4  # a token id on disk, as T-Few's table 1 counts (41 × 98 tokens: 16 kB)


def query_flops(
    arch: Architecture,
    *,
    query_tokens: int,
    shots: int = 0,
    example_tokens: int = 0,
    count: str = "paper",
    cached: bool = False,
) -> int:
    """FLOPs of one query behind `shots` examples. The exact count reads one position's logits.

    cached: keys and values of the examples are there already, so that only the query is computed.
    Raises FrugalError for that on an encoder–decoder: its encoder reads in both directions.
    """
    _known_count(count)
    query = check.whole("query_tokens", query_tokens, least=1)
    context = check.whole("shots", shots) * check.whole("example_tokens", example_tokens)
    if shots and not example_tokens:
        raise FrugalError("example_tokens must be at least 1 where there are shots")
    if cached and arch.kind != "decoder-only":
        raise FrugalError(f"cached: {arch.name} ({arch.kind}) has no prefix that could be cached")
    if count == "paper":
        return flops.paper_forward(arch, query if cached else context + query)
    return sum(query_parts(arch, query, context, cached).values())


def query_parts(
    arch: Architecture, query_tokens: int, context_tokens: int = 0, cached: bool = False
) -> flops.Parts:
    """Exact FLOPs of one query by part, as `query_flops` sums them."""
    logits = None if arch.kind == "encoder-only" else 1
    fed = query_tokens if cached else context_tokens + query_tokens
    behind = context_tokens if cached else 0
    return flops.forward(arch, prompt_tokens=fed, context_tokens=behind, logits_at=logits)


def by_use(parts: flops.Parts) -> flops.Parts:
    """A forward pass's `parts` by what they are for, stack by stack: "encoder: feed-forward", ….

    Projections are the products with W_q, W_k, W_v and W_o; scores those of two activations,
    Q K^T and softmax(…) V, which alone grow with the square of the length.
    """
    total: flops.Parts = {}
    for part, count in parts.items():
        names = part.split("/")
        stack = [names.pop(0)] if names[0] in ("encoder", "decoder") else []
        use = {"ffn": "feed-forward"}.get(names[0], names[0])
        if use.endswith("attention"):
            use += " scores" if names[1] in ("scores", "mix") else " projections"
        name = ": ".join([*stack, use])
        total[name] = total.get(name, 0) + count
    return total


def prefix_flops(
    arch: Architecture, *, shots: int, example_tokens: int, count: str = "paper"
) -> int:
    """FLOPs of computing the cache of `shots` examples once."""
    _known_count(count)
    tokens = check.whole("shots", shots) * check.whole("example_tokens", example_tokens)
    if not tokens:
        return 0
    if count == "paper":
        return flops.paper_forward(arch, tokens)
    return sum(flops.forward(arch, prompt_tokens=tokens, logits_at=0).values())


def train_flops(
    arch: Architecture,
    *,
    steps: int,
    batch: int,
    tokens: int,
    method: str = "full",
    count: str = "paper",
) -> int:
    """FLOPs of `steps` training steps on `batch` examples of `tokens` tokens each.

    The papers' rule knows no method: 3N or 6N a token. The exact count computes logits at every
    token of a decoder-only model; an encoder–decoder's decoder is fed its start token.
    """
    _known_count(count)
    chosen = methods.get(method)
    check.whole("steps", steps)
    check.whole("batch", batch, least=1)
    check.whole("tokens", tokens, least=1)
    if count == "paper":
        return flops.paper_train(arch, steps * batch * tokens)
    step = flops.train_step(arch, prompt_tokens=tokens, batch=batch, method=chosen)
    return steps * sum(step.values())


def hours(operations: float, *, peak_flops: float, mfu: float) -> float:
    """Hours on one device: FLOPs / (peak FLOP/s × MFU); 0 < mfu <= 1 is what the peak is worth."""
    check.number("mfu", mfu, above=0, most=1)
    check.number("peak_flops", peak_flops, above=0)
    return operations / (peak_flops * mfu * 3600)


def break_even(
    once: float, per_query: float, other_once: float, other_per_query: float
) -> int | None:
    """The first query count at which (once, per_query) has cost no more than the other way.

    None where it never catches up. Any unit, as long as all four share it.
    """
    for name, value in (("once", once), ("per_query", per_query)):
        check.number(name, value)
    for name, value in (("other_once", other_once), ("other_per_query", other_per_query)):
        check.number(name, value)
    if once <= other_once:
        return 0
    saved = other_per_query - per_query
    return math.ceil((once - other_once) / saved) if saved > 0 else None


@dataclass(frozen=True)
class Option:
    """One way to answer `queries` queries.

    train_flops, prefix_flops: spent once; query_flops: for each query; flops: all together
    hours, usd: of all of it on one GPU
    memory_bytes: weights and K/V cache while answering; fits_on: GPUs that hold this
    disk_bytes: what a task adds to the model: examples, an adapter, or a whole checkpoint
    break_even: queries after which it has cost no more FLOPs than k-shot ICL; None for never
    """

    name: str
    train_flops: int
    prefix_flops: int
    query_flops: int
    flops: int
    hours: float
    usd: float
    memory_bytes: int
    fits_on: list[str]
    disk_bytes: int
    break_even: int | None

    @property
    def once(self) -> int:
        """FLOPs spent before the first query."""
        return self.train_flops + self.prefix_flops

    def spent(self, queries: int) -> int:
        """FLOPs after `queries` queries."""
        return self.once + queries * self.query_flops

    def overtakes(self, other: "Option") -> int | None:
        """Queries after which this has cost no more FLOPs than `other`; None for never."""
        return break_even(self.once, self.query_flops, other.once, other.query_flops)


def compare(
    arch: Architecture,
    *,
    queries: int,
    shots: int = 41,
    example_tokens: int = 98,
    query_tokens: int = 103,
    icl_arch: Architecture | None = None,
    steps: int = 1000,
    batch: int = 8,
    method: str = "ia3",
    count: str = "paper",
    dtype: str = "bfloat16",
    gpu: str = "a100-80gb",
    mfu: float = 0.4,
    usd_per_hour: float | None = None,
) -> list[Option]:
    """Zero-shot, k-shot ICL (plain, cached, ensemble), T-Few and full fine-tuning, side by side.

    Fine-tuning and zero-shot use `arch`, in-context learning `icl_arch` (the same unless given).
    The defaults are T-Few's section 4.2; `mfu` is an assumption of yours, not of the paper.
    `usd_per_hour` defaults to the listed price of `gpu`. Raises FrugalError for nonsense.
    """
    check.whole("queries", queries)
    card, icl = memory.gpu(gpu), icl_arch or arch
    rate = prices.get("gpu", gpu).usd if usd_per_hour is None else usd_per_hour
    check.number("usd_per_hour", rate, above=0)
    zero = query_flops(arch, query_tokens=query_tokens, count=count)
    behind = {"shots": shots, "example_tokens": example_tokens, "count": count}
    plain = query_flops(icl, query_tokens=query_tokens, **behind)  # type: ignore[arg-type]
    single = query_flops(
        icl,
        query_tokens=query_tokens,
        shots=min(shots, 1),
        example_tokens=example_tokens,
        count=count,
    )

    def option(name: str, model: Architecture, per_query: int, disk: int, **spent: int) -> Option:
        train, prefix = spent.get("train", 0), spent.get("prefix", 0)
        everything = train + prefix + queries * per_query
        took = hours(everything, peak_flops=card.peak_flops, mfu=mfu)
        held = memory.weights(model, dtype)
        if model.kind == "decoder-only":
            held += memory.kv_cache(model, spent.get("tokens", query_tokens), dtype=dtype)
        return Option(
            name=name,
            train_flops=train,
            prefix_flops=prefix,
            query_flops=per_query,
            flops=everything,
            hours=took,
            usd=took * rate,
            memory_bytes=held,
            fits_on=memory.fits_on(held),
            disk_bytes=disk,
            break_even=break_even(train + prefix, per_query, 0, plain),
        )

    examples = shots * example_tokens
    examples_disk = TOKEN_BYTES * examples
    found = [
        option("zero-shot", arch, zero, 0),
        option("icl", icl, plain, examples_disk, tokens=examples + query_tokens),
        option(
            "icl-ensemble",
            icl,
            max(shots, 1) * single,
            examples_disk,
            tokens=min(shots, 1) * example_tokens + query_tokens,
        ),
    ]
    if icl.kind == "decoder-only":
        found.append(
            option(
                "icl-cached",
                icl,
                query_flops(icl, query_tokens=query_tokens, cached=True, **behind),  # type: ignore[arg-type]
                examples_disk,
                prefix=prefix_flops(icl, shots=shots, example_tokens=example_tokens, count=count),
                tokens=examples + query_tokens,
            )
        )
    for name, how in (("t-few", method), ("full", "full")):
        spent = train_flops(
            arch, steps=steps, batch=batch, tokens=query_tokens, method=how, count=count
        )
        disk = memory.adapter(arch, how, "float32")
        found.append(option(name, arch, zero, disk, train=spent))
    return found


def _known_count(count: str) -> None:
    if count not in COUNTS:
        raise unknown("count", count, COUNTS)
