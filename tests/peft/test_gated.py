"""(IA)³ in a gated feed-forward as one kernel; here its plain form stands in the kernel's place."""

import pytest
import torch
import transformers as t

import tiny_models
from frugal import peft
from frugal.errors import FrugalError
from frugal.kernels import ia3_gated, int8
from tiny_models import loss, randomise, run

SIZES = tiny_models.SIZES | {"num_key_value_heads": 2}
GATED = {
    "llama": lambda: tiny_models.llama(),
    "llama gelu": lambda: tiny_models.llama(hidden_act="gelu"),
    "llama gelu_pytorch_tanh": lambda: tiny_models.llama(hidden_act="gelu_pytorch_tanh"),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**SIZES)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**SIZES)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, head_dim=4)),
    "t5-v1.1": lambda: tiny_models.t5("gated-gelu"),
    "t5 silu": lambda: tiny_models.t5("gated-silu"),
    "mt5": lambda: t.MT5ForConditionalGeneration(
        t.MT5Config(feed_forward_proj="gated-gelu", **tiny_models.T5)
    ),
}
UNKNOWN = {
    "an activation of its own": lambda: tiny_models.llama(hidden_act="relu"),
    "another of that kind": lambda: tiny_models.llama(hidden_act="quick_gelu"),
    "no gate": lambda: tiny_models.t5("relu"),
    "no such class": lambda: tiny_models.gpt2(),
}
NEAR = {"rtol": 1e-4, "atol": 1e-5}  # of T5's tanh, whose factors are multiplied in another order
IA3 = {"ia3": {}}
BOTH = {"lora": {"rank": 2, "init": 0.1}, "ia3": {}}


def made(build):
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


@pytest.fixture
def kernel(monkeypatch):
    """Whether there is one, as a switch; and what it was called with, in shapes."""

    class Kernel(list):
        def switch(self, on):
            monkeypatch.setattr(ia3_gated, "serves", lambda device: on)

    found = Kernel()

    def gated(gate, up, scale, task, activation):
        assert gate.shape == up.shape
        assert task.shape == gate.shape[:1]
        found.append((len(gate), len(scale), activation))
        return ia3_gated.reference(gate, up, scale, task, activation)

    monkeypatch.setattr(ia3_gated, "gated", gated)
    return found


def both(kernel, model, methods, work):
    """What `work` gives by hooks, and by the kernel, of a method that has left its start."""
    for on in (False, True):
        kernel.switch(on)
        torch.manual_seed(1)  # LoRA draws its start
        tuned = peft.attach(model, methods)
        randomise(tuned.parameters())
        yield work(model, tuned)
        tuned.detach()


def gradients(model, tuned):
    return [run(model).detach(), *torch.autograd.grad(loss(model), list(tuned.parameters()))]


@pytest.mark.parametrize("methods", [IA3, BOTH, {0: IA3, 1: {"lora": {}}}], ids=str)
@pytest.mark.parametrize("name", GATED)
def test_answers_and_gradients_are_those_of_the_hooks(name, methods, kernel):
    model = made(GATED[name])
    base = run(model)
    plain, fused = both(kernel, model, methods, gradients)
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, **NEAR)
    layers = 1 if 0 in methods else len(peft.surgery.layers(model))
    assert len(kernel) == 2 * layers  # `run` and `loss`
    assert {(rows, tasks) for rows, tasks, _ in kernel} == {(3, 1)}
    assert torch.equal(run(model), base)
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_goes_on_by_hooks(name, kernel):
    plain, fused = both(kernel, made(UNKNOWN[name]), IA3, gradients)
    assert not kernel
    for a, b in zip(fused, plain, strict=True):
        assert torch.equal(a, b)


def test_a_forward_that_somebody_changed_is_left_alone(kernel):
    model = made(GATED["llama"])
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x: 2 * type(mlp).forward(mlp, x)
    plain, fused = both(kernel, model, IA3, gradients)
    assert len(kernel) == 2  # of the other layer
    assert torch.equal(fused[0], plain[0])
    assert "forward" in vars(mlp)


@pytest.mark.parametrize("name", ["llama", "t5-v1.1"])
def test_merge_unmerge_and_detach(name, kernel, tmp_path):
    kernel.switch(True)
    model = made(GATED[name])
    base = run(model)
    tuned = peft.attach(model, "ia3")
    randomise(tuned.parameters())
    attached, calls = run(model), len(kernel)
    tuned.merge()
    torch.testing.assert_close(run(model), attached, rtol=1e-5, atol=1e-6)
    assert len(kernel) == calls  # merged, it costs what the model does
    tuned.unmerge()
    assert torch.equal(run(model), attached)
    folder = tuned.save(tmp_path)
    tuned.detach()
    assert torch.equal(run(model), base)
    kernel.switch(False)
    tuned = peft.load(model, folder)
    torch.testing.assert_close(run(model), attached, **NEAR)


@pytest.mark.parametrize("name", ["llama", "t5-v1.1"])
def test_a_batch_of_several_tasks(name, kernel, tmp_path):
    model, folders, found = made(GATED[name]), {}, []
    kernel.switch(False)
    for task in "ab":
        tuned = peft.attach(model, "ia3")
        randomise(tuned.parameters(), scale=0.3 if task == "a" else 0.6)
        folders[task] = tuned.save(tmp_path / task)
        tuned.detach()
    base = run(model)
    for on in (False, True):
        kernel.switch(on)
        mixed = peft.mixed(model, folders)
        with mixed.tasks(["b", None, "a"]):
            found.append([run(model), *torch.autograd.grad(loss(model), list(mixed.parameters()))])
            with pytest.raises(FrugalError, match="the batch has 2 rows, but tasks names 3"):
                run(model, tiny_models.IDS[:2])
        torch.testing.assert_close(run(model), base, **NEAR)  # outside of `tasks`
        mixed.detach()
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, **NEAR)
    assert {(rows, tasks) for rows, tasks, _ in kernel} == {(3, 3)}
    assert torch.equal(run(model), base)


@pytest.mark.parametrize("name", ["llama", "t5-v1.1"])
@pytest.mark.parametrize("kind", ["int8", "bfloat16", "float16"])
def test_lower_precisions(name, kind, kernel):
    model = made(GATED[name])
    if kind == "int8":
        int8.convert(model)
    elif name == "t5-v1.1" and kind == "float16":
        model.half()
        for m in model.modules():
            if type(m).__name__ == "T5DenseGatedActDense":
                m.wo.float()  # as transformers loads it
    else:
        model.to(getattr(torch, kind))
    plain, fused = both(kernel, model, IA3, gradients)
    assert kernel
    near = {"rtol": 0, "atol": 1e-5} if kind == "int8" else {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(fused[0], plain[0], **near)
    assert fused[0].dtype == plain[0].dtype
    for a, b in zip(fused, plain, strict=True):
        assert torch.cosine_similarity(a.flatten().float(), b.flatten().float(), dim=0) > 0.99


def test_here_there_is_no_kernel():
    model = made(GATED["llama"])
    tuned = peft.attach(model, "ia3")
    assert not ia3_gated.serves(torch.device("cpu"))
    assert not any("forward" in vars(m) for m in model.modules())
    tuned.detach()
