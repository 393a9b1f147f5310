"""Small random transformers, so small that to run them is quicker than to follow shapes alone."""

import torch
import transformers as t
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode


def build(model_class, config, device="cpu"):
    config._attn_implementation = "eager"
    for part in ("encoder", "decoder"):
        if hasattr(config, part):
            getattr(config, part)._attn_implementation = "eager"
    with torch.device(device):
        return model_class(config).eval()


def ids(batch, tokens):
    return torch.zeros(batch, tokens, dtype=torch.long)


def counted(run):
    """FLOPs that FlopCounterMode finds in `run()`."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@st.composite
def t5_configs(draw):
    return t.T5Config(
        vocab_size=draw(st.integers(5, 90)),
        d_model=draw(st.integers(2, 24)),
        d_kv=draw(st.integers(1, 8)),
        d_ff=draw(st.integers(2, 40)),
        num_layers=draw(st.integers(1, 2)),
        num_decoder_layers=draw(st.integers(1, 2)),
        num_heads=draw(st.integers(1, 4)),
        feed_forward_proj=draw(st.sampled_from(["relu", "gated-gelu"])),
        relative_attention_num_buckets=draw(st.sampled_from([8, 32])),
        tie_word_embeddings=draw(st.booleans()),
    )


@st.composite
def llama_configs(draw):
    kv_heads, groups, head = draw(st.tuples(*[st.integers(1, 3)] * 3))
    return t.LlamaConfig(
        vocab_size=draw(st.integers(5, 90)),
        hidden_size=kv_heads * groups * draw(st.integers(1, 5)),
        intermediate_size=draw(st.integers(2, 40)),
        num_hidden_layers=draw(st.integers(1, 2)),
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
    return t.GPT2Config(
        vocab_size=draw(st.integers(5, 90)),
        n_positions=draw(st.integers(64, 80)),
        n_embd=heads * draw(st.integers(1, 8)),
        n_layer=draw(st.integers(1, 2)),
        n_head=heads,
        n_inner=draw(st.none() | st.integers(2, 40)),
    )


@st.composite
def bert_configs(draw, config_class=t.BertConfig):
    heads = draw(st.integers(1, 3))
    return config_class(
        vocab_size=draw(st.integers(5, 90)),
        hidden_size=heads * draw(st.integers(1, 8)),
        num_hidden_layers=draw(st.integers(1, 2)),
        num_attention_heads=heads,
        intermediate_size=draw(st.integers(2, 40)),
        max_position_embeddings=draw(st.integers(64, 80)),
        type_vocab_size=draw(st.integers(1, 2)),
    )


@st.composite
def bert2bert_configs(draw):
    encoder, layers = draw(bert_configs()), draw(st.integers(1, 2))
    decoder = t.BertConfig(**{**encoder.to_dict(), "num_hidden_layers": layers})
    return t.EncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)


FAMILIES = {
    "t5": (t.T5ForConditionalGeneration, t5_configs()),
    "llama": (t.LlamaForCausalLM, llama_configs()),
    "gpt2": (t.GPT2LMHeadModel, gpt2_configs()),
    "bert": (t.BertModel, bert_configs()),
    "roberta": (t.RobertaModel, bert_configs(t.RobertaConfig)),
    "bert2bert": (t.EncoderDecoderModel, bert2bert_configs()),
}


# By family: the names of transformers' configuration, and ours.
BERT = """vocab_size=vocabulary hidden_size=d_model intermediate_size=d_ff num_hidden_layers=layers
    num_attention_heads=heads"""
POSITIONS = " max_position_embeddings=positions type_vocab_size=token_types"
NAMES = {
    "t5": """vocab_size=vocabulary d_model=d_model d_kv=head_size d_ff=d_ff num_layers=layers
        num_decoder_layers=decoder_layers num_heads=heads""",
    "gpt2": """vocab_size=vocabulary n_embd=d_model n_inner=d_ff n_layer=layers n_head=heads
        n_positions=positions""",
    "llama": BERT + " num_key_value_heads=kv_heads head_dim=head_size tie_word_embeddings=tied",
    "bert": BERT + POSITIONS,
    "bert2bert": BERT + POSITIONS,
}
CONFIGS = {"t5": t.T5Config, "gpt2": t.GPT2Config, "llama": t.LlamaConfig}


def config_of(a):
    """The transformers config of a known architecture."""
    pairs = (pair.split("=") for pair in NAMES[a.family].split())
    sizes = {theirs: getattr(a, ours) for theirs, ours in pairs}
    more = {"feed_forward_proj": "gated-gelu" if a.gated else "relu"} if a.family == "t5" else {}
    config = CONFIGS.get(a.family, t.BertConfig)(**sizes, **more)
    if a.family != "bert2bert":
        return config
    decoder = t.BertConfig(**{**config.to_dict(), "num_hidden_layers": a.decoder_layers})
    return t.EncoderDecoderConfig.from_encoder_decoder_configs(config, decoder)
