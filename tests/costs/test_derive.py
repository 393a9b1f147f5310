"""Architectures read off configurations: exact, or refused with the reason."""

import dataclasses
import math

import pytest
import torch
import transformers as t
from small_models import build, counted, ids

from frugal.costs import arch, derive, flops, layers, memory
from frugal.errors import FrugalError

BASE = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
GATED = {**BASE, "intermediate_size": 24, "num_key_value_heads": 2}
SEQ2SEQ = {
    "vocab_size": 50, "d_model": 16, "encoder_layers": 2, "decoder_layers": 1,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24, "max_position_embeddings": 64,
}  # fmt: skip
T5 = {"vocab_size": 50, "d_model": 16, "d_kv": 6, "d_ff": 24, "num_layers": 2, "num_heads": 4}

EXACT = {
    "qwen2": (t.Qwen2ForCausalLM, t.Qwen2Config(**GATED)),
    "qwen3, norms of q and k": (t.Qwen3ForCausalLM, t.Qwen3Config(**GATED, head_dim=6)),
    "gemma2, four norms, windows": (
        t.Gemma2ForCausalLM,
        t.Gemma2Config(**GATED, head_dim=6, sliding_window=7),
    ),
    "pythia, parallel": (t.GPTNeoXForCausalLM, t.GPTNeoXConfig(**BASE, intermediate_size=24)),
    "gptj, a bias at the vocabulary": (
        t.GPTJForCausalLM,
        t.GPTJConfig(vocab_size=50, n_embd=16, n_layer=2, n_head=4, n_positions=64, rotary_dim=4),
    ),
    "phi3, gate and up in one": (
        t.Phi3ForCausalLM,
        t.Phi3Config(**GATED, pad_token_id=0, eos_token_id=1, bos_token_id=1),
    ),
    "falcon, one head of K and V": (t.FalconForCausalLM, t.FalconConfig(**BASE)),
    "olmo2, norms behind": (
        t.Olmo2ForCausalLM,
        t.Olmo2Config(**GATED, pad_token_id=0, eos_token_id=1),
    ),
    "bloom": (
        t.BloomForCausalLM,
        t.BloomConfig(vocab_size=50, hidden_size=16, n_layer=2, n_head=4),
    ),
    "opt": (
        t.OPTForCausalLM,
        t.OPTConfig(**BASE, ffn_dim=24, word_embed_proj_dim=16, max_position_embeddings=64),
    ),
    "bart": (t.BartForConditionalGeneration, t.BartConfig(**SEQ2SEQ)),
    "umt5": (t.UMT5ForConditionalGeneration, t.UMT5Config(**T5)),
    "distilbert, no pooler": (
        t.DistilBertModel,
        t.DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=4, hidden_dim=24),
    ),
    "xlm-roberta": (
        t.XLMRobertaModel,
        t.XLMRobertaConfig(**BASE, intermediate_size=24, max_position_embeddings=64),
    ),
}


def call(model, kind, prompt, target):
    if kind == "encoder-decoder":
        return model(input_ids=ids(1, prompt), decoder_input_ids=ids(1, target)).logits
    out = model(input_ids=ids(1, prompt))
    return out.logits if kind == "decoder-only" else out[0]


@pytest.mark.parametrize("name", EXACT)
def test_what_is_derived_is_exact(name):
    """Forward and backward, of other lengths than the proof itself tries."""
    model_class, config = EXACT[name]
    a, model = arch.from_config(config), build(model_class, config)
    assert a.params == sum(p.numel() for p in model.parameters())
    fed = {"target_tokens": 4} if a.kind == "encoder-decoder" else {}
    truth = counted(lambda: call(model, a.kind, 9, 4).sum().backward())
    step = flops.train_step(a.replace(pooler=False), prompt_tokens=9, **fed)
    pooled = 2 * a.d_model**2 if a.pooler else 0  # runs, though the loss reads the states
    assert sum(step.values()) + pooled == truth


@pytest.mark.parametrize(
    "name", ["pythia, parallel", "phi3, gate and up in one", "olmo2, norms behind"]
)
def test_gradients_reach_down_to_where_they_are_needed(name):
    """Vectors behind K and V of every layer, as (IA)^3 has: what reads them needs a gradient."""
    model_class, config = EXACT[name]
    a, model = arch.from_config(config), build(model_class, config)
    model.requires_grad_(False)
    bias = {"scale": torch.zeros((), requires_grad=True)}
    (stack,) = layers.stacks_of(model)
    for layer in stack:
        for m in layers.matrices_of(layer):
            if m.shape[0] == a.d_q + 2 * a.d_kv or m.shape == (a.d_kv, a.d_model):
                m.module.register_forward_hook(lambda _, args, out: out * bias["scale"])
    truth = counted(lambda: call(model, a.kind, 9, 0).sum().backward())
    method = flops.methods.get("ia3", {"targets": ["k", "v"]})
    assert sum(flops.train_step(a, prompt_tokens=9, method=method).values()) == truth


