"""Tiny models of every class of transformers that scores text, with random but telling weights."""

import torch
import transformers as T
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from frugal.engine.backbones import Backbone
from frugal.engine.tiny import byte_tokenizer
from frugal.tasks.templates import Example

TOKENIZER = byte_tokenizer()
PAD, END = TOKENIZER.pad_token_id, TOKENIZER.eos_token_id
# By the names that configurations give their sizes; a class takes those that it has.
_NAMES = {
    264: """vocab_size encoder_vocab_size decoder_vocab_size src_vocab_size tgt_vocab_size
        vocab_size_per_layer_input""",
    32: """hidden_size d_model n_embd dim word_embed_proj_dim embedding_size emb_dim d_embed
        embed_dim
        moe_intermediate_size shared_expert_intermediate_size""",
    2: """num_hidden_layers n_layer n_layers num_layers num_decoder_layers encoder_layers
        decoder_layers num_encoder_layers num_key_value_heads num_kv_heads num_experts_per_tok
        mamba_expand""",
    4: """num_attention_heads n_head n_heads num_heads encoder_attention_heads rotary_dim
        decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads
        num_local_experts num_experts n_routed_experts moe_num_experts qk_rope_head_dim
        qk_nope_head_dim""",
    8: """head_dim d_kv attention_head_size v_head_dim mamba_n_heads mamba_d_head mamba_d_state
        state_size""",
    16: "q_lora_rank kv_lora_rank hidden_size_per_layer_input",
    64: """intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim n_inner d_inner dff
        ffn_hidden_size expert_ffn_dim""",
    512: "max_position_embeddings n_positions n_ctx max_seq_len",
    END: """eos_token_id bos_token_id decoder_start_token_id forced_eos_token_id sep_token_id""",
    PAD: "pad_token_id",
    None: "forced_bos_token_id",
    1: "mamba_n_groups",
}
SIZES = {name: value for value, names in _NAMES.items() for name in names.split()}
_DECODERS = """bert bert-generation electra ernie camembert roberta rembert roberta-prelayernorm
    roc_bert roformer megatron-bert xlm-roberta xlm-roberta-xl data2vec-text"""
_LATENT = "axk1 youtu longcat_flash glm4_moe_lite minicpm3 deepseek_v2"
_WINDOWS = "mistral mixtral starcoder2 phi3 gemma2 gemma3_text cohere2"
MLA = {"head_dim": 4, "num_key_value_heads": 4}
# What some classes need beside these sizes.
MORE = {
    **{kind: {"is_decoder": True} for kind in _DECODERS.split()},
    **dict.fromkeys(_LATENT.split(), MLA),
    **{kind: {"sliding_window": 24} for kind in _WINDOWS.split()},
    "big_bird": {"is_decoder": True, "attention_type": "original_full"},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [16, 32],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 40},
    "led": {"attention_window": 16},
    "deepseek_v3": {**MLA, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "expand": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "dots1": {"n_shared_experts": 1, "n_group": 1, "topk_group": 1},
}
TABLES = {
    "causal": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "encoder-decoder": modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}


def kinds():
    """(family, model type) of all of them."""
    return [(family, kind) for family, table in TABLES.items() for kind in table]


def build(family, kind, **more):
    """A backbone of that type; what its configuration raises for such sizes is raised."""
    name = TABLES[family][kind]
    config = _config(kind, {**MORE.get(kind, {}), **more})
    torch.manual_seed(0)
    model = getattr(T, name if isinstance(name, str) else name[0])(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)  # as initialised, all positions look nearly alike
    return Backbone(kind, model, TOKENIZER, family)


def _config(kind, more):
    if kind == "encoder-decoder":
        bert = _config("bert", {})
        return T.EncoderDecoderConfig.from_encoder_decoder_configs(
            bert, bert, pad_token_id=PAD, decoder_start_token_id=END
        )
    made = CONFIG_MAPPING[kind]
    usual = made()
    parts = {name: getattr(usual, name, None) for name in getattr(made, "sub_configs", None) or ()}
    parts = {name: _small(part) for name, part in parts.items() if hasattr(part, "to_dict")}
    return made(**{**_small(usual), **parts, **more})


def _small(config):
    known, other = config.to_dict(), getattr(config, "attribute_map", {})
    names = {n for n in SIZES if n in known or n in other}
    return {n: SIZES[n] for n in names if other.get(n) not in names}


def examples():
    """Two lists: prompts of very different length, and prompts that begin alike."""
    text = "A long complaint about a parcel. "
    some = [
        Example(prompt=text * n + "Team:", choices=(" cards", " transfers", " carts")[:k], label=0)
        for n, k in ((1, 2), (3, 3), (0, 2))
    ]
    shots = "Tasks: " + text * 2
    return some, [
        Example(prompt=f"{shots}Q{i}:{'x' * i}", choices=(" yes", " no thanks"), label=0)
        for i in range(5)
    ]


@torch.inference_mode()
def plain(backbone, encoded):
    """(choice tokens,) log-probabilities as transformers computes them, a whole text at a time."""
    found = []
    for e in encoded:
        for sequence in e.sequences:
            ids = torch.tensor([sequence])
            if backbone.family == "encoder-decoder":
                read = torch.tensor([list(e.read)])
                inputs = {"input_ids": read, "decoder_input_ids": ids}
            else:
                inputs = {"input_ids": ids}
            logits = backbone.model(**inputs, use_cache=False).logits[0]
            logp = logits.float().log_softmax(-1)[e.start - 1 : -1]
            found.append(logp.gather(1, ids[0, e.start :, None])[:, 0])
    return torch.cat(found)
