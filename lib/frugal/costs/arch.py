"""Architectures: the handful of sizes from which every count of this chapter follows."""

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from frugal import data
from frugal.costs import check
from frugal.errors import FrugalError, unknown

Kind = Literal["decoder-only", "encoder-decoder", "encoder-only"]
Family = Literal["t5", "llama", "gpt2", "bert", "bert2bert", "decoder", "encoder", "seq2seq"]
Tensors = tuple[str, int, tuple[int, ...]]  # part, how many of them, shape

KINDS: dict[str, Kind] = {
    "t5": "encoder-decoder",
    "llama": "decoder-only",
    "gpt2": "decoder-only",
    "bert": "encoder-only",
    "bert2bert": "encoder-decoder",
    "decoder": "decoder-only",
    "encoder": "encoder-only",
    "seq2seq": "encoder-decoder",
}
# T5's relative position buckets; one table per stack, in its first layer (Raffel et al. 2020, 2.1).
POSITION_BUCKETS = 32


@dataclass(frozen=True)
class Architecture:
    """The sizes of a transformer.

    family:     how a block is built (norms, biases, positions): t5, llama, gpt2, bert, or
        bert2bert: BERT reads, and BERT with cross-attention and a vocabulary answers; in a
        decoder, encoder or seq2seq read off a configuration, `others` says it
    layers:     of the encoder where there is one, otherwise of the decoder
    decoder_layers: of an encoder–decoder's decoder, otherwise 0
    kv_heads:   fewer than `heads` under grouped-query attention
    gated:      whether the feed-forward part has two input matrices
    tied:       whether the output projection is the embedding table
    positions, token_types: rows of the learned tables, 0 where there is none
    pooler:     an encoder's dense layer on the first token's state
    qkv_bias, out_bias, ffn_bias: whether these projections add a bias
    others:     every parameter tensor beside the matrices, where a model was looked at
    shifts:     of those the shifts of the layers' norms
    fused:      one product makes queries, keys and values
    parallel:   the feed-forward part reads what attention reads, not what it adds
    norm_first, shift_first: whether a norm, or one of a layer's norms with a shift, lies below
        every product
    window:     of the shortest cache that forgets, in tokens; 0 where none does
    nominal_params: the N that papers put into 2N and 6N, e.g. 175e9; None where none did
    source:     where the sizes are printed
    """

    name: str
    family: Family
    layers: int
    d_model: int
    heads: int
    kv_heads: int
    head_size: int
    d_ff: int
    vocabulary: int
    decoder_layers: int = 0
    gated: bool = False
    tied: bool = True
    positions: int = 0
    position_buckets: int = 0
    token_types: int = 0
    pooler: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    others: tuple[Tensors, ...] = ()
    shifts: tuple[Tensors, ...] = ()
    fused: bool = False
    parallel: bool = False
    norm_first: bool = True
    shift_first: bool = False
    window: int = 0
    nominal_params: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if self.family not in KINDS:
            raise unknown("family", self.family, KINDS)
        for name in ("layers", "d_model", "heads", "kv_heads", "head_size", "d_ff", "vocabulary"):
            check.whole(name, getattr(self, name), least=1)
        if (self.decoder_layers > 0) != (self.kind == "encoder-decoder"):
            raise FrugalError(f"decoder_layers = {self.decoder_layers} does not suit {self.kind}")
        if self.heads % self.kv_heads:
            raise FrugalError(f"kv_heads = {self.kv_heads} does not divide heads = {self.heads}")

    @property
    def kind(self) -> Kind:
        return KINDS[self.family]

    @property
    def transform(self) -> bool:
        """Whether a dense layer and a norm stand in front of the vocabulary, which has a bias."""
        return self.family == "bert2bert"

    @property
    def d_q(self) -> int:
        """Width of the queries of all heads together (T5's inner dimension)."""
        return self.heads * self.head_size

    @property
    def d_kv(self) -> int:
        """Width of the keys, and of the values, of all heads together: d_k = d_v."""
        return self.kv_heads * self.head_size

    def tensors(self) -> list[Tensors]:
        """Every parameter tensor: (part, how many, shape), as (rows, columns) or (size,).

        A tied output projection is not listed again; a fused q, k, v is listed as three.
        """
        d, decoder = self.d_model, self.decoder_layers
        both = self.layers + decoder
        if self.family in ("decoder", "encoder", "seq2seq") and not self.others:
            raise FrugalError(
                f"{self.name}: parameters are known at the sizes it was read at alone"
            )
        found: list[Tensors] = []
        for part, count in (("attention", both), ("cross-attention", decoder)):
            found += [
                (f"{part}/q", count, (self.d_q, d)),
                (f"{part}/k", count, (self.d_kv, d)),
                (f"{part}/v", count, (self.d_kv, d)),
                (f"{part}/o", count, (d, self.d_q)),
            ]
        found += [
            ("ffn/gate", both * self.gated, (self.d_ff, d)),
            ("ffn/up", both, (self.d_ff, d)),
            ("ffn/down", both, (d, self.d_ff)),
            ("pooler", int(self.pooler), (d, d)),
            ("pooler", int(self.pooler), (d,)),
            ("transform", int(self.transform), (d, d)),
            ("vocabulary", int(not self.tied), (self.vocabulary, d)),
        ]
        found += self.others or self._beside()
        return [t for t in found if t[1] and math.prod(t[2])]

    def _beside(self) -> list[Tensors]:
        """Tables, norms and biases, as the family has them."""
        d, decoder = self.d_model, self.decoder_layers
        both, stacks = self.layers + decoder, 2 if decoder else 1
        # A scale; LayerNorm: and a shift.
        norm_vectors = 2 if self.family in ("gpt2", "bert", "bert2bert") else 1
        tables = stacks if self.family == "bert2bert" else 1  # T5's stacks share theirs
        found: list[Tensors] = [
            ("embedding/tokens", tables, (self.vocabulary, d)),
            ("embedding/positions", tables, (self.positions, d)),
            ("embedding/positions", stacks, (self.position_buckets, self.heads)),
            ("embedding/types", tables, (self.token_types, d)),
        ]
        for part, count in (("attention", both), ("cross-attention", decoder)):
            found += [
                (f"{part}/q", count * self.qkv_bias, (self.d_q,)),
                (f"{part}/k", count * self.qkv_bias, (self.d_kv,)),
                (f"{part}/v", count * self.qkv_bias, (self.d_kv,)),
                (f"{part}/o", count * self.out_bias, (d,)),
            ]
        # Two norms a layer, a third where cross-attention is; then the last norm of each stack,
        # which in BERT stands behind the embeddings instead.
        return [
            *found,
            ("ffn/gate", both * self.gated * self.ffn_bias, (self.d_ff,)),
            ("ffn/up", both * self.ffn_bias, (self.d_ff,)),
            ("ffn/down", both * self.ffn_bias, (d,)),
            ("norms", (2 * both + decoder + stacks + self.transform) * norm_vectors, (d,)),
            ("transform", int(self.transform), (d,)),
            ("vocabulary", int(self.transform), (self.vocabulary,)),
        ]

    def norm_shifts(self) -> tuple[Tensors, ...]:
        """The shifts of the norms in the layers: (part, how many, shape)."""
        if self.family not in ("bert", "bert2bert", "gpt2"):
            return self.shifts
        count = 2 * self.layers + 3 * self.decoder_layers
        return (("norms", count, (self.d_model,)),)

    def check_cached(self, tokens: int) -> None:
        """Raise FrugalError for a cache so long that some layers have forgotten its start."""
        if self.window and tokens > self.window:
            raise FrugalError(
                f"context_tokens: {self.name} has layers that see {self.window} tokens; a cache "
                f"with {tokens} has no closed form"
            )

    @property
    def params_by_part(self) -> dict[str, int]:
        """Parameters by part, such as "attention/q"; the sum is `params`."""
        parts: dict[str, int] = {}
        for part, count, shape in self.tensors():
            parts[part] = parts.get(part, 0) + count * math.prod(shape)
        return parts

    @property
    def params(self) -> int:
        """N, every parameter once: `sum(p.numel())` of the transformers model."""
        return sum(self.params_by_part.values())

    def replace(self, **changes: Any) -> "Architecture":
        """The same architecture with some sizes changed.

        What was listed beside the matrices of a model that was looked at is of its own sizes: with
        others, FLOPs can still be had, parameters are refused.
        """
        own = {"name", "pooler", "parallel", "norm_first", "shift_first"}  # no parameter's size
        if set(changes) - own:
            changes = {"others": (), "shifts": (), **changes}
        return replace(self, **changes)


