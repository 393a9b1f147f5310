"""What a fine-tuning method trains, as far as costs depend on it."""

import math
from dataclasses import dataclass, replace

from frugal.costs import check
from frugal.costs.arch import Architecture, Tensors
from frugal.errors import FrugalError, unknown


@dataclass(frozen=True)
class Method:
    """What is trained.

    weights: every weight, embeddings included
    scales:  (IA)^3's vectors l_k, l_v, l_ff behind W_k, W_v and the activation
    rank:    of a LoRA pair beside every matrix of attention and feed-forward; 0 for none
    norms:   the scales (and shifts) of all norms
    head:    the output projection alone, or an encoder's pooler
    """

    name: str
    weights: bool = False
    scales: bool = False
    rank: int = 0
    norms: bool = False
    head: bool = False

    @property
    def trains_norms(self) -> bool:
        return self.weights or self.norms


METHODS = {
    m.name: m
    for m in (
        Method("full", weights=True),
        Method("ia3", scales=True),
        Method("lora", rank=4),  # rank 4 is T-Few's, appendix D
        Method("layernorm", norms=True),
        Method("head", head=True),
    )
}
FROZEN = Method("frozen")


def get(name: str, *, rank: int | None = None) -> Method:
    """The method called `name`; `rank` replaces LoRA's own."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    method = METHODS[name]
    if rank is None:
        return method
    if not method.rank:
        raise FrugalError(f"rank belongs to lora; method {name!r} has none")
    return replace(method, rank=check.whole("rank", rank, least=1))


def tensors(arch: Architecture, method: str | Method) -> list[Tensors]:
    """What `method` trains on `arch`: (part, how many, shape), as `Architecture.tensors`."""
    m = get(method) if isinstance(method, str) else method
    own = arch.tensors()
    if m.weights:
        return own
    both, cross = arch.layers + arch.decoder_layers, arch.decoder_layers
    found: list[Tensors] = []
    if m.scales:
        # L_enc (d_k + d_v + d_ff) + L_dec (2 d_k + 2 d_v + d_ff), T-Few section 3.3
        found += [("ia3/k", both + cross, (arch.d_kv,)), ("ia3/v", both + cross, (arch.d_kv,))]
        found += [("ia3/ff", both, (arch.d_ff,))]
    if m.rank:  # W + B A for every matrix of attention and feed-forward
        matrices = [t for t in own if "/" in t[0] and len(t[2]) == 2]
        for part, count, (rows, columns) in (
            t for t in matrices if not t[0].startswith("embedding")
        ):
            found += [(f"lora/{part}", count, (rows, m.rank))]
            found += [(f"lora/{part}", count, (m.rank, columns))]
    if m.norms:
        found += [t for t in own if t[0] == "norms"]
    if m.head:
        pooler = [t for t in own if t[0] == "pooler" and not arch.decoder_layers]
        found += pooler or [("vocabulary", 1, (arch.vocabulary, arch.d_model))]
    return found


def trainable(arch: Architecture, method: str | Method) -> int:
    """Parameters that `method` trains on `arch`."""
    return sum(count * math.prod(shape) for _, count, shape in tensors(arch, method))
