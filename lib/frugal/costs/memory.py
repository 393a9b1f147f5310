"""Bytes: weights, gradients, optimiser state, activations, K/V caches, adapters on disk.

Everything is in bytes. GB is 1e9 bytes and GiB 2**30; GPUs are sold in GiB.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from frugal import data
from frugal.costs import check, flops, methods
from frugal.costs.arch import Architecture
from frugal.costs.methods import Method
from frugal.errors import FrugalError, unknown

DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
OPTIMIZERS = ("adamw", "adafactor", "sgd")
GB, GIB = 10**9, 2**30


def dtype_bytes(dtype: str) -> int:
    """Bytes of one number; FrugalError for a dtype that is not in DTYPES."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return DTYPES[dtype]


def weights(arch: Architecture, dtype: str = "float32") -> int:
    """Bytes of all parameters."""
    return arch.params * dtype_bytes(dtype)


def kv_cache(
    arch: Architecture,
    tokens: int,
    *,
    source_tokens: int = 0,
    dtype: str = "float32",
    batch: int = 1,
) -> int:
    """Bytes of the keys *and* the values of `tokens` tokens in every layer of the decoder.

    Grouped-query attention keeps `kv_heads` heads, not `heads`. An encoder–decoder also keeps the
    keys and values of cross-attention, over `source_tokens` that the encoder has read. T-Few's
    "over 144 GB" is 32 × 512 tokens of GPT-3 175B in float32: 144.0 GiB.
    """
    if arch.kind == "encoder-only":
        raise FrugalError(f"tokens: {arch.name} is an encoder and keeps no K/V cache")
    if source_tokens and not arch.decoder_layers:
        raise FrugalError(f"source_tokens: {arch.name} has no cross-attention")
    cached = check.whole("tokens", tokens) + check.whole("source_tokens", source_tokens)
    arch.check_cached(tokens)
    layers = arch.decoder_layers or arch.layers
    numbers = 2 * layers * arch.d_kv * cached  # K and V
    return numbers * dtype_bytes(dtype) * check.whole("batch", batch, least=1)


def adapter(arch: Architecture, method: str | Method, dtype: str = "float32") -> int:
    """Bytes on disk of what `method` trained, without the file's own header."""
    return methods.trainable(arch, method) * dtype_bytes(dtype)


def optimizer_state(arch: Architecture, method: str | Method, optimizer: str = "adamw") -> int:
    """Bytes of what the optimiser remembers, in float32.

    AdamW: two moments of every trained parameter. Adafactor without momentum: one number per row
    and one per column of a matrix, the whole of a vector (Shazeer & Stern 2018, algorithm 4).
    """
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if optimizer == "sgd":
        return 0
    trained = methods.tensors(arch, method)
    if optimizer == "adamw":
        numbers = sum(2 * count * math.prod(shape) for _, count, shape in trained)
    else:
        numbers = sum(count * sum(shape) for _, count, shape in trained)
    return numbers * DTYPES["float32"]


@dataclass(frozen=True)
class Band:
    """What cannot be known better than this: between `low` and `high` bytes."""

    low: int
    high: int


def activations(
    arch: Architecture,
    *,
    prompt_tokens: int,
    target_tokens: int | None = None,
    logits_at: int | None = None,
    batch: int = 1,
    dtype: str = "float32",
) -> Band:
    """Bytes kept for the backward pass under eager attention, nothing recomputed.

    The low end is a frozen model, which keeps no inputs of weights; the high end full fine-tuning
    with dropout. Per token and layer 5 to 14 numbers for each of d_model, 1 to 5 for each of d_ff
    (gated: 2 to 9), and 1 to 4 for each pair of attention: what transformers' T5, Llama, GPT-2 and
    BERT were found to keep.
    """
    prompt, target, logits, _ = flops.shape(arch, prompt_tokens, target_tokens, logits_at, 0)
    read = prompt if arch.decoder_layers else prompt + target
    numbers = []
    for per_model, per_ff, per_pair, per_logit in (
        (5, 2 if arch.gated else 1, 1, 1),
        (14, 9 if arch.gated else 5, 4, 4),
    ):
        token = per_model * arch.d_model + per_ff * arch.d_ff
        total = arch.layers * (read * token + per_pair * arch.heads * read * read)
        pairs = target * (target + read)
        cross = 2 * read * arch.d_kv + per_model * target * arch.d_model // 2
        total += arch.decoder_layers * (target * token + per_pair * arch.heads * pairs + cross)
        total += per_logit * logits * arch.vocabulary
        numbers.append(total * dtype_bytes(dtype) * check.whole("batch", batch, least=1))
    return Band(*numbers)


def training(
    arch: Architecture,
    *,
    prompt_tokens: int,
    target_tokens: int | None = None,
    logits_at: int | None = None,
    batch: int = 1,
    method: str | Method = "full",
    optimizer: str = "adamw",
    dtype: str = "float32",
) -> dict[str, Band]:
    """Bytes while training, by part: weights, gradients, optimiser, activations.

    Weights (adapter included), gradients and activations in `dtype`, the optimiser in float32.
    Not counted: the framework's own context, fragmentation, and float32 master weights.
    """
    chosen = methods.get(method) if isinstance(method, str) else method
    trained = adapter(arch, chosen, dtype)
    added = 0 if chosen.weights or chosen.norms or chosen.head else trained
    state = optimizer_state(arch, chosen, optimizer)
    held = weights(arch, dtype) + added
    return {
        "weights": Band(held, held),
        "gradients": Band(trained, trained),
        "optimizer": Band(state, state),
        "activations": activations(
            arch,
            prompt_tokens=prompt_tokens,
            target_tokens=target_tokens,
            logits_at=logits_at,
            batch=batch,
            dtype=dtype,
        ),
    }


def total(parts: dict[str, Band]) -> Band:
    """The sum of all parts."""
    return Band(sum(b.low for b in parts.values()), sum(b.high for b in parts.values()))


@dataclass(frozen=True)
class Gpu:
    """One accelerator: memory in GiB, peak FLOP/s of dense half-precision matrix products."""

    name: str
    memory_gib: float
    peak_flops: float
    state: str
    source: str


@lru_cache
def gpus() -> dict[str, Gpu]:
    """The accelerators of `data/gpus.csv`, smallest memory first."""
    return {
        row["name"]: Gpu(
            row["name"],
            float(row["memory_gib"]),
            float(row["peak_flops"]),
            row["state"],
            row["source"],
        )
        for row in data.rows("gpus.csv")
    }


def gpu(name: str) -> Gpu:
    """The accelerator called `name`; FrugalError with the nearest name where there is none."""
    if name not in gpus():
        raise unknown("gpu", name, gpus())
    return gpus()[name]


def fits_on(needed: int) -> list[str]:
    """Names of the accelerators whose whole memory holds `needed` bytes."""
    check.whole("needed", needed)
    return [g.name for g in gpus().values() if needed <= g.memory_gib * GIB]


def largest_shots(
    arch: Architecture, limit: int, *, example_tokens: int, query_tokens: int, dtype: str
) -> int:
    """The most shots whose cache lies beside the weights in `limit` bytes; 0 if none does."""
    check.whole("limit", limit)
    check.whole("example_tokens", example_tokens, least=1)
    room = limit - weights(arch, dtype) - kv_cache(arch, query_tokens, dtype=dtype)
    shots = max(0, room // kv_cache(arch, example_tokens, dtype=dtype))
    arch.check_cached(query_tokens + shots * example_tokens)
    return shots