@lru_cache
def _known() -> dict[str, Architecture]:
    return {row["name"]: _from_row(row) for row in data.rows("architectures.csv")}


def _from_row(row: dict[str, str]) -> Architecture:
    values: dict[str, Any] = {}
    for field in fields(Architecture):
        text = row.get(field.name, "")
        if field.name in ("gated", "tied"):
            values[field.name] = text == "yes"
        elif field.name in ("name", "family", "source"):
            values[field.name] = text
        elif text:
            values[field.name] = float(text) if field.name == "nominal_params" else int(text)
    biased = values["family"] in ("gpt2", "bert", "bert2bert")
    values |= dict.fromkeys(("qkv_bias", "out_bias", "ffn_bias"), biased)
    values |= dict.fromkeys(("fused", "shift_first"), values["family"] == "gpt2")
    values["pooler"] = values["family"] in ("bert", "bert2bert")
    values["position_buckets"] = POSITION_BUCKETS if values["family"] == "t5" else 0
    return Architecture(**values)


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_known())


def get(name: str) -> Architecture:
    """The architecture called `name`; FrugalError with the nearest name where there is none."""
    known = _known()
    if name not in known:
        raise unknown("architecture", name, known)
    return known[name]


def from_config(config: Any) -> Architecture:
    """The architecture of a transformers configuration, proved on the model it describes.

    What is counted is the model that `engine.backbones` loads for it: a causal language model, an
    encoder–decoder with its vocabulary, or an encoder, with its pooler if it has one. Raises
    FrugalError, with the reason, where the closed form is not exactly that model's (experts,
    layers of several kinds, cross-attention where none is known). Needs torch and transformers.
    """
    from frugal.costs import derive

    return derive.architecture(config)
