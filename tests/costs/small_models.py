"""Small random transformers on the meta device: shapes without numbers, so counting is instant."""

import torch
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)


def build(model_class, config):
    config._attn_implementation = "eager"
    for part in ("encoder", "decoder"):
        if hasattr(config, part):
            getattr(config, part)._attn_implementation = "eager"
    with torch.device("meta"):
        return model_class(config).eval()


def ids(batch, tokens):
    return torch.zeros(batch, tokens, dtype=torch.long, device="meta")


def counted(run):
    """FLOPs that FlopCounterMode finds in `run()`."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@st.composite
def t5_configs(draw):
    return T5Config(
        vocab_size=draw(st.integers(5, 90)),
        d_model=draw(st.integers(2, 24)),
        d_kv=draw(st.integers(1, 8)),
        d_ff=draw(st.integers(2, 40)),
        num_layers=draw(st.integers(1, 3)),
        num_decoder_layers=draw(st.integers(1, 3)),
        num_heads=draw(st.integers(1, 4)),
        feed_forward_proj=draw(st.sampled_from(["relu", "gated-gelu"])),
        relative_attention_num_buckets=draw(st.sampled_from([8, 32])),
        tie_word_embeddings=draw(st.booleans()),
    )


@st.composite
def llama_configs(draw):
    kv_heads, groups, head = draw(st.tuples(*[st.integers(1, 3)] * 3))
    return LlamaConfig(
        vocab_size=draw(st.integers(5, 90)),
        hidden_size=kv_heads * groups * draw(st.integers(1, 5)),
        intermediate_size=draw(st.integers(2, 40)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=kv_heads * groups,
        num_key_value_heads=kv_heads,
        head_dim=2 * head,
        attention_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        tie_word_embeddings=draw(st.booleans()),
    )


@st.composite
def gpt2_configs(draw):
    heads = draw(st.integers(1, 3))
    return GPT2Config(
        vocab_size=draw(st.integers(5, 90)),
        n_positions=draw(st.integers(64, 80)),
        n_embd=heads * draw(st.integers(1, 8)),
        n_layer=draw(st.integers(1, 3)),
        n_head=heads,
        n_inner=draw(st.none() | st.integers(2, 40)),
    )


@st.composite
def bert_configs(draw, config_class=BertConfig):
    heads = draw(st.integers(1, 3))
    return config_class(
        vocab_size=draw(st.integers(5, 90)),
        hidden_size=heads * draw(st.integers(1, 8)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(2, 40)),
        max_position_embeddings=draw(st.integers(64, 80)),
        type_vocab_size=draw(st.integers(1, 2)),
    )


@st.composite
def bert2bert_configs(draw):
    encoder, layers = draw(bert_configs()), draw(st.integers(1, 3))
    decoder = BertConfig(**{**encoder.to_dict(), "num_hidden_layers": layers})
    return EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)


FAMILIES = {
    "t5": (T5ForConditionalGeneration, t5_configs()),
    "llama": (LlamaForCausalLM, llama_configs()),
    "gpt2": (GPT2LMHeadModel, gpt2_configs()),
    "bert": (BertModel, bert_configs()),
    "roberta": (RobertaModel, bert_configs(RobertaConfig)),
    "bert2bert": (EncoderDecoderModel, bert2bert_configs()),
}


def config_of(a):
    """The transformers config of a known architecture."""
    if a.family == "t5":
        return T5Config(
            vocab_size=a.vocabulary,
            d_model=a.d_model,
            d_kv=a.head_size,
            d_ff=a.d_ff,
            num_layers=a.layers,
            num_decoder_layers=a.decoder_layers,
            num_heads=a.heads,
            feed_forward_proj="gated-gelu" if a.gated else "relu",
        )
    if a.family == "gpt2":
        return GPT2Config(
            vocab_size=a.vocabulary,
            n_positions=a.positions,
            n_embd=a.d_model,
            n_layer=a.layers,
            n_head=a.heads,
            n_inner=a.d_ff,
        )
    shared = {
        "vocab_size": a.vocabulary,
        "hidden_size": a.d_model,
        "intermediate_size": a.d_ff,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
    }
    if a.family == "llama":
        return LlamaConfig(
            **shared,
            num_key_value_heads=a.kv_heads,
            head_dim=a.head_size,
            tie_word_embeddings=a.tied,
        )
    bert = BertConfig(**shared, max_position_embeddings=a.positions, type_vocab_size=a.token_types)
    if a.family == "bert":
        return bert
    decoder = BertConfig(**{**bert.to_dict(), "num_hidden_layers": a.decoder_layers})
    return EncoderDecoderConfig.from_encoder_decoder_configs(bert, decoder)
