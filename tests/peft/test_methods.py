"""Every method on every family: its start, its gradients, its file, its way back, its training."""

import re

import pytest
import torch

from frugal import peft
from frugal.errors import FrugalError
from tiny_models import IDS, MODELS, build, loss, randomise, run

# What each needs on a model this small.
OPTIONS = {
    "fish": {"share": 0.05},
    "said": {"dimension": 400},
    "adapter": {"size": 8},
    "compacter": {"n": 2, "size": 8},
    "compacter++": {"n": 2, "size": 8},
}
CHANGE_AT_ONCE = ("prefix", "prompt")  # they promise no start at the base model
CANNOT_MERGE = ("adapter", "compacter", "compacter++", "prefix", "prompt")
SOME = ("llama", "gpt2", "t5-v1.1", "bert2bert")
HALVES = [*((name, torch.bfloat16) for name in SOME), ("llama", torch.float16)]
models = pytest.mark.parametrize("name", MODELS)
methods = pytest.mark.parametrize("method", peft.METHODS)


def attach(model, method, **more):
    losses = (run(model, IDS[i : i + 1]).square().mean() for i in range(3))
    return peft.attach(model, method, OPTIONS.get(method), losses=losses, **more)


@models
@methods
def test_start_gradients_file_and_the_way_back(name, method, tmp_path):
    model = build(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    next(model.parameters()).requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    base = run(model)
    tuned = attach(model, method)
    start = run(model)
    assert start.shape == base.shape
    assert torch.allclose(start, base, atol=1e-6) == (method not in CHANGE_AT_ONCE)
    randomise(tuned.parameters())
    loss(model).backward()
    for parameter_name, p in tuned.named_parameters():
        # Nothing here reads BERT's pooler; a key's bias moves all scores of a query alike.
        if not re.search(r"pooler|(\.k|key|k_proj)\.bias$", parameter_name):
            assert p.grad.abs().sum() > 0, parameter_name
    assert all(p.grad is None for p in model.parameters())
    assert tuned.trainable_params == sum(p.numel() for p in tuned.parameters())
    expected = run(model)
    assert not torch.allclose(expected, base, atol=1e-3)
    tuned.save(tmp_path)
    tuned.detach()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert torch.equal(run(model), base)
    loaded = peft.load(model, tmp_path)
    assert torch.equal(run(model), expected)
    assert (loaded.method, loaded.trainable_params) == (method, tuned.trainable_params)


@models
@methods
def test_one_training_step_lowers_the_loss(name, method):
    model = build(name)
    tuned = attach(model, method)
    if method in ("lora", "adapter", "compacter", "compacter++", "said"):
        randomise(tuned.parameters(), 0.1)  # a product of zeros moves by hardly anything at first
    optimizer = torch.optim.SGD(tuned.parameters(), lr=1e-2)
    before = loss(model)
    before.backward()
    optimizer.step()
    assert loss(model) < before


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in MODELS), *HALVES],
)
@methods
def test_merge_is_the_same_function_and_unmerge_the_same_bits(name, method, dtype):
    model = build(name).to(dtype)
    tuned = attach(model, method)
    randomise(tuned.parameters(), 0.1)
    with torch.no_grad():
        for p in tuned.parameters():
            p.view(-1)[0] = 0.0  # lost for good where unmerging divides
    expected = run(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    lacks_biases = method == "bitfit" and name in ("llama", "t5-v1.0", "t5-v1.1")
    if method in CANNOT_MERGE or lacks_biases:
        with pytest.raises(FrugalError, match="cannot be merged"):
            tuned.merge()
    else:
        tuned.merge()
        with pytest.raises(FrugalError, match="already merged"):
            tuned.merge()
        tolerance = 1e-5 if dtype == torch.float32 else 0.1
        assert torch.allclose(run(model).float(), expected.float(), atol=tolerance, rtol=tolerance)
        tuned.unmerge()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(run(model), expected)


@pytest.mark.parametrize(("name", "dtype"), HALVES)
@methods
def test_half_precision_models_keep_their_parameters_in_fp32(name, method, dtype):
    model = build(name).to(dtype)
    tuned = attach(model, method)
    assert {p.dtype for p in tuned.parameters()} == {torch.float32}
    loss(model).backward()
    assert run(model).dtype == dtype


@pytest.mark.parametrize("name", SOME)
@methods
def test_autocast(name, method):
    model = build(name)
    tuned = attach(model, method)
    randomise(tuned.parameters(), 0.05)
    exact = run(model)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(model)
        loss(model).backward()
    assert torch.allclose(found.float(), exact, atol=0.15, rtol=0.1)
    assert all(p.grad.dtype == torch.float32 for p in tuned.parameters() if p.grad is not None)
