"""The closed forms against torch's own counter and transformers' own models, on random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, build, config_of, counted, ids

from frugal.costs import arch, flops, methods, scenario
from frugal.errors import FrugalError

EXAMPLES = settings(max_examples=10, deadline=None)
families = pytest.mark.parametrize("family", FAMILIES)
lengths = st.integers(1, 40)


def call(model, family, batch, prompt, target):
    if family in ("t5", "bert2bert"):
        return model(input_ids=ids(batch, prompt), decoder_input_ids=ids(batch, target)).logits
    out = model(input_ids=ids(batch, prompt))
    return out.logits if hasattr(out, "logits") else out.pooler_output


def shape(family, prompt, target):
    answers = {"target_tokens": target} if family in ("t5", "bert2bert") else {}
    return {"prompt_tokens": prompt} | answers


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
    "bert2bert": {"out": ("key", "value"), "in": ("output.dense",)},
}
LORA_SITES = {
    "t5": (".q", ".k", ".v", ".o", ".wi", ".wi_0", ".wi_1", ".wo"),
    "llama": ("_proj",),
    "bert": (".query", ".key", ".value", "output.dense", "intermediate.dense"),
    "bert2bert": (".query", ".key", ".value", "output.dense", "intermediate.dense"),
}


def prepare(model, family, method):
    """Freeze and extend `model` as `method` does."""
    model.requires_grad_(method == "full")
    if method == "layernorm":
        for name, parameter in model.named_parameters():
            if "norm" in name.lower() or "ln_" in name:
                parameter.requires_grad_(True)
    if method == "head" and family == "bert":
        model.pooler.requires_grad_(True)
    elif method == "head":
        head = model.get_output_embeddings()
        # A tied table would train the embeddings as well, which is another method.
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    if method == "ia3":
        sites = dict(IA3_SITES[family])
        if family.startswith("bert"):  # the attention's output is called output.dense too
            for layer in (m for m in model.modules() if type(m).__name__ == "BertLayer"):
                for attention in ("attention", "crossattention"):
                    if hasattr(layer, attention):
                        inner = getattr(layer, attention).self
                        scaled(inner, {"out": sites["out"], "in": ("-",)})
                scaled(layer.output, {"out": (), "in": ("dense",)})
        else:
            scaled(model, sites)
    if method == "lora":
        lora(model, LORA_SITES[family], methods.get("lora").rank)


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *((f, m) for f in ("t5", "llama", "bert", "bert2bert") for m in methods.METHODS),
        ("gpt2", "full"),  # its fused q, k, v take no separate vectors
        ("gpt2", "layernorm"),
        ("gpt2", "head"),
    ],
)
@settings(max_examples=5, deadline=None)
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


@EXAMPLES
@given(data=st.data(), context=lengths, prompt=lengths)
def test_cached_prefix_equals_flop_counter(data, context, prompt):
    model_class, configs = FAMILIES["llama"]
    config = data.draw(configs)
    model = build(model_class, config)
    with torch.no_grad():
        cache = model(input_ids=ids(1, context), use_cache=True).past_key_values
        truth = counted(lambda: model(input_ids=ids(1, prompt), past_key_values=cache))
    parts = flops.forward(arch.from_config(config), prompt_tokens=prompt, context_tokens=context)
    assert sum(parts.values()) == truth


@EXAMPLES
@given(
    data=st.data(),
    prompt=lengths,
    choices=st.lists(st.integers(1, 6), min_size=1, max_size=4),
)
def test_packed_equals_flop_counter(data, prompt, choices):
    model_class, configs = FAMILIES["llama"]
    config = data.draw(configs)
    model = build(model_class, config)
    fed = sum(t - 1 for t in choices)

    def run():
        hidden = model.model(input_ids=ids(1, prompt + fed)).last_hidden_state
        model.lm_head(hidden[:, prompt - 1 :])

    with torch.no_grad():
        truth = counted(run)
    parts = flops.packed(arch.from_config(config), prompt_tokens=prompt, choice_tokens=choices)
    assert sum(parts.values()) == truth


@pytest.mark.parametrize("family", ["t5", "llama"])
@EXAMPLES
@given(data=st.data(), prompt=lengths, new=st.integers(0, 4))
def test_decoding_with_a_cache_equals_flop_counter(family, data, prompt, new):
    model_class, configs = FAMILIES[family]
    config = data.draw(configs)
    model = build(model_class, config)

    def feed(cache, tokens):
        if family == "llama":
            return model(input_ids=ids(1, tokens), past_key_values=cache, use_cache=True)
        return model(
            encoder_outputs=(encoded,),
            decoder_input_ids=ids(1, tokens),
            past_key_values=cache,
            use_cache=True,
        )

    with torch.no_grad():
        encoded = model.encoder(ids(1, prompt)).last_hidden_state if family == "t5" else None
        cache = feed(None, 1 if family == "t5" else prompt).past_key_values
        truth = counted(lambda: [feed(cache, 1) for _ in range(new)])
    source = {"source_tokens": prompt} if family == "t5" else {}
    context = 1 if family == "t5" else prompt
    parts = flops.decode(arch.from_config(config), new_tokens=new, context_tokens=context, **source)
    assert sum(parts.values()) == truth


def test_parts_roll_up():
    parts = flops.train_step(arch.get("t0-3b"), prompt_tokens=8, method="ia3")
    assert set(flops.roll_up(parts)) == {"forward", "backward"}
    assert sum(flops.roll_up(parts, 2).values()) == sum(parts.values())
    assert "forward/decoder/cross-attention" in flops.roll_up(parts, 3)


def test_freezing_saves_a_third():
    a = arch.get("smollm2-135m")
    once = sum(flops.forward(a, prompt_tokens=100).values())

    def share(method):
        return sum(flops.train_step(a, prompt_tokens=100, method=method).values()) / once

    assert share("full") == 3
    assert 2 < share("ia3") < share("lora") < 2.1


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("t5-small", 60_506_624),
        ("t5-v1_1-small", 76_961_152),
        ("t0-3b", 2_849_757_184),
        ("t0-11b", 11_135_332_352),
        ("smollm2-135m", 134_515_008),
        ("minilm-l6", 22_713_216),
        ("nano-t0", 39_544_122),
        ("roberta-base", 124_645_632),
    ],
)
def test_known_sizes(name, params):
    assert arch.get(name).params == params


@pytest.mark.parametrize("name", arch.names())
def test_known_architectures_equal_transformers(name):
    a = arch.get(name)
    model = build(FAMILIES[a.family][0], config_of(a))
    # transformers 5 ties T5's output projection; the published 1.1 checkpoints do not.
    untied = a.vocabulary * a.d_model if a.family == "t5" and not a.tied else 0
    assert a.params == sum(p.numel() for p in model.parameters()) + untied


@pytest.mark.parametrize("name", arch.names())
def test_nominal_sizes_are_near(name):
    a = arch.get(name)
    if a.nominal_params:
        assert abs(a.params / a.nominal_params - 1) < 0.3
    assert scenario.query_flops(a, query_tokens=7) > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: arch.get("t0-12b"), "did you mean 't0-11b'"),
        (lambda: flops.forward(arch.get("t0-3b"), prompt_tokens=-1), "prompt_tokens"),
        (lambda: flops.forward(arch.get("t0-3b"), prompt_tokens=2.5), "prompt_tokens"),
        (lambda: flops.forward(arch.get("minilm-l6"), prompt_tokens=2, logits_at=1), "logits_at"),
        (lambda: flops.forward(arch.get("llama3-8b"), prompt_tokens=2, logits_at=3), "logits_at"),
        (
            lambda: flops.forward(arch.get("t0-3b"), prompt_tokens=2, context_tokens=1),
            "context_tokens",
        ),
        (
            lambda: flops.packed(arch.get("t0-3b"), prompt_tokens=2, choice_tokens=[]),
            "choice_tokens",
        ),
        (lambda: methods.get("ia4"), "did you mean 'ia3'"),
        (lambda: methods.get("ia3", rank=3), "rank"),
        (lambda: arch.get("llama3-8b").replace(kv_heads=5), "kv_heads"),
        (lambda: arch.from_config(type("Odd", (), {"model_type": "gtp2"})()), "gpt2"),
    ],
)
def test_nonsense_is_one_clear_error(call, message):
    with pytest.raises(FrugalError, match=message):
        call()
