"""Packed scoring against a plain one-row-per-choice computation written here from scratch."""

import itertools

import pytest
import torch

from frugal.engine import backbones
from frugal.fewshot import choices, encoding, losses, packing, passes
from frugal.tasks import Example


@pytest.fixture(scope="module")
def tiny():
    return backbones.load("tiny-causal")


def plain_scores(backbone, examples):
    """ChoiceScores by one forward pass per choice, nothing shared, nothing padded."""
    logps, choice, example, correct = [], [], [], []
    for i, e in enumerate(examples):
        for j, text in enumerate(e.choices):
            prompt = backbone.tokenizer(e.prompt.rstrip()).input_ids
            whole = backbone.tokenizer(e.prompt + text).input_ids
            ids = torch.tensor([whole], device=backbone.device)
            logits = backbone.model(ids).logits[0].log_softmax(-1)
            logp = [logits[t - 1, whole[t]] for t in range(len(prompt), len(whole))]
            choice += [len(example)] * len(logp)
            logps += logp
            example.append(i)
            correct.append(j == e.label)
    numbers = (torch.tensor(n, device=backbone.device) for n in (choice, example, correct))
    return choices.ChoiceScores(torch.stack(logps), *numbers, 0)


def make(count, n_choices, *, context=""):
    """Examples of unequal prompts, whose choices share beginnings and differ in length."""
    examples = []
    for i in range(count):
        names = [f" {'ab' * (j % 4)}{j}{'!' * (j % 3)}" for j in range(n_choices)]
        prompt = f"{context}Q{i}: {'word ' * (i % 3 + 1)}\nA:"
        examples.append(Example(prompt=prompt, choices=tuple(names), label=(i * 5) % n_choices))
    return examples


def total(scores):
    return torch.stack([loss(scores) for loss in losses.LOSSES.values()]).sum()


def packed_scores(backbone, examples, *, uses_prefix, one_row=False):
    encoded = encoding.encode(backbone, examples)
    behind = packing.shared_prefix(encoded, uses=10**6) if uses_prefix else 0
    assert bool(behind) == uses_prefix
    cache = passes.prefix_cache(backbone, encoded[0].sequences[0][:behind]) if behind else None
    trees = [packing.tree(e, behind) for e in encoded]
    numbers = list(range(len(trees)))
    rows = [numbers] if one_row else [[i] for i in numbers]
    return choices.forward(backbone, packing.pack(trees, rows, backbone.device), cache), rows


@pytest.mark.parametrize(
    ("n_choices", "uses_prefix", "one_row"),
    [*itertools.product([2, 7], [False, True], [False, True]), (77, True, True)],
)
def test_packed_loss_and_gradients_equal_one_row_per_choice(tiny, n_choices, uses_prefix, one_row):
    examples = make(3, n_choices, context="Pick one.\n" if uses_prefix else "")
    examples += make(1, max(2, n_choices // 2), context="Pick one.\n" if uses_prefix else "")
    if not uses_prefix:
        examples[0] = examples[0].model_copy(update={"prompt": "another start"})
    model = tiny.model
    results = []
    for scores in (
        packed_scores(tiny, examples, uses_prefix=uses_prefix, one_row=one_row)[0],
        plain_scores(tiny, examples),
    ):
        model.zero_grad()
        loss = total(scores)
        loss.backward()
        results.append((scores, loss.detach(), [p.grad.clone() for p in model.parameters()]))
    (packed, loss, grads), (plain, plain_loss, plain_grads) = results
    torch.testing.assert_close(packed.token_logp, plain.token_logp, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0)
    for grad, reference in zip(grads, plain_grads, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(grad, reference, rtol=1e-5, atol=1e-5 * scale)
    assert torch.equal(packed.choice, plain.choice)
    assert torch.equal(packed.example, plain.example)
    assert torch.equal(packed.correct, plain.correct)
