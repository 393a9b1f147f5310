"""What a fine-tuning method trains, as far as costs depend on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from frugal.costs import check
from frugal.costs.arch import Architecture, Tensors
from frugal.errors import FrugalError, unknown

ROLES = ("q", "k", "v", "o", "up", "down")


@dataclass(frozen=True)
class Method:
    """What is trained.

    weights: every weight, embeddings included, or `share` of them (FISH), or all along
             `dimension` directions (SAID)
    scales:  (IA)^3's vectors, behind the projections `targets` or in front of o and down
    rank:    of a LoRA pair beside the projections `targets`; 0 for none
    norms:   the scales (and shifts) of all norms
    biases:  one behind each projection and in the norms of the layers; `down`: also behind that
    placement: of adapters, "pfeiffer" (feed-forward) or "houlsby" (self-attention too)
    size:    of an adapter's bottleneck, else d_model // reduction; n: of Compacter's products;
             shared: its n x n matrices are the same everywhere
    prefix, prompt: `tokens` keys and values in each attention, or embeddings in front of each
             stack; mlp: width of the network that makes a prefix, 0 for none
    head:    the output projection alone, or an encoder's pooler
    """

    name: str
    weights: bool = False
    share: float = 1.0
    dimension: int = 0
    scales: bool = False
    rank: int = 0
    targets: Sequence[str] = ROLES
    norms: bool = False
    biases: bool = False
    down: bool = True
    placement: str = ""
    size: int | None = None
    reduction: int = 32
    n: int = 0
    shared: bool = False
    prefix: bool = False
    prompt: bool = False
    tokens: int = 0
    mlp: int | None = None
    head: bool = False
    options: tuple[str, ...] = field(default=(), repr=False)  # what `get` may change

    @property
    def trains_norms(self) -> bool:
        return self.weights or self.norms

    def bottleneck(self, d_model: int) -> int:
        """Width of an adapter."""
        if self.size is not None:
            return self.size
        step = self.n or 1
        return max(step, d_model // self.reduction // step * step)


_ADAPTER = ("size", "reduction", "placement")
# Defaults are T-Few's (appendix D), as in `frugal.peft`, whose options these are.
METHODS = {
    m.name: m
    for m in (
        Method("full", weights=True),
        Method("fish", weights=True, share=0.002, options=("share",)),
        Method("said", weights=True, dimension=20_000, options=("dimension", "seed")),
        Method("layernorm", norms=True),
        Method("bitfit", biases=True, options=("down",)),
        Method("lora", rank=4, options=("rank", "alpha", "init", "targets")),
        Method("ia3", scales=True, targets=("k", "v", "down"), options=("targets",)),
        Method("adapter", placement="pfeiffer", options=_ADAPTER),
        Method("compacter", placement="houlsby", n=4, options=(*_ADAPTER, "n", "shared")),
        Method("compacter++", placement="pfeiffer", n=4, options=(*_ADAPTER, "n", "shared")),
        Method("prefix", prefix=True, tokens=2, options=("tokens", "mlp")),
        Method("prompt", prompt=True, tokens=10, options=("tokens",)),
        Method("head", head=True),
    )
}
FROZEN = Method("frozen")


def get(name: str, options: Mapping[str, Any] | None = None, *, rank: int | None = None) -> Method:
    """The method called `name`, with options as `frugal.peft.attach` takes them.

    Options that cost nothing (a seed, an initial value) change nothing here.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    method = METHODS[name]
    given = dict(options or {}) | ({} if rank is None else {"rank": rank})
    if "rank" in given and not method.rank:
        raise FrugalError(f"rank belongs to lora; method {name!r} has none")
    for option in given:
        if option not in method.options:
            raise unknown(f"option of {name!r}:", option, method.options or ("none",))
    for option in ("rank", "size", "reduction", "n", "tokens", "mlp", "dimension"):
        if given.get(option) is not None:
            check.whole(option, given[option], least=1)
    known = {f.name for f in fields(Method)}
    return replace(method, **{o: value for o, value in given.items() if o in known})


def role(part: str) -> str:
    """The role of a projection, from its part: "ffn/gate" and "ffn/up" are both "up"."""
    return "up" if part == "ffn/gate" else part.rpartition("/")[2]


