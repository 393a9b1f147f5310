"""Families whose FLOPs the tests prove for all sizes: of a model, parameters alone are compared.

transformers answers to hidden_size, num_attention_heads, num_hidden_layers and
max_position_embeddings in all of them, whatever a family's own names are.
"""

from collections.abc import Callable
from typing import Any

from frugal.costs.arch import Architecture, Family
from frugal.errors import FrugalError


def _of(family: Family, config: Any, **own: Any) -> Architecture:
    heads = config.num_attention_heads
    sizes = {
        "name": config.model_type,
        "layers": config.num_hidden_layers,
        "d_model": config.hidden_size,
        "heads": heads,
        "kv_heads": heads,
        "head_size": config.hidden_size // heads,
        "vocabulary": config.vocab_size,
    }
    return Architecture(family=family, **sizes | own)


def _t5(config: Any) -> Architecture:
    return _of(
        "t5",
        config,
        decoder_layers=config.num_decoder_layers,
        head_size=config.d_kv,
        d_ff=config.d_ff,
        gated=config.is_gated_act,
        tied=config.tie_word_embeddings,
        position_buckets=config.relative_attention_num_buckets,
    )


def _llama(config: Any) -> Architecture:
    own_size = getattr(config, "head_dim", None)
    return _of(
        "llama",
        config,
        kv_heads=config.num_key_value_heads,
        **({"head_size": own_size} if own_size else {}),
        d_ff=config.intermediate_size,
        gated=True,
        tied=config.tie_word_embeddings,
        qkv_bias=config.attention_bias,
        out_bias=config.attention_bias,
        ffn_bias=config.mlp_bias,
    )


_BIASED = dict.fromkeys(("qkv_bias", "out_bias", "ffn_bias"), True)


def _gpt2(config: Any) -> Architecture:
    return _of(
        "gpt2",
        config,
        d_ff=config.n_inner or 4 * config.hidden_size,
        tied=config.tie_word_embeddings,
        positions=config.max_position_embeddings,
        fused=True,
        shift_first=True,
        **_BIASED,
    )


def _bert(config: Any) -> Architecture:
    return _of(
        "bert",
        config,
        d_ff=config.intermediate_size,
        positions=config.max_position_embeddings,
        token_types=config.type_vocab_size,
        pooler=True,
        **_BIASED,
    )


def _bert2bert(config: Any) -> Architecture:
    reads, answers = config.encoder, config.decoder
    if {reads.model_type, answers.model_type} != {"bert"}:
        raise FrugalError(f"{reads.model_type} and {answers.model_type} are not two BERTs")
    encoder, decoder = _bert(reads), _bert(answers)
    same = encoder.replace(layers=decoder.layers, name=decoder.name)
    if same != decoder:
        raise FrugalError("the two BERTs must differ in their layers alone")
    return encoder.replace(
        name=config.model_type, family="bert2bert", decoder_layers=decoder.layers
    )


KNOWN: dict[str, Callable[[Any], Architecture]] = {
    "t5": _t5,
    "mt5": _t5,
    "llama": _llama,
    "gpt2": _gpt2,
    "bert": _bert,
    "roberta": _bert,
    "encoder-decoder": _bert2bert,
}
