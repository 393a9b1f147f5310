"""int8 linear layers, joined and alone, in three families of models, under every method."""

import copy
import functools
import gc
import re

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from frugal import peft
from frugal.engine import backbones, training
from frugal.engine.checkpoints import Checkpoint
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, passes, probe
from frugal.kernels import int8, int8_products
from frugal.tasks import Example

FAMILIES = ("tiny-causal", "tiny-t5", "tiny-encoder", "gpt2")
TRAIN_WEIGHTS = ("full", "fish", "said")
OPTIONS = {"adapter": {"size": 8}, "compacter": {"size": 8}, "compacter++": {"size": 8}}
METHODS = [name for name in peft.METHODS if name not in TRAIN_WEIGHTS]
families = pytest.mark.parametrize("name", FAMILIES)
# What is more about adapters than layers: with cross-attention, and with GPT-2's own layers.
two_families = pytest.mark.parametrize("name", ["tiny-t5", "gpt2"])
methods = pytest.mark.parametrize("method", METHODS)
IDS = torch.tensor([[72, 101, 108, 108, 111, 32], [84, 104, 101, 114, 101, 33]])


def model_of(name):
    """The same random model every time, whose norms and biases are not what they start as."""
    if name == "gpt2":
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=258, n_embd=32, n_layer=2, n_head=4)).eval()
    else:
        model = backbones.load(name, device="cpu").model
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return model


def batch(model, ids=IDS):
    decoder = {"decoder_input_ids": ids[:, :4]} if model.config.is_encoder_decoder else {}
    return {"input_ids": ids, **decoder}


def run(model, ids=IDS):
    """Logits, or an encoder's last states."""
    return model(**batch(model, ids))[0]


def loss(model):
    return run(model).float().log_softmax(-1)[..., 3].mean().neg()


def int8_of(name, smoothed=True):
    return copy.deepcopy(_converted(name, smoothed))


@functools.cache
def _converted(name, smoothed):
    model = model_of(name)
    int8.convert(model, [batch(model)] if smoothed else [])
    return model


def attach(model, method):
    torch.manual_seed(2)
    return peft.attach(model, method, OPTIONS.get(method))


def randomise(tuned, scale=0.3):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in tuned.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))


def cosine(a, b):
    a, b = (torch.cat([t.detach().flatten().double() for t in ts]) for ts in (a, b))
    return float(a @ b / (a.norm() * b.norm()))


