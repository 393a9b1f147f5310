"""One question about costs, and what answers it: in-context learning, zero-shot, fine-tuning.

A `Scenario` holds what is asked. The library, `frugal costs` and the explorer of chapter 1 take
their defaults from it (T-Few's own numbers), and what is nonsense is refused here, in one place.
"""

import math
from dataclasses import dataclass, replace
from datetime import date

from frugal import data
from frugal.costs import check, flops, memory, methods, prices, serving
from frugal.costs.arch import Architecture
from frugal.errors import FrugalError, unknown

COUNTS = ("paper", "exact")
TOKEN_BYTES = 4  # a token id on disk, as T-Few's table 1 counts (41 × 98 tokens: 16 kB)
# What T-Few counts with; every other file reads these from here.
TFEW = {row["name"]: row["value"] for row in data.rows("papers/tfew_settings.csv")}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is asked. FrugalError that names the field where a value is nonsense.

    arch:     the model that is asked, and tuned
    icl_arch: another one for in-context learning, in `compare` alone
    shots, example_tokens: labelled examples in front of a query, and the tokens of one
    query_tokens: of a query, and of an example that is trained on
    count:    "paper" (2N and 6N, or N and 3N, a token) or "exact" (by part)
    cached:   keys and values of the examples are there already, so that only the query is computed;
        refused for an encoder–decoder, whose encoder reads in both directions
    steps, batch, method: of a training; the papers' rule knows no method
    queries:  to answer; gpu: where, dtype: in which precision the weights and the cache are held
    mfu:      share of the GPU's peak that is reached: an assumption of yours, not of the paper
    usd_per_hour: of that GPU; its listed price unless given
    """

    arch: Architecture
    icl_arch: Architecture | None = None
    shots: int = int(TFEW["shots"])
    example_tokens: int = int(TFEW["example_tokens"])
    query_tokens: int = int(TFEW["query_tokens"])
    count: str = "paper"
    cached: bool = False
    steps: int = int(TFEW["steps"])
    batch: int = int(TFEW["batch"])
    method: str = "ia3"
    queries: int = 1000
    dtype: str = "bfloat16"
    gpu: str = TFEW["gpu"]
    mfu: float = 0.4
    usd_per_hour: float | None = None

    def __post_init__(self) -> None:
        if self.count not in COUNTS:
            raise unknown("count", self.count, COUNTS)
        check.whole("query_tokens", self.query_tokens, least=1)
        check.whole("batch", self.batch, least=1)
        for name in ("shots", "example_tokens", "steps", "queries"):
            check.whole(name, getattr(self, name))
        if self.shots and not self.example_tokens:
            raise FrugalError("example_tokens must be at least 1 where there are shots")
        reader = self.icl_arch or self.arch
        if self.cached and reader.kind != "decoder-only":
            raise FrugalError(
                f"cached: {reader.name} ({reader.kind}) has no prefix that could be cached"
            )
        methods.get(self.method)
        memory.dtype_bytes(self.dtype)
        memory.gpu(self.gpu)
        check.number("mfu", self.mfu, above=0, most=1)
        if self.usd_per_hour is not None:
            check.number("usd_per_hour", self.usd_per_hour, above=0)

    @property
    def context_tokens(self) -> int:
        """Tokens of all examples."""
        return self.shots * self.example_tokens

    def query_flops(self) -> int:
        """FLOPs of one query to `arch`. The exact count reads one position's logits."""
        if self.count == "exact":
            return sum(self.query_parts().values())
        fed = self.query_tokens + (0 if self.cached else self.context_tokens)
        return flops.paper_forward(self.arch, fed)

    def query_parts(self) -> flops.Parts:
        """Exact FLOPs of one query by part, whatever `count` says."""
        behind = self.context_tokens if self.cached else 0
        return flops.forward(
            self.arch,
            prompt_tokens=self.query_tokens + self.context_tokens - behind,
            context_tokens=behind,
            logits_at=None if self.arch.kind == "encoder-only" else 1,
        )

    def prefix_flops(self) -> int:
        """FLOPs of computing the examples' cache once."""
        if not self.context_tokens:
            return 0
        if self.count == "paper":
            return flops.paper_forward(self.arch, self.context_tokens)
        parts = flops.forward(self.arch, prompt_tokens=self.context_tokens, logits_at=0)
        return sum(parts.values())

    def train_flops(self) -> int:
        """FLOPs of the training.

        The exact count computes logits at every token of a decoder-only model; an
        encoder–decoder's decoder is fed its start token.
        """
        if self.count == "paper":
            return flops.paper_train(self.arch, self.steps * self.batch * self.query_tokens)
        step = flops.train_step(
            self.arch, prompt_tokens=self.query_tokens, batch=self.batch, method=self.method
        )
        return self.steps * sum(step.values())

    def through(
        self, model: str, output_tokens: int = 0, today: date | None = None
    ) -> serving.ApiQuery:
        """The same query to `model` behind an API, at its prices of a day for so long a prompt."""
        price = prices.api(model, self.context_tokens + self.query_tokens, today)
        return serving.ApiQuery(
            price=price,
            prefix_tokens=self.context_tokens,
            query_tokens=self.query_tokens,
            output_tokens=output_tokens,
        )

    def own_gpu(self) -> serving.OwnGpu:
        """The tuned model on one's own GPU: its queries have no examples in front of them."""
        tuned = replace(self, icl_arch=None, shots=0, cached=False)
        return serving.OwnGpu(
            gpu=self.gpu,
            usd_per_hour=self._rate(),
            mfu=self.mfu,
            hours_per_query=self._hours(tuned.query_flops()),
            training_usd=self._hours(tuned.train_flops()) * self._rate(),
        )

    def _hours(self, operations: float) -> float:
        peak = memory.gpu(self.gpu).peak_flops
        return hours(operations, peak_flops=peak, mfu=self.mfu)

    def _rate(self) -> float:
        """USD of an hour of the GPU."""
        rate = self.usd_per_hour
        return prices.get("gpu", self.gpu).usd if rate is None else rate

    def compare(self) -> list["Option"]:
        """Zero-shot, k-shot ICL (plain, ensemble, cached), T-Few and full fine-tuning.

        Fine-tuning and zero-shot use `arch`, in-context learning `icl_arch`. `cached` changes
        nothing: where examples can be cached, both ways are there.
        """
        icl = replace(self, arch=self.icl_arch or self.arch, icl_arch=None, cached=False)
        zero = replace(self, icl_arch=None, shots=0, cached=False)
        single = replace(icl, shots=min(self.shots, 1))
        examples_disk = TOKEN_BYTES * self.context_tokens
        ensemble = max(self.shots, 1) * single.query_flops()
        found = [
            zero._option("zero-shot", icl),
            icl._option("icl", icl, disk=examples_disk),
            single._option("icl-ensemble", icl, disk=examples_disk, query=ensemble),
        ]
        if icl.arch.kind == "decoder-only":
            cached = replace(icl, cached=True)
            prefix = icl.prefix_flops()
            found.append(cached._option("icl-cached", icl, disk=examples_disk, prefix=prefix))
        for name, method in (("t-few", self.method), ("full", "full")):
            tuned = replace(zero, method=method)
            disk = memory.adapter(self.arch, method, "float32")
            found.append(tuned._option(name, icl, disk=disk, train=tuned.train_flops()))
        return found

    def _option(
        self,
        name: str,
        icl: "Scenario",
        *,
        disk: int = 0,
        query: int | None = None,
        train: int = 0,
        prefix: int = 0,
    ) -> "Option":
        """This way of answering beside k-shot `icl`."""
        each = self.query_flops() if query is None else query
        everything = train + prefix + self.queries * each
        took = self._hours(everything)
        held = memory.weights(self.arch, self.dtype)
        if self.arch.kind == "decoder-only":
            tokens = self.context_tokens + self.query_tokens
            held += memory.kv_cache(self.arch, tokens, dtype=self.dtype)
        return Option(
            name=name,
            train_flops=train,
            prefix_flops=prefix,
            query_flops=each,
            flops=everything,
            hours=took,
            usd=took * self._rate(),
            memory_bytes=held,
            fits_on=memory.fits_on(held),
            disk_bytes=disk,
            break_even=break_even(train + prefix, each, 0, icl.query_flops()),
        )


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
    given = {"once": once, "per_query": per_query}
    given |= {"other_once": other_once, "other_per_query": other_per_query}
    for name, value in given.items():
        check.number(name, value)
    if once <= other_once:
        return 0
    saved = other_per_query - per_query
    return math.ceil((once - other_once) / saved) if saved > 0 else None
