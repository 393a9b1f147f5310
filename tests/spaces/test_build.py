"""Designs on models of every family: counts are those declared, and nothing stays behind."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from frugal.costs import arch
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.peft import surgery
from frugal.spaces import build, sizes
from frugal.spaces.space import STAGES, s4, stage
from tiny_models import BERT, bert, gpt2, llama, roberta, t5

LAYERS = {"num_hidden_layers": 6}
BLOCKS = {"num_layers": 4, "num_decoder_layers": 4}
MODELS = {
    "bert": lambda: bert(**LAYERS),
    "roberta": lambda: roberta(**LAYERS),
    "t5": lambda: t5("relu", **BLOCKS),
    "t5 1.1": lambda: t5("gated-gelu", **BLOCKS),
    "llama": lambda: llama(**LAYERS),
    "gpt2": lambda: gpt2(n_layer=6),
}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("which", STAGES)
def test_any_design_has_the_parameters_it_declares_layer_by_layer(family, which):
    model = MODELS[family]()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    shape = arch.from_config(model.config)
    layers = surgery.layers(model)
    space = stage(which, len(layers))
    for found in sizes.draw(space, shape, 3, seed=0, budget=0.3):
        tuned = build.attach(model, found)
        assert tuned.trainable_params == found.params
        for number, layer in enumerate(layers, start=1):
            own = sum(
                p.numel() for n, p in tuned.named_parameters() if n.startswith(layer.name + ".")
            )
            costs, of = sizes.costs(shape, number), found.sizes.get(number, {})
            assert own == sum(costs[m].fixed + costs[m].unit * size for m, size in of.items())
        tuned.detach()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def t5_base():
    return T5ForConditionalGeneration(T5Config(num_layers=12, d_model=768, d_ff=3072, num_heads=12))


def roberta_base():
    sizes = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}
    return RobertaModel(RobertaConfig(**sizes))


@pytest.mark.parametrize(("make", "layers"), [(t5_base, 24), (roberta_base, 12)])
def test_s4_at_the_papers_sizes(make, layers):
    with torch.device("meta"):
        model = make()
    found = build.sized(model, "s4")
    assert found.design == s4(layers)
    tuned = build.attach(model, found)
    assert tuned.trainable_params == pytest.approx(0.005 * model.num_parameters(), rel=0.02)


@pytest.mark.real
def test_s4_on_minilm():
    model = backbones.load("minilm-l6", device="cpu").model
    ids = torch.tensor([[101, 2023, 2003, 102]])
    with torch.no_grad():
        plain = model(ids).last_hidden_state
        tuned = build.attach(model, build.sized(model, "s4"))
        assert tuned.trainable_params == pytest.approx(0.005 * 22_713_216, rel=0.02)
        assert not torch.equal(model(ids).last_hidden_state, plain)  # prefixes start at random
        tuned.detach()
        assert torch.equal(model(ids).last_hidden_state, plain)


def test_names_and_texts():
    assert build.named("s4", 24) == s4(24)
    assert str(build.named("L", 6)) == "G1[1-6]:L"
    assert str(build.named("G1[1]:A | G2[2]:-", 2)) == "G1[1]:A | G2[2]:-"
    with pytest.raises(FrugalError, match="the design has 6 layers, bert has 2"):
        build.sized(BertModel(BertConfig(**BERT | {"num_hidden_layers": 2})), "G1[1-6]:L")


def test_a_design_for_another_model_is_refused_and_leaves_nothing():
    small, large = (bert(hidden_size=d, **LAYERS) for d in (16, 32))
    found = build.sized(small, "s4", 0.3)
    with pytest.raises(FrugalError, match=f"declares {found.params} parameters, but has"):
        build.attach(large, found)
    build.attach(large, build.sized(large, "s4", 0.3)).detach()


@pytest.mark.parametrize("text", ["s4", "G1[1]:- | G2[2-3]:A,L | G3[4-5]:- | G4[6]:P,B,L", "L"])
def test_flops_are_those_that_torch_counts(text):
    model = bert(attn_implementation="eager", **LAYERS)
    model.pooler = None
    shape = arch.from_config(model.config)
    found = build.sized(model, text, 0.3)
    tuned = build.attach(model, found)
    ids = torch.arange(7)[None]
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(ids)
    with FlopCounterMode(display=False) as step:
        model(ids).last_hidden_state.sum().backward()
    tuned.detach()
    part = build.Part(found)
    assert part.flops(shape, 7, train=False) == forward.get_total_flops()
    assert part.flops(shape, 7, train=True) == step.get_total_flops()


def test_flops_of_a_design_are_an_encoders():
    model = MODELS["llama"]()
    part = build.Part(build.sized(model, "L", 0.3))
    with pytest.raises(FrugalError, match="is no encoder, but decoder-only"):
        part.flops(arch.from_config(model.config), 7, train=False)