def tensors(arch: Architecture, method: str | Method) -> list[Tensors]:
    """What `method` trains on `arch`: (part, how many, shape), as `Architecture.tensors`.

    A choice of weights (FISH, SAID) is one vector.
    """
    m = get(method) if isinstance(method, str) else method
    own = arch.tensors()
    if m.dimension:
        return [("said", 1, (m.dimension,))]
    if m.weights:
        return own if m.share == 1 else [("fish", 1, (int(m.share * arch.params),))]
    both, cross = arch.layers + arch.decoder_layers, arch.decoder_layers
    stacks = 2 if cross else 1
    d = arch.d_model
    found: list[Tensors] = []
    projections = [
        (part, count, shape)
        for part, count, shape in own
        if part.startswith(("attention/", "cross-attention/", "ffn/")) and len(shape) == 2
    ]
    for part, count, (rows, columns) in projections:
        if m.scales and role(part) in m.targets:
            # L_enc (d_k + d_v + d_ff) + L_dec (2 d_k + 2 d_v + d_ff), T-Few section 3.3
            in_front = role(part) in ("o", "down")
            found += [(f"ia3/{part}", count, (columns if in_front else rows,))]
        if m.rank and role(part) in m.targets:  # W + B A
            found += [(f"lora/{part}", count, (rows, m.rank))]
            found += [(f"lora/{part}", count, (m.rank, columns))]
        if m.biases and (m.down or role(part) != "down"):
            found += [(f"bias/{part}", count, (rows,))]
    if m.biases:
        found += [(f"bias/{part}", count, shape) for part, count, shape in arch.norm_shifts()]
    if m.placement:
        found += _adapters(m, d, both * (2 if m.placement == "houlsby" else 1))
    if m.prefix:
        keys = ("prefix", 2 * (both + cross), (m.tokens, arch.d_kv))
        found += [keys] if m.mlp is None else _network(arch, m.tokens, m.mlp)
    if m.prompt:
        found += [("prompt", stacks, (m.tokens, d))]
    if m.norms:
        found += [t for t in own if t[0] == "norms"]
    if m.head:
        pooler = [t for t in own if t[0] == "pooler" and not arch.decoder_layers]
        found += pooler or [("vocabulary", 1, (arch.vocabulary, d))]
    return found


def _adapters(m: Method, d: int, count: int) -> list[Tensors]:
    """Two matrices of each adapter, their biases; Compacter's from products of small ones."""
    size = m.bottleneck(d)
    found: list[Tensors] = [("adapter/bias", count, (size,)), ("adapter/bias", count, (d,))]
    for rows, columns in ((size, d), (d, size)):
        if not m.n:
            found += [("adapter/matrix", count, (rows, columns))]
            continue
        if columns % m.n or rows % m.n:
            raise FrugalError(f"compacter: n = {m.n} does not divide both {columns} and {rows}")
        found += [
            ("adapter/s", count, (m.n, columns // m.n)),
            ("adapter/t", count, (m.n, rows // m.n)),
        ]
        found += [("adapter/a", 0 if m.shared else count, (m.n, m.n, m.n))]
    return [*found, ("adapter/a", int(m.shared), (m.n, m.n, m.n))] if m.n else found


def _network(arch: Architecture, tokens: int, mlp: int) -> list[Tensors]:
    """What makes a prefix: an embedding and a first matrix for each kind of attention."""
    kinds = 3 if arch.decoder_layers else 1  # of the encoder, of the decoder, across
    attentions = arch.layers + 2 * arch.decoder_layers
    first: list[Tensors] = [
        ("prefix/embedding", kinds, (tokens, arch.d_model)),
        ("prefix/w1", kinds, (mlp, arch.d_model)),
        ("prefix/w1", kinds, (mlp,)),
    ]
    second = (2 * arch.d_kv, mlp)
    return [*first, ("prefix/w2", attentions, second), ("prefix/w2", attentions, second[:1])]


def trainable(arch: Architecture, method: str | Method) -> int:
    """Parameters that `method` trains on `arch`."""
    return sum(count * math.prod(shape) for _, count, shape in tensors(arch, method))
