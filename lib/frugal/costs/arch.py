"""Architectures: the handful of sizes from which every count of this chapter follows."""

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from frugal import data
from frugal.costs import check
from frugal.errors import FrugalError, unknown

Kind = Literal["decoder-only", "encoder-decoder", "encoder-only"]
Family = Literal["t5", "llama", "gpt2", "bert", "bert2bert"]
Tensors = tuple[str, int, tuple[int, ...]]  # part, how many of them, shape

KINDS: dict[str, Kind] = {
    "t5": "encoder-decoder",
    "llama": "decoder-only",
    "gpt2": "decoder-only",
    "bert": "encoder-only",
    "bert2bert": "encoder-decoder",
}
# T5's relative position buckets; one table per stack, in its first layer (Raffel et al. 2020, 2.1).
POSITION_BUCKETS = 32


@dataclass(frozen=True)
class Architecture:
    """The sizes of a transformer.

    family:     how a block is built (norms, biases, positions): t5, llama, gpt2, bert, or
        bert2bert: BERT reads, and BERT with cross-attention and a vocabulary answers
    layers:     of the encoder where there is one, otherwise of the decoder
    decoder_layers: of an encoder–decoder's decoder, otherwise 0
    kv_heads:   fewer than `heads` under grouped-query attention
    gated:      whether the feed-forward part has two input matrices
    tied:       whether the output projection is the embedding table
    positions, token_types: rows of the learned tables, 0 where there is none
    pooler:     an encoder's dense layer on the first token's state
    qkv_bias, out_bias, ffn_bias: whether these projections add a bias
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
        """Every parameter tensor: (part, how many, shape), shape as (rows, columns) or (size,).

        A tied output projection is not listed again; GPT-2's fused q, k, v are listed as three.
        """
        d, layers, decoder = self.d_model, self.layers, self.decoder_layers
        both, stacks = layers + decoder, 2 if decoder else 1
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
                (f"{part}/q", count, (self.d_q, d)),
                (f"{part}/k", count, (self.d_kv, d)),
                (f"{part}/v", count, (self.d_kv, d)),
                (f"{part}/o", count, (d, self.d_q)),
                (f"{part}/q", count * self.qkv_bias, (self.d_q,)),
                (f"{part}/k", count * self.qkv_bias, (self.d_kv,)),
                (f"{part}/v", count * self.qkv_bias, (self.d_kv,)),
                (f"{part}/o", count * self.out_bias, (d,)),
            ]
        for part, count in (("ffn/gate", both * self.gated), ("ffn/up", both)):
            found += [(part, count, (self.d_ff, d)), (part, count * self.ffn_bias, (self.d_ff,))]
        # Two norms a layer, a third where cross-attention is; then the last norm of each stack,
        # which in BERT stands behind the embeddings instead.
        found += [
            ("ffn/down", both, (d, self.d_ff)),
            ("ffn/down", both * self.ffn_bias, (d,)),
            ("norms", (2 * both + decoder + stacks + self.transform) * norm_vectors, (d,)),
            ("pooler", int(self.pooler), (d, d)),
            ("pooler", int(self.pooler), (d,)),
            ("transform", int(self.transform), (d, d)),
            ("transform", int(self.transform), (d,)),
            ("vocabulary", int(not self.tied), (self.vocabulary, d)),
            ("vocabulary", int(self.transform), (self.vocabulary,)),
        ]
        return [t for t in found if t[1] and math.prod(t[2])]

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
        """The same architecture with some sizes changed."""
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
    """The architecture of a transformers config (T5, mT5, Llama, GPT-2, BERT, RoBERTa, two BERTs).

    What is counted is the model that transformers builds from it: T5ForConditionalGeneration,
    LlamaForCausalLM, GPT2LMHeadModel, for BERT and RoBERTa the bare encoder with its pooler, and
    EncoderDecoderModel for two BERTs of one size, whose encoder has a pooler that nothing reads.
    transformers 5 ties T5's output projection whatever the config asks for, so a T5 1.1 config
    has fewer parameters than the checkpoint `get` describes. Raises FrugalError for a model type
    without a closed form here.
    """
    readers = {
        "t5": _t5,
        "mt5": _t5,
        "llama": _llama,
        "gpt2": _gpt2,
        "bert": _bert,
        "roberta": _bert,
        "encoder-decoder": _bert2bert,
    }
    kind = getattr(config, "model_type", None)
    if kind not in readers:
        raise unknown("model type", str(kind), readers)
    return readers[kind](config)


def _name(config: Any) -> str:
    return getattr(config, "name_or_path", "") or config.model_type


def _t5(config: Any) -> Architecture:
    return Architecture(
        name=_name(config),
        family="t5",
        layers=config.num_layers,
        decoder_layers=config.num_decoder_layers,
        d_model=config.d_model,
        heads=config.num_heads,
        kv_heads=config.num_heads,
        head_size=config.d_kv,
        d_ff=config.d_ff,
        vocabulary=config.vocab_size,
        gated=config.is_gated_act,
        tied=config.tie_word_embeddings,
        position_buckets=config.relative_attention_num_buckets,
    )


def _llama(config: Any) -> Architecture:
    return Architecture(
        name=_name(config),
        family="llama",
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=getattr(config, "head_dim", None)
        or config.hidden_size // config.num_attention_heads,
        d_ff=config.intermediate_size,
        vocabulary=config.vocab_size,
        gated=True,
        tied=config.tie_word_embeddings,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
        ffn_bias=config.mlp_bias,
    )


def _gpt2(config: Any) -> Architecture:
    return Architecture(
        name=_name(config),
        family="gpt2",
        layers=config.n_layer,
        d_model=config.n_embd,
        heads=config.n_head,
        kv_heads=config.n_head,
        head_size=config.n_embd // config.n_head,
        d_ff=config.n_inner or 4 * config.n_embd,
        vocabulary=config.vocab_size,
        tied=config.tie_word_embeddings,
        positions=config.n_positions,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
    )


def _bert(config: Any) -> Architecture:
    return Architecture(
        name=_name(config),
        family="bert",
        layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_attention_heads,
        head_size=config.hidden_size // config.num_attention_heads,
        d_ff=config.intermediate_size,
        vocabulary=config.vocab_size,
        positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        pooler=True,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
    )


def _bert2bert(config: Any) -> Architecture:
    reads, answers = config.encoder, config.decoder
    if {reads.model_type, answers.model_type} != {"bert"}:
        raise FrugalError(
            f"encoder-decoder of {reads.model_type} and {answers.model_type}: only two BERTs have "
            "a closed form here"
        )
    encoder, decoder = _bert(reads), _bert(answers)
    same = encoder.replace(layers=decoder.layers, name=decoder.name)
    if same != decoder:
        raise FrugalError("encoder-decoder: the two BERTs must differ in their layers alone")
    return encoder.replace(name=_name(config), family="bert2bert", decoder_layers=decoder.layers)
