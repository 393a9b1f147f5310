"""The closed forms against torch's own counter and transformers' own models, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import FAMILIES, build, counted, ids

from frugal.costs import arch, flops, methods

EXAMPLES = settings(max_examples=25, deadline=None)
families = pytest.mark.parametrize("family", FAMILIES)
lengths = st.integers(1, 40)


def call(model, family, batch, prompt, target):
    if family == "t5":
        return model(input_ids=ids(batch, prompt), decoder_input_ids=ids(batch, target)).logits
    out = model(input_ids=ids(batch, prompt))
    return out.logits if hasattr(out, "logits") else out.pooler_output


def shape(family, prompt, target):
    return {"prompt_tokens": prompt} | ({"target_tokens": target} if family == "t5" else {})


@families
@EXAMPLES
@given(data=st.data())
def test_params_equal_transformers(family, data):
    model_class, configs = FAMILIES[family]
    config = data.draw(configs)
    model = build(model_class, config)
    assert arch.from_config(config).params == sum(p.numel() for p in model.parameters())


@families
@EXAMPLES
@given(data=st.data(), prompt=lengths, target=lengths, batch=st.integers(1, 3))
def test_forward_equals_flop_counter(family, data, prompt, target, batch):
    model_class, configs = FAMILIES[family]
    config = data.draw(configs)
    model = build(model_class, config)
    with torch.no_grad():
        truth = counted(lambda: call(model, family, batch, prompt, target))
    parts = flops.forward(arch.from_config(config), batch=batch, **shape(family, prompt, target))
    assert sum(parts.values()) == truth


def scaled(module, names):
    """A learned vector behind each named linear layer's output, or in front of its input."""
    for name, layer in list(module.named_modules()):
        end = name.split(".")[-1]
        if end in names["out"]:
            size = layer.weight.shape[0]
            vector = torch.nn.Parameter(torch.ones(size, device="meta"))
            layer.register_forward_hook(lambda _, __, out, v=vector: out * v)
        elif name.endswith(names["in"]):
            size = layer.weight.shape[1]
            vector = torch.nn.Parameter(torch.ones(size, device="meta"))
            layer.register_forward_pre_hook(lambda _, args, v=vector: (args[0] * v,))


def lora(module, ends, rank):
    for name, layer in list(module.named_modules()):
        if name.endswith(ends) and isinstance(layer, torch.nn.Linear):
            a = torch.nn.Parameter(torch.zeros(rank, layer.in_features, device="meta"))
            b = torch.nn.Parameter(torch.zeros(layer.out_features, rank, device="meta"))
            layer.register_forward_hook(
                lambda _, args, out, a=a, b=b: (
                    out + torch.nn.functional.linear(torch.nn.functional.linear(args[0], a), b)
                )
            )


IA3_SITES = {
    "t5": {"out": ("k", "v"), "in": ("wo",)},
    "llama": {"out": ("k_proj", "v_proj"), "in": ("down_proj",)},
    "bert": {"out": ("key", "value"), "in": ("output.dense",)},
}
LORA_SITES = {
    "t5": (".q", ".k", ".v", ".o", ".wi", ".wi_0", ".wi_1", ".wo"),
    "llama": ("_proj",),
    "bert": (".query", ".key", ".value", "output.dense", "intermediate.dense"),
}


def prepare(model, family, method):
    """Freeze and extend `model` as `method` does."""
    model.requires_grad_(method == "full")
    if method == "layernorm":
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() or "ln_" in name:
                parameter.requires_grad_(True)
    if method == "head":
        head = model.get_output_embeddings() or model.pooler
        # A tied table would train the embeddings as well, which is another method.
        if not isinstance(head, torch.nn.Module) or family != "bert":
            head.weight = torch.nn.Parameter(head.weight.detach().clone())
        head.requires_grad_(True)
    if method == "ia3":
        sites = dict(IA3_SITES[family])
        if family == "bert":  # the attention's output is called output.dense too
            for layer in model.encoder.layer:
                scaled(layer.attention.self, {"out": sites["out"], "in": ("-",)})
                scaled(layer.output, {"out": (), "in": ("dense",)})
        else:
            scaled(model, sites)
    if method == "lora":
        lora(model, LORA_SITES[family], methods.get("lora").rank)


@pytest.mark.parametrize("method", ["full", "ia3", "lora", "layernorm", "head"])
@pytest.mark.parametrize("family", ["t5", "llama", "bert"])
@settings(max_examples=12, deadline=None)
@given(data=st.data(), prompt=lengths, target=lengths, batch=st.integers(1, 3))
def test_train_step_equals_flop_counter(family, method, data, prompt, target, batch):
    model_class, configs = FAMILIES[family]
    config = data.draw(configs)
    model = build(model_class, config)
    prepare(model, family, method)
    truth = counted(lambda: call(model, family, batch, prompt, target).sum().backward())
    parts = flops.train_step(
        arch.from_config(config), batch=batch, method=method, **shape(family, prompt, target)
    )
    assert sum(parts.values()) == truth
