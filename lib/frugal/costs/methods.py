"""What a fine-tuning method trains, as far as costs depend on it."""

from dataclasses import dataclass, replace

from frugal.costs import check
from frugal.costs.arch import Architecture
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


def trainable(arch: Architecture, method: str | Method) -> int:
    """Parameters that `method` trains on `arch`.

    (IA)^3: L_enc (d_k + d_v + d_ff) + L_dec (2 d_k + 2 d_v + d_ff), T-Few section 3.3.
    """
    m = get(method) if isinstance(method, str) else method
    if m.weights:
        return arch.params
    both, cross = arch.layers + arch.decoder_layers, arch.decoder_layers
    count = 0
    if m.scales:
        count += both * (2 * arch.d_kv + arch.d_ff) + cross * 2 * arch.d_kv
    if m.rank:  # B A of W (d_out, d_in): rank (d_in + d_out)
        d = arch.d_model
        attention = 2 * (d + arch.d_q) + 2 * (d + arch.d_kv)
        ffn = (3 if arch.gated else 2) * (d + arch.d_ff)
        count += m.rank * ((both + cross) * attention + both * ffn)
    if m.norms:
        count += arch.params_by_part["norms"]
    if m.head:
        parts = arch.params_by_part
        count += parts["pooler"] if arch.pooler else arch.vocabulary * arch.d_model
    return count
