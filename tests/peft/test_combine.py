"""Methods together, on some layers or on each its own; and what is refused."""

import pytest
import torch
from transformers import OPTConfig, OPTModel

from frugal import peft
from frugal.errors import FrugalError
from tiny_models import MODELS, build, loss, randomise, run

DESIGN = {
    0: {"adapter": {"size": 4}, "lora": {"rank": 2}},
    1: {"prefix": {"tokens": 3}, "bitfit": {}, "lora": {"rank": 1}, "adapter": {"size": 4}},
}


@pytest.mark.parametrize("name", MODELS)
def test_each_layer_has_its_own_methods_and_the_others_are_frozen(name, tmp_path):
    model = build(name)
    base = run(model)
    tuned = peft.attach(model, DESIGN)
    assert tuned.method == "bitfit+lora+adapter+prefix"
    alone = 0
    for layer, methods in DESIGN.items():
        for method, options in methods.items():
            tuned.detach()
            alone += (one := peft.attach(model, method, options, layers=[layer])).trainable_params
            one.detach()
            tuned = peft.attach(model, DESIGN)
    assert tuned.trainable_params == alone
    randomise(tuned.parameters())
    loss(model).backward()
    assert all(p.grad is not None for p in tuned.parameters())
    assert all(p.grad is None for p in model.parameters())
    expected = run(model)
    tuned.save(tmp_path)
    tuned.detach()
    assert torch.equal(run(model), base)
    loaded = peft.load(model, tmp_path)
    assert torch.equal(run(model), expected)
    assert loaded.parts == tuned.parts


@pytest.mark.parametrize("name", MODELS)
def test_merged_together_is_hooked_together(name):
    model = build(name)
    tuned = peft.attach(model, {"ia3": {}, "layernorm": {}, "lora": {"rank": 2}})
    randomise(tuned.parameters(), 0.1)
    expected = run(model)
    tuned.merge()
    assert torch.allclose(run(model), expected, atol=1e-5)
    tuned.unmerge()
    assert torch.equal(run(model), expected)


def test_a_parameter_that_two_methods_train_is_trained_once():
    model = build("bert")  # its norms have biases
    tuned = peft.attach(model, {"bitfit": {}, "layernorm": {}})
    counts = {m: peft.attach(build("bert"), m).trainable_params for m in ("bitfit", "layernorm")}
    assert tuned.trainable_params == sum(counts.values()) - 2 * 2 * 16
    randomise(tuned.parameters())
    loss(model).backward()
    assert all(p.grad is not None for p in tuned.parameters())


def test_layers_restrict_a_method():
    model = build("t5-v1.1")
    whole = peft.attach(model, "lora")
    whole.detach()
    names = {n for n, _ in whole.named_parameters()}
    some = peft.attach(model, "lora", layers=[4, 1])  # of 2 + 3
    found = {n for n, _ in some.named_parameters()}
    assert found == {n for n in names if n.startswith(("encoder.block.1.", "decoder.block.2."))}


def opt():
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "ffn_dim": 16}
    return OPTModel(OPTConfig(num_attention_heads=2, word_embed_proj_dim=16, **sizes))


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("ia33", None, "unknown method 'ia33'; did you mean 'ia3'"),
        ("ia3", {"rank": 4}, "unknown option of 'ia3': 'rank'; known: targets"),
        ("full", {"rank": 4}, "unknown option of 'full'"),
        ("lora", {"rnak": 4}, "did you mean 'rank'"),
        ("lora", {"rank": 0}, "rank must be a whole number of at least 1, not 0"),
        ("lora", {"targets": ["key"]}, "unknown role of a projection 'key'"),
        ("lora", {"alpha": "4"}, "lora: .'alpha': '4'. do not serve"),
        ("adapter", {"placement": "parallel"}, "unknown placement 'parallel'"),
        ("compacter", {"n": 3}, "n = 3 does not divide"),
        ("fish", {"share": 2}, "share = 2"),
        ("fish", None, "give `losses`"),
        ("said", {"dimension": 3}, "dimension must exceed"),
        ({"lora": {}}, {"rank": 4}, "each brings its own"),
        ({0: {"lora": {}}, "ia3": {}}, None, "name either layers or methods"),
        ({7: {"lora": {}}}, None, "there is no layer 7; the model has 0 to 1"),
        ({0: {"prompt": {}}}, None, "cannot be restricted to layers"),
        ({"full": {}, "said": {"dimension": 400}}, None, "goes with no other method"),
        ({}, None, "no method"),
    ],
)
def test_bad_input_has_one_clear_error_and_leaves_the_model_alone(what, options, message):
    model = build("llama")
    with pytest.raises(FrugalError, match=message):
        peft.attach(model, what, options)
    assert all(p.requires_grad for p in model.parameters())
    peft.attach(model, "ia3")
    with pytest.raises(FrugalError, match="attached already"):
        peft.attach(model, "ia3")


def test_unsupported_architectures_are_told_what_was_found():
    with pytest.raises(FrugalError, match=r"OPTModel is not supported: .*OPTDecoderLayer"):
        peft.attach(opt(), "ia3")
