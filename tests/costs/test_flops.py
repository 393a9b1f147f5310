"""The closed forms against torch's own counter, exactly, over random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from frugal import peft
from frugal.costs import arch, flops
from frugal.errors import FrugalError


@st.composite
def llamas(draw):
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    return LlamaConfig(
        vocab_size=draw(st.integers(11, 60)),
        hidden_size=draw(st.integers(2, 6)) * heads,
        intermediate_size=draw(st.integers(3, 40)),
        num_hidden_layers=draw(st.integers(1, 3)),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=draw(st.integers(1, 4)) * 2,
        tie_word_embeddings=draw(st.booleans()),
        attn_implementation="eager",
    )


def counted(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@settings(max_examples=15, deadline=None)
@given(config=llamas(), tokens=st.integers(2, 30), rows=st.integers(1, 2))
def test_llama_forward_and_training_step_are_exact(config, tokens, rows):
    model = LlamaForCausalLM(config)
    ids = torch.zeros(rows, tokens, dtype=torch.long)
    shape = arch.from_config(config)
    size = {"prompt_tokens": tokens, "logits_at": tokens}

    def forward():
        return model(input_ids=ids, use_cache=False).logits.sum()

    assert counted(forward) == rows * sum(flops.forward(shape, **size).values())
    step = flops.train_step(shape, **size, method="full")
    assert counted(lambda: forward().backward()) == rows * sum(step.values())
    model.zero_grad()
    peft.attach(model, "ia3")
    step = flops.train_step(shape, **size, method="ia3")
    assert counted(lambda: forward().backward()) == rows * sum(step.values())


def test_frozen_weights_make_a_step_two_forwards_instead_of_three():
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    shape = arch.from_config(config)
    size = {"prompt_tokens": 128, "logits_at": 128}
    once = sum(flops.forward(shape, **size).values())
    ratios = {
        m: sum(flops.train_step(shape, **size, method=m).values()) / once for m in ("full", "ia3")
    }
    assert ratios["full"] == pytest.approx(2.99, abs=0.02)
    assert ratios["ia3"] == pytest.approx(2.0, abs=0.03)


def test_bad_input_has_one_clear_error():
    shape = arch.from_config(LlamaConfig())
    with pytest.raises(FrugalError, match="do not fit"):
        flops.forward(shape, prompt_tokens=4, logits_at=5)
    with pytest.raises(FrugalError, match="unknown method 'ia33'; did you mean 'ia3'"):
        flops.train_step(shape, prompt_tokens=4, logits_at=4, method="ia33")
    with pytest.raises(FrugalError, match="model type 'clip' is not one of"):
        arch.from_config({"model_type": "clip"})