def layer(inputs=24, outputs=40, bias=False, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(inputs, outputs, bias=bias)


def buffers(joined):
    return joined.weights


def test_under_autocast_it_answers_as_a_float_layer_does():
    one = layer(bias=True)
    (found,) = int8.quantised([one])
    x = torch.randn(3, 24, requires_grad=True)
    expected = found(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = found(x)
        assert y.dtype == one(x).dtype == torch.bfloat16
        y.sum().backward()
    assert torch.allclose(y.float(), expected, rtol=0.01, atol=0.01)
    assert x.grad.dtype == torch.float32


def test_no_tokens_are_no_error():
    (found,) = int8.quantised([layer()])
    assert found(torch.empty(0, 24)).shape == (0, 40)


def test_a_silent_channel_that_speaks_later_does_no_harm():
    one = layer()
    inputs = torch.ones(24)
    inputs[3] = 0
    x = torch.randn(50, 24)
    errors = [
        (int8.quantised([one], seen)[0](x) - one(x)).square().mean() for seen in (None, inputs)
    ]
    assert errors[1] < 3 * errors[0]


class Layers(nn.Module):
    """Three maps that read one input."""

    def __init__(self):
        super().__init__()
        self.each = nn.ModuleList(
            int8.quantised([layer(outputs=n, bias=True, seed=n) for n in (8, 16, 24)])
        )

    @property
    def joined(self):
        return self.each[0].joined


@pytest.fixture
def products(monkeypatch):
    """Counts products of integers."""
    calls = []

    def counted(a, b, product=int8_products.product):
        calls.append(b.shape)
        return product(a, b)

    monkeypatch.setattr(int8_products, "product", counted)
    return calls


def test_maps_that_read_one_tensor_make_one_product_and_keep_nothing(products):
    layers, x = Layers(), torch.randn(4, 24, requires_grad=True)
    found = [one(x) for one in layers.each]
    assert products == [(24, 48)]
    assert layers.joined._kept is None
    sum(f.square().sum() for f in found).backward()
    assert products == [(24, 48), (48, 24)]
    alone = [int8.quantised([layer(outputs=n, bias=True, seed=n)])[0] for n in (8, 16, 24)]
    for f, one in zip(found, alone, strict=True):
        assert torch.equal(f, one(x))


def test_what_is_not_taken_goes_with_the_tensor(products):
    layers = Layers()
    x = torch.randn(4, 24)
    layers.each[1](x)
    assert set(layers.joined._kept.outputs) == {0, 2}
    del x
    gc.collect()
    assert layers.joined._kept is None


def test_another_tensor_a_changed_one_and_another_mode_are_computed_anew(products):
    layers = Layers()
    first, last = layers.each[0], layers.each[2]
    x = torch.randn(4, 24)
    first(x)
    expected = last(y := x + 1)
    assert len(products) == 2
    first(x)
    x += 1
    assert torch.equal(last(x), expected)
    assert len(products) == 4
    with torch.no_grad():
        first(y.requires_grad_())
    assert last(y).requires_grad
    assert len(products) == 6
    last(y)
    assert len(products) == 7  # each product is taken once
    with torch.inference_mode():
        z = torch.randn(4, 24)
        first(z), last(z)
    assert len(products) == 8


def test_only_some_of_the_outputs_are_used():
    layers, x = Layers(), torch.randn(4, 24, requires_grad=True)
    outputs = [one(x) for one in layers.each]
    (one,) = torch.autograd.grad(outputs[1].sum(), x)
    alone = int8.quantised([layer(outputs=16, bias=True, seed=16)])[0]
    (expected,) = torch.autograd.grad(alone(x).sum(), x)
    assert torch.equal(one, expected)


def test_copied_cast_and_moved():
    layers = Layers()
    x = torch.randn(4, 24)
    expected = layers.each[0](x)
    twin = copy.deepcopy(layers)
    assert twin.each[0].joined is twin.each[1].joined
    assert torch.equal(twin.each[0](x), expected)
    twin.to(torch.bfloat16).to("cpu", torch.float32)
    for a, b in zip(buffers(twin.joined), buffers(layers.joined), strict=True):
        assert torch.equal(a, b)
    fresh = Layers()
    fresh.joined.weight.zero_()
    fresh.load_state_dict(layers.state_dict())
    assert torch.equal(fresh.each[0](x), expected)


def test_the_weights_are_a_quarter():
    one = layer(576, 1536)
    (found,) = int8.quantised([one])
    size = sum(t.nbytes for t in [*found.parameters(), *found.buffers()])
    assert size < 0.26 * one.weight.nbytes
    assert (found.in_features, found.out_features) == (576, 1536)


# Models


def linear(model):
    return {n: m for n, m in model.named_modules() if isinstance(m, int8.Int8Linear)}


GROUPS = {
    "tiny-causal": {"q_proj k_proj v_proj", "o_proj", "gate_proj up_proj", "down_proj"},
    "tiny-t5": {"q k v", "q", "k v", "o", "wi_0 wi_1", "wo"},
    "tiny-encoder": {"query key value", "dense"},
    "gpt2": {"c_attn", "c_proj", "c_fc"},
}


@families
def test_every_linear_layer_of_the_stacks_is_int8_and_nothing_else(name):
    model = model_of(name)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    expected = run(model)
    int8.convert(model, [batch(model)])
    found = linear(model)
    projections = [p for at in peft.surgery.layers(model) for p in at.projections()]
    assert {p.name for p in projections} == set(found)
    after = dict(model.named_parameters())
    assert set(before) - set(after) == {f"{n}.weight" for n in found}
    assert all(torch.equal(after[n], before[n]) for n in set(before) & set(after))
    assert {p.dtype for n, p in after.items() if n not in before} == {torch.int8}
    assert sum(p.numel() for p in after.values()) == sum(p.numel() for p in before.values())
    groups = {}
    for at, module in found.items():
        groups.setdefault(id(module.joined), []).append(at.rpartition(".")[2])
    assert {" ".join(names) for names in groups.values()} == GROUPS[name]
    answer = run(model)
    assert cosine([answer], [expected]) > 0.999
    assert all(module.joined._kept is None for module in found.values())


@families
def test_each_layer_knows_its_shape_as_it_was(name):
    kept = {p.key: p for at in peft.surgery.layers(model_of(name)) for p in at.projections()}
    model = int8_of(name)
    for at in peft.surgery.layers(model):
        for p in at.projections():
            was = kept[p.key]
            assert (p.in_features, p.out_features) == (was.in_features, was.out_features)
            assert (p.conv1d, p.fused, p.outputs) == (was.conv1d, was.fused, was.outputs)
            whole = p.module.joined
            c, s = 1 / whole.shrink, whole.scale.split(whole.sizes)[p.module.index]
            dequantised = p.weight() * s[p.outputs, None] / c
            assert (dequantised - was.weight()).abs().amax() <= (s.max() / c.min()) * 0.51


def test_tied_weights_stay():
    model = model_of("tiny-causal")
    first, second = (at.mlp for at in model.model.layers)
    second.down_proj.weight = first.down_proj.weight
    int8.convert(model, [batch(model)])
    assert type(first.down_proj) is type(second.down_proj) is nn.Linear
    assert first.down_proj.weight is second.down_proj.weight
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert type(first.up_proj) is int8.Int8Linear


def test_a_model_that_cannot_be_converted_says_why():
    model = int8_of("tiny-causal")
    with pytest.raises(FrugalError, match="no linear layer that could be int8"):
        int8.convert(model)
    model = model_of("tiny-causal")
    peft.attach(model, "ia3")
    with pytest.raises(FrugalError, match=r"k_proj has something attached; make the model int8"):
        int8.convert(model)


def outliers(model):
    """The same function, with a few channels as loud as those of a trained model."""
    with torch.no_grad():
        for at in model.model.layers:
            attention, mlp = at.self_attn, at.mlp
            at.input_layernorm.weight[[3, 17]] *= 200
            at.post_attention_layernorm.weight[[3, 17]] *= 200
            for reader in (attention.q_proj, attention.k_proj, attention.v_proj):
                reader.weight[:, [3, 17]] /= 200
            for reader in (mlp.gate_proj, mlp.up_proj):
                reader.weight[:, [3, 17]] /= 200
            at.mlp.up_proj.weight[5] *= 1000
            at.mlp.down_proj.weight[:, 5] /= 1000


def test_smoothing_keeps_the_gradient_where_channels_are_loud():
    gradients = {}
    for kind in ("fp32", "int8", "smoothed"):
        model = model_of("tiny-causal")
        outliers(model)
        if kind != "fp32":
            texts = torch.randint(0, 256, (4, 20), generator=torch.Generator().manual_seed(5))
            int8.convert(model, [{"input_ids": texts}] if kind == "smoothed" else [])
        tuned = attach(model, "ia3")
        loss(model).backward()
        gradients[kind] = [p.grad for p in tuned.parameters()]
    assert cosine(gradients["smoothed"], gradients["fp32"]) >= 0.98
    assert cosine(gradients["int8"], gradients["fp32"]) < 0.9


@families
@methods
def test_a_method_attaches_trains_saves_and_goes(name, method, tmp_path):
    model = int8_of(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    base = run(model)
    tuned = attach(model, method)
    randomise(tuned)
    loss(model).backward()
    for place, p in tuned.named_parameters():
        if not re.search(r"(\.k|key|k_proj)\.bias$", place):
            assert p.grad.abs().sum() > 0, place
    assert all(p.grad is None for p in model.parameters())
    expected = run(model)
    assert not torch.allclose(expected, base, atol=1e-3)
    tuned.save(tmp_path)
    tuned.detach()
    assert torch.equal(run(model), base)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    peft.load(model, tmp_path)
    assert torch.equal(run(model), expected)


@families
@methods
def test_gradients_are_those_of_fp32(name, method):
    gradients = []
    for model in (model_of(name), int8_of(name)):
        tuned = attach(model, method)
        randomise(tuned, 0.1)
        loss(model).backward()
        gradients.append([p.grad for p in tuned.parameters()])
    assert cosine(*gradients) >= 0.98


@two_families
@methods
def test_an_adapter_goes_from_one_precision_to_the_other(name, method, tmp_path):
    models = [model_of(name), int8_of(name)]
    for i, (here, there) in enumerate((models, models[::-1])):
        tuned = attach(here, method)
        randomise(tuned, 0.1)
        expected = run(here)
        tuned.save(tmp_path / str(i))
        tuned.detach()
        loaded = peft.load(there, tmp_path / str(i))
        assert cosine([run(there)], [expected]) > 0.999
        loaded.detach()
    configs = [sorted((tmp_path / i).glob("*config.json")) for i in "01"]
    for a, b in zip(*configs, strict=True):
        assert a.read_text() == b.read_text()


def test_an_adapter_of_another_model_is_refused(tmp_path):
    tuned = attach(int8_of("tiny-causal"), "ia3")
    tuned.save(tmp_path)
    other = model_of("tiny-causal")
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    int8.convert(other)
    with pytest.raises(FrugalError, match="whose weights are not those of this one"):
        peft.load(other, tmp_path)


@families
@pytest.mark.parametrize("method", TRAIN_WEIGHTS)
def test_what_trains_the_weights_is_refused_with_the_reason(name, method):
    model = int8_of(name)
    base = run(model)
    with pytest.raises(FrugalError, match=r"\.weight, which is int8: a step is lost"):
        attach(model, method)
    assert torch.equal(run(model), base)
    assert peft.tuned.of(model) is None


@two_families
@methods
def test_int8_weights_take_no_merge_and_the_others_do(name, method):
    model = int8_of(name)
    tuned = attach(model, method)
    randomise(tuned, 0.1)
    before, expected = {k: v.clone() for k, v in model.state_dict().items()}, run(model)
    if method == "layernorm" or (method == "bitfit" and name == "gpt2"):  # it has biases
        tuned.merge()
        assert torch.allclose(run(model), expected, atol=1e-5)
        tuned.unmerge()
    else:
        reason = "the weights are int8" if method in ("ia3", "lora") else "cannot be merged"
        with pytest.raises(FrugalError, match=reason):
            tuned.merge()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(run(model), expected)


@families
@pytest.mark.parametrize("method", ["ia3", "lora"])
def test_each_row_of_a_batch_has_its_own_task(name, method, tmp_path):
    model = int8_of(name)
    folders, alone = {}, {None: run(model)}
    for i, task in enumerate("ab"):
        tuned = attach(model, method)
        randomise(tuned, 0.1 * (i + 1))
        alone[task] = run(model)
        folders[task] = tuned.save(tmp_path / task)
        tuned.detach()
    mixed = peft.mixed(model, folders)
    for tasks in (["a", "b"], ["b", None]):
        with mixed.tasks(tasks):
            found = run(model)
        for i, task in enumerate(tasks):
            assert cosine([found[i]], [alone[task][i]]) > 0.99999


@two_families
@pytest.mark.parametrize("method", ["ia3", "lora", "bitfit", "prefix"])
def test_half_precision_and_autocast(name, method):
    model = int8_of(name)
    exact = run(model)
    with torch.autocast("cpu", torch.bfloat16):
        tuned = attach(model, method)
        assert tuned.method == method
        loss(model).backward()
    assert all(p.grad.dtype == torch.float32 for p in tuned.parameters())
    tuned.detach()
    half = model_of(name).to(torch.bfloat16)
    int8.convert(half, [batch(half)])
    tuned = attach(half, method)
    loss(half).backward()
    assert all(p.grad.isfinite().all() for p in tuned.parameters())
    tuned.detach()
    assert run(half).dtype == torch.bfloat16
    assert cosine([run(half)], [exact]) > 0.99


@pytest.mark.parametrize("name", ["tiny-causal", "tiny-t5"])
def test_choices_are_packed_and_score_as_each_alone(name):
    backbone = backbones.load(name, device="cpu")
    int8.convert(backbone.model, [batch(backbone.model)])
    assert probe.packs(backbone)
    examples = [
        Example(prompt=f"Is it {word}?", choices=[" yes", " no, never"], label=0)
        for word in ("good", "bad", "something else", "red")
    ]
    encoded = encoding.encode(backbone, examples)
    scores = choices.score(backbone, encoded)
    assert scores.packed
    with torch.no_grad():
        alone = passes.alone(backbone, encoded)
        with int8_products.unrounded():
            exact = passes.alone(backbone, encoded)
            packed = choices.together(backbone, encoded).token_logp
    assert torch.allclose(packed, exact, atol=1e-4)
    # A last digit may turn a rounding; all of them together differ by some tenths.
    assert (scores.token_logp - alone).abs().max() < 0.1
    assert (alone - exact).abs().max() < 0.5


@pytest.mark.parametrize("name", ["tiny-causal", "tiny-t5"])
def test_killed_and_resumed_gives_the_same_bits(name, tmp_path):
    def train(folder, steps):
        model = int8_of(name)  # made anew, as in a process of its own
        tuned = attach(model, "ia3")
        parameters = dict(tuned.named_parameters())
        optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2)

        def backward(step):
            value = loss(model) * (1 + step / 10)
            value.backward()
            return float(value.detach())

        def progress(step, value):
            if step == steps:
                raise KeyboardInterrupt

        losses, _ = training.run(
            parameters,
            optimizer,
            backward,
            steps=6,
            factor=lambda step: 1.0,
            gradient_clip=1.0,
            state=Checkpoint(folder / "state.safetensors", {"recipe": "int8"}),
            every=1,
            progress=progress,
        )
        return losses, [p.detach().clone() for p in parameters.values()]

    losses, whole = train(tmp_path / "whole", 0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", 4)
    again, resumed = train(tmp_path / "killed", 0)
    assert again == losses
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert losses[-1] / 1.5 < losses[0]


@pytest.mark.real
def test_smollm2s_resident_weights_are_less_than_half():
    model = backbones.load("smollm2-135m", device="cpu").model

    def size():
        held = {id(t): t.nbytes for t in (*model.parameters(), *model.buffers())}
        return sum(held.values())

    before = size()
    int8.convert(model)
    assert size() <= 0.45 * before
