"""The closed forms against torch's own counter and transformers' own models, on random shapes."""

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_models import FAMILIES, build, config_of, counted, ids

from frugal import peft
from frugal.costs import Scenario, arch, flops, methods
from frugal.errors import FrugalError
from frugal.internals import cache_made, cache_named
from tiny_models import llama

ALL = [arch.get(name) for name in arch.names()]
EXAMPLES = settings(max_examples=6, deadline=None)
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


def prepare(model, family, method, options):
    """Freeze and extend `model` as `method` does; what was attached, of the methods of peft."""
    if method != "head":
        return peft.attach(model, method, options)
    model.requires_grad_(False)
    if family == "bert":
        model.pooler.requires_grad_(True)
    else:
        head = model.get_output_embeddings()
        # A tied table would train the embeddings as well, which is another method.
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return None


# What is not its default, so that it suits every shape drawn, or costs something else.
OPTIONS = {
    "lora": [{}, {"rank": 2, "targets": ("q", "v")}, {"targets": ("up", "down")}],
    "ia3": [{}, {"targets": ("q", "o")}, {"targets": ("up",)}],
    "adapter": [{}, {"size": 5, "placement": "houlsby"}],
    "compacter": [{"n": 1, "size": 3, "shared": True}],
    "compacter++": [{"n": 1, "size": 3}],
    "prefix": [{}, {"tokens": 3, "mlp": 7}],
    "prompt": [{}, {"tokens": 3}],
    "bitfit": [{}, {"down": False}],
    "said": [{"dimension": 1000}],
}
# FISH, which is given losses, is below.
TRAINED = [(m, o) for m in methods.METHODS if m != "fish" for o in OPTIONS.get(m, [{}])]
FIRST = [(m, OPTIONS.get(m, [{}])[0]) for m in methods.METHODS if m != "fish"]
EVERY = ("t5", "llama")  # with cross-attention, with fewer heads of K and V
SLOW = ("said",)  # counting its thousands of steps takes seconds


@pytest.mark.parametrize(
    ("family", "method", "options"),
    [
        (f, m, o)
        for f in FAMILIES
        for m, o in (TRAINED if f in EVERY else FIRST)
        if f != "roberta" and (m not in SLOW or f in ("t5", "gpt2"))
    ],
    ids=str,
)
@settings(max_examples=1, deadline=None)
@given(data=st.data(), prompt=lengths, target=lengths, batch=st.integers(1, 3))
def test_a_method_trains_and_costs_what_it_does_once_attached(
    family, method, options, data, prompt, target, batch
):
    assume(prompt > 1)  # not the simplest example, which comes first and says least
    model_class, configs = FAMILIES[family]
    config = data.draw(configs)
    model, a, chosen = (
        build(model_class, config),
        arch.from_config(config),
        methods.get(method, options),
    )
    tuned = prepare(model, family, method, options)
    if tuned:
        assert methods.trainable(a, chosen) == tuned.trainable_params
    truth = counted(lambda: call(model, family, batch, prompt, target).sum().backward())
    parts = flops.train_step(a, batch=batch, method=chosen, **shape(family, prompt, target))
    assert sum(parts.values()) == truth


def test_fish_costs_what_full_fine_tuning_does():
    """At most: a matrix without a trained entry costs less."""
    a = arch.from_config(llama().config)
    bound = sum(flops.train_step(a, prompt_tokens=6, method="fish").values())
    assert bound == sum(flops.train_step(a, prompt_tokens=6, method="full").values())
    tokens = torch.arange(6)[None]
    for share, exact in ((0.9, True), (0.001, False)):
        model = llama(attn_implementation="eager")
        loss = [model(input_ids=tokens).logits.square().mean()]
        tuned = peft.attach(model, "fish", {"share": share}, losses=loss)
        method = methods.get("fish", {"share": share})
        assert tuned.trainable_params == methods.trainable(a, method)
        truth = counted(lambda m=model: m(input_ids=tokens).logits.sum().backward())
        assert truth == bound if exact else truth < bound


def test_methods_and_options_are_those_of_peft():
    assert set(methods.METHODS) - set(peft.METHODS) == {"head"}
    for name, method in peft.METHODS.items():
        known = {f.name: f.default for f in dataclasses.fields(method)}
        assert set(known) == set(methods.METHODS[name].options)
        mine = dataclasses.asdict(methods.METHODS[name])
        for option, default in known.items():
            assert option not in mine or mine[option] == default, (name, option)


@EXAMPLES
@given(data=st.data(), context=lengths, prompt=lengths)
def test_cached_prefix_equals_flop_counter(data, context, prompt):
    model_class, configs = FAMILIES["llama"]
    config = data.draw(configs)
    model = build(model_class, config)
    with torch.no_grad():
        cache = model(input_ids=ids(1, context), use_cache=True)
        named = cache_named(model, cache_made(cache))
        truth = counted(lambda: model(input_ids=ids(1, prompt), **named))
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
            return model(input_ids=ids(1, tokens), **cache_named(model, cache), use_cache=True)
        return model(
            encoder_outputs=(encoded,),
            decoder_input_ids=ids(1, tokens),
            **cache_named(model, cache),
            use_cache=True,
        )

    with torch.no_grad():
        encoded = model.encoder(ids(1, prompt)).last_hidden_state if family == "t5" else None
        cache = cache_made(feed(None, 1 if family == "t5" else prompt))
        truth = counted(lambda: [feed(cache, 1) for _ in range(new)])
    source = {"source_tokens": prompt} if family == "t5" else {}
    context = 1 if family == "t5" else prompt
    parts = flops.decode(arch.from_config(config), new_tokens=new, context_tokens=context, **source)
    assert sum(parts.values()) == truth


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
        ("t5-small", 60_506_624), ("t5-v1_1-small", 76_961_152), ("t0-3b", 2_849_757_184),
        ("t0-11b", 11_135_332_352), ("smollm2-135m", 134_515_008), ("minilm-l6", 22_713_216),
        ("nano-t0", 39_544_122), ("roberta-base", 124_645_632),
    ],
)  # fmt: skip
def test_known_sizes(name, params):
    assert arch.get(name).params == params


# The smallest of each family; sizes are drawn above.
@pytest.mark.parametrize(
    "name", {a.family: a.name for a in sorted(ALL, key=lambda a: -a.params)}.values()
)
def test_known_architectures_equal_transformers(name):
    a = arch.get(name)
    model = build(FAMILIES[a.family][0], config_of(a), device="meta")
    # transformers 5 ties T5's output projection; the published 1.1 checkpoints do not.
    untied = a.vocabulary * a.d_model if a.family == "t5" and not a.tied else 0
    assert a.params == sum(p.numel() for p in model.parameters()) + untied


def test_nominal_sizes_are_near():
    for a in ALL:
        if a.nominal_params:
            assert abs(a.params / a.nominal_params - 1) < 0.3, a.name
        assert Scenario(arch=a).query_flops() > 0


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
