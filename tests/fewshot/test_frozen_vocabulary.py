"""Scoring and training through a frozen vocabulary: the same numbers, without all its logits."""

import pytest
import torch
from architectures import build, examples, plain
from transformers import LlamaConfig, LlamaForCausalLM

from allocations import Largest
from frugal import peft
from frugal.engine.backbones import Backbone
from frugal.engine.tiny import byte_tokenizer
from frugal.fewshot import choices, encoding, losses, passes, probe
from frugal.kernels import frozen_vocab
from frugal.tasks.templates import Example

WORDS = 50_000


@pytest.fixture(scope="module")
def large():
    """A tiny model with a large vocabulary."""
    tokenizer = byte_tokenizer()
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(
        vocab_size=WORDS, num_attention_heads=2, pad_token_id=tokenizer.pad_token_id, **sizes
    )
    torch.manual_seed(0)
    return Backbone("large", LlamaForCausalLM(config).eval(), tokenizer, "causal")


def many(count, n_choices):
    names = tuple(f" {'ab' * (j % 4)}{j}" for j in range(n_choices))
    return [Example(prompt=f"Q{i}:", choices=names, label=i % n_choices) for i in range(count)]


@pytest.fixture
def used(monkeypatch):
    """Where the kernel was called, as the numbers of its places."""
    calls, own = [], frozen_vocab.token_logp

    def noted(h, *more):
        calls.append(len(h))
        return own(h, *more)

    monkeypatch.setattr(frozen_vocab, "token_logp", noted)
    return calls


def test_scoring_holds_no_tensor_of_places_by_words(large, used):
    some = many(32, 77)
    assert probe.packs(large)  # which scores a few made-up texts alone
    with Largest() as largest:
        scores = choices.score(large, some)
    assert len(scores.example) == 32 * 77
    assert largest.elements <= frozen_vocab.BLOCK
    assert max(used) * WORDS > 4 * frozen_vocab.BLOCK
    own = plain(large, encoding.encode(large, some[:1]))
    torch.testing.assert_close(scores.token_logp[: len(own)], own, atol=1e-5, rtol=1e-5)


def test_a_training_step_holds_none_either(large, used):
    encoded = encoding.encode(large, many(4, 77))
    tuned = peft.attach(large.model, "ia3")
    with Largest() as largest:
        scores = choices.together(large, encoded)
        sum(loss(scores) for loss in losses.LOSSES.values()).backward()
    assert largest.elements <= frozen_vocab.BLOCK < used[-1] * WORDS
    assert all(p.grad.any() for p in tuned.parameters())
    tuned.detach()


@pytest.mark.parametrize(
    ("family", "kind"), [("causal", "llama"), ("causal", "gptj"), ("encoder-decoder", "t5")]
)
def test_losses_and_gradients_are_those_of_each_choice_alone(family, kind, used):
    """GPT-J's vocabulary has a bias; T5 scales what it reads."""
    backbone = build(family, kind)
    encoded = encoding.encode(backbone, examples()[0])
    head = backbone.model.get_output_embeddings()
    for p in head.parameters():
        p.requires_grad_(False)
    trained = [p for p in backbone.model.parameters() if p.requires_grad]
    found = []
    for packed in (True, False):
        scores = choices.together(backbone, encoded, packed=packed)
        each = torch.stack([loss(scores) for loss in losses.LOSSES.values()])
        found.append((each.detach(), torch.autograd.grad(each.sum(), trained, allow_unused=True)))
    assert used
    (loss, mine), (expected, theirs) = found
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(mine, theirs, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()) + 1e-8)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gemma2", {"final_logit_softcapping": 0.5}),
        ("cohere2", {"logit_scale": 0.25}),
        ("granite", {"logits_scaling": 3.0}),
    ],
)
def test_what_a_model_does_behind_its_vocabulary_is_done(kind, more, used):
    backbone, some = build("causal", kind, **more), examples()[0]
    scores = choices.score(backbone, some)
    own = plain(build("causal", kind, **more), encoding.encode(backbone, some))
    torch.testing.assert_close(scores.token_logp, own, atol=1e-5, rtol=1e-5)
    assert scores.packed
    assert not used


@pytest.mark.parametrize("changed", [lambda x: x.mul_(2), lambda x: x + 1e-3 * x.sign(), torch.abs])
def test_whatever_a_model_does_behind_its_vocabulary_is_found(changed, used):
    backbone = build("causal", "llama")
    whole = backbone.model.forward

    def forward(**inputs):
        found = whole(**inputs)
        found.logits = changed(found.logits)
        return found

    backbone.model.forward = forward
    encoded = encoding.encode(backbone, examples()[0])
    with torch.no_grad():
        found, own = (choices.together(backbone, encoded, packed=p) for p in (True, False))
    torch.testing.assert_close(found.token_logp, own.token_logp, atol=1e-5, rtol=1e-5)
    assert not used


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halfs_use_it_too(dtype, used):
    backbone = build("causal", "llama")
    backbone.model.to(dtype)
    encoded = encoding.encode(backbone, examples()[0])
    with torch.no_grad():
        found, own = (choices.together(backbone, encoded, packed=p) for p in (True, False))
    assert used
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.token_logp, own.token_logp, atol=8 * eps, rtol=8 * eps)


def test_a_vocabulary_that_is_trained_or_listened_to_is_run_by_the_model(used):
    backbone = build("causal", "llama")
    encoded = encoding.encode(backbone, examples()[0])
    head = backbone.model.get_output_embeddings()
    choices.together(backbone, encoded).sum_logp.sum().backward()
    assert head.weight.grad.any()
    with torch.no_grad():
        scores = choices.together(backbone, encoded)
        assert len(used) == 1
        used.clear()
        handle = head.register_forward_hook(lambda _, args, output: 2 * output)
        doubled = choices.together(backbone, encoded)
        handle.remove()
    assert not used
    assert not torch.allclose(scores.token_logp, doubled.token_logp)
    assert "forward" not in vars(head)


def test_the_vocabulary_is_whole_again_after_an_error(monkeypatch):
    backbone = build("causal", "llama")
    encoded = encoding.encode(backbone, examples()[0])

    def fails(*_):
        raise RuntimeError("no")

    monkeypatch.setattr(passes, "_logits", fails)
    with pytest.raises(RuntimeError), torch.no_grad():
        choices.together(backbone, encoded)
    assert "forward" not in vars(backbone.model.get_output_embeddings())