REFUSED = {
    "experts": (
        t.MixtralConfig(**GATED, num_local_experts=2, num_experts_per_tok=1),
        "no attention and feed-forward",
    ),
    "gpt2 with cross-attention": (
        t.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=4, add_cross_attention=True),
        "no attention and feed-forward",
    ),
    "a projection of the embeddings": (
        t.OPTConfig(**BASE, ffn_dim=24, word_embed_proj_dim=8),
        "outside its layers",
    ),
    "layers that are shared": (
        t.AlbertConfig(**BASE, intermediate_size=24, embedding_size=16),
        "closed form",
    ),
    "no attention": (t.MambaConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2), "heads"),
    "uneven layers": (
        t.Qwen2MoeConfig(**GATED, num_experts=2, decoder_sparse_step=2),
        "not alike|no attention",
    ),
    "blocks of another encoder": (t.LongT5Config(**T5), "FLOPs, by the closed form"),
    "a decoder without its head": (
        t.BertConfig(**BASE, is_decoder=True, add_cross_attention=True),
        "outside its layers|no attention",
    ),
    "no text": (t.ViTConfig(), "neither a language model nor an encoder"),
    "hears": (t.WhisperConfig(), "does not answer text with text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_closed_form_is_refused(name):
    config, why = REFUSED[name]
    with pytest.raises(FrugalError, match=why):
        arch.from_config(config)


@pytest.fixture
def fresh():
    """Nothing is remembered from other tests, and nothing for them."""
    derive._found.cache_clear()
    yield
    derive._found.cache_clear()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"d_ff": 25}, "parameters"),
        ({"tied": True}, "parameters"),
        ({"others": (("embedding/tokens", 1, (50, 16)),)}, "parameters"),
        ({"layers": 3}, "parameters"),
        ({"heads": 2, "kv_heads": 1}, "FLOPs"),
        ({"kv_heads": 1, "head_size": 8}, "FLOPs"),
    ],
)
def test_a_closed_form_that_is_a_little_wrong_is_found(monkeypatch, fresh, change, why):
    right = layers.read

    def wrong(*args):
        a = dataclasses.replace(right(*args), **change)
        if why == "FLOPs":  # as many parameters as there are
            params = sum(math.prod(s) * n for _, n, s in a.tensors())
            spare = sum(p.numel() for p in args[2].parameters()) - params
            a = dataclasses.replace(a, others=(*a.others, ("scales", spare, (1,))))
        return a

    monkeypatch.setattr(layers, "read", wrong)
    with pytest.raises(FrugalError, match=why):
        arch.from_config(EXACT["qwen2"][1])


def test_a_window_is_seen_where_a_cache_is_longer():
    a = arch.from_config(EXACT["gemma2, four norms, windows"][1])
    assert a.window == 7
    assert memory.kv_cache(a, 7) > 0
    for wrong in (
        lambda: memory.kv_cache(a, 8),
        lambda: flops.forward(a, prompt_tokens=2, context_tokens=6),
        lambda: flops.decode(a, new_tokens=3, context_tokens=5),
    ):
        with pytest.raises(FrugalError, match="7 tokens"):
            wrong()
    assert flops.forward(a, prompt_tokens=30)  # in one go every pair is computed, and masked


def test_parameters_of_changed_sizes_are_refused():
    a = arch.from_config(EXACT["qwen2"][1])
    assert a.replace(name="other").params == a.params
    with pytest.raises(FrugalError, match="read at alone"):
        _ = a.replace(layers=5).params


def test_training_norms_where_none_lies_below_is_refused():
    a = arch.from_config(EXACT["olmo2, norms behind"][1])
    with pytest.raises(FrugalError, match="norm"):
        flops.train_step(a, prompt_tokens=3, method="layernorm")


def test_a_configuration_is_tried_once_refused_or_not(monkeypatch, fresh):
    tried = []
    skeleton = layers.skeleton
    monkeypatch.setattr(layers, "skeleton", lambda *a: tried.append(a) or skeleton(*a))
    for _ in range(2):
        arch.from_config(EXACT["qwen2"][1])
        with pytest.raises(FrugalError):
            arch.from_config(REFUSED["experts"][0])
    assert len(tried) == 2


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (t.Qwen2Config(), "decoder-only"),
        (t.GPTNeoXConfig(architectures=["GPTNeoXModel"]), "decoder-only"),
        (t.BertConfig(), "encoder-only"),
        (t.RobertaConfig(architectures=["RobertaForMaskedLM"]), "encoder-only"),
        (t.RobertaConfig(architectures=["RobertaForCausalLM"]), "decoder-only"),
        (t.MPNetConfig(), "encoder-only"),
        (t.BartConfig(), "encoder-decoder"),
        (t.BartConfig(is_encoder_decoder=False, is_decoder=True), "decoder-only"),
    ],
)
def test_the_kind_of_a_model_is_transformers_own_word(config, kind):
    assert derive.kind_of(config) == kind
