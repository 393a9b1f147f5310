"""Parameter counts of T-Few's Figure 2, on the meta device, and (IA)³'s formula."""

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from frugal import peft
from tiny_models import build

XL = {"d_model": 2048, "num_heads": 32, "d_ff": 5120}
XXL = {"d_model": 4096, "num_heads": 64, "d_ff": 10240}
FULL = 2_849_757_184 - 32128 * 2048  # transformers 5 ties the output projection


def t5(d_kv=64, layers=24, gated=True, **sizes):
    config = T5Config(
        vocab_size=32128,
        d_kv=d_kv,
        num_layers=layers,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=False,
        **sizes,
    )
    with torch.device("meta"):
        return T5ForConditionalGeneration(config)


def count(model, method, options=None):
    tuned = peft.attach(model, method, options)
    tuned.detach()
    return tuned.trainable_params


@pytest.fixture(scope="module")
def t0_3b():
    return t5(**XL)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ({"ia3": {}}, 540_672),
        ({"lora": {}}, 8_847_360),
        ({"lora": {}, "layernorm": {}}, 9_097_216),
        ({"layernorm": {}}, 249_856),
        ({"bitfit": {"down": False}, "layernorm": {}}, 1_331_200),
        ({"bitfit": {}, "layernorm": {}}, 1_429_504),
        ({"adapter": {}, "layernorm": {}}, 12_934_144),
        ({"adapter": {"placement": "houlsby"}, "layernorm": {}}, 25_618_432),
        ({"compacter": {}, "layernorm": {}}, 870_400),
        ({"compacter++": {}, "layernorm": {}}, 560_128),
        ({"compacter": {"shared": True}}, 96 * (6464 - 128) + 64),
        ({"prompt": {}}, 40_960),
        ({"prompt": {"tokens": 100}}, 409_600),
        ({"prefix": {}}, 589_824),
        ({"fish": {}}, int(0.002 * FULL)),
        ({"fish": {"share": 0.0002}}, int(0.0002 * FULL)),
        ({"said": {}}, 20_000),
        ({"said": {"dimension": 500_000}}, 500_000),
        ({"full": {}}, FULL),
    ],
    ids=str,
)
def test_t0_3b(t0_3b, method, params):
    assert count(t0_3b, method) == params


@pytest.mark.parametrize(
    ("sizes", "params"),
    [
        (XXL, 1_081_344),
        ({"d_model": 512, "num_heads": 6, "d_ff": 1024, "layers": 8}, 34_816),
        ({"d_model": 512, "num_heads": 8, "d_ff": 2048, "layers": 6, "gated": False}, 43_008),
        ({"d_model": 768, "num_heads": 12, "d_ff": 2048, "layers": 12}, 104_448),
    ],
)
def test_ia3_of_other_t5(sizes, params):
    assert count(t5(**sizes), "ia3") == params


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("llama", 2 * (8 + 8 + 24)),
        ("t5-v1.0", 2 * (12 + 12 + 24) + 3 * (2 * (12 + 12) + 24)),
        ("t5-v1.1", 2 * (12 + 12 + 24) + 3 * (2 * (12 + 12) + 24)),
        ("bert", 2 * (16 + 16 + 24)),
        ("gpt2", 2 * (16 + 16 + 24)),
        ("bert2bert", 2 * (16 + 16 + 24) + 2 * (2 * (16 + 16) + 24)),
    ],
)
def test_ia3_is_its_formula(name, params):
    """L_enc (d_k + d_v + d_ff) + L_dec (2 d_k + 2 d_v + d_ff)."""
    assert count(build(name), "ia3") == params
