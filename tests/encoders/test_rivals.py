"""Heads in closed form, pairs of texts, pairs of prompt and choice: against slow and plain ones."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from frugal.encoders import classifier, contrastive, linear, pairs
from frugal.engine import backbones
from frugal.engine.training import schedule
from frugal.errors import FrugalError
from frugal.tasks import Example

TEXTS = [("ab" * (i % 5 + 1) + "cd" * (i * 5 % 7))[: i % 9 + 4] + str(i) for i in range(12)]
GOALS = torch.tensor([i % 3 for i in range(12)])
RECIPE = contrastive.Recipe(rounds=2, batch_size=4, lr=1e-2)


@pytest.fixture(scope="module")
def backbone():
    return backbones.load("tiny-encoder", device="cpu")


def test_ridge_is_what_least_squares_finds_on_rows_that_penalise(backbone):
    model = classifier.new(backbone, 3, "head")
    cost = linear.fit(model, TEXTS, GOALS)
    x, y = model.states(TEXTS)[0].double().numpy(), np.eye(3)[GOALS]
    penalty = 0.1 * ((x - x.mean(0)) ** 2).sum() / 12
    # |Xw - y|² + λ|w|² as one least-squares problem: √λ I below X, but for the constant's column.
    rows = np.hstack([x, np.ones((12, 1))])
    below = np.sqrt(penalty) * np.eye(x.shape[1] + 1)[:-1]
    found, *_ = np.linalg.lstsq(np.vstack([rows, below]), np.vstack([y, below[:, :3] * 0]), 0)
    assert np.allclose(model.head.weight.detach().numpy(), found[:-1].T, atol=1e-6)
    assert np.allclose(model.head.bias.detach().numpy(), found[-1], atol=1e-5)
    assert cost.flops > model.flops([len(ids) for ids in model.encode(TEXTS)], head=False)


def test_the_unit_of_states_does_not_matter_and_equal_ones_give_the_mean():
    x, y = torch.randn(9, 4).double(), torch.randn(9, 2).double()
    one, other = linear.solve(x, y), linear.solve(100 * x, y)
    assert torch.allclose(x @ one[0] + one[1], 100 * x @ other[0] + other[1])
    weight, level = linear.solve(x[:1].expand(9, 4), y)
    assert torch.equal(weight, torch.zeros(4, 2).double())
    assert torch.allclose(level, y.mean(0))


@pytest.mark.parametrize(
    ("texts", "goals", "message"),
    [
        ([], [], "nothing to train on: 0 texts"),
        (["a"], [0, 1], "1 texts, 2 goals"),
        (["a", "b"], [0, 3], "classes are 0 to 2, not"),
        (["a", "b"], [-1, 1], "classes are 0 to 2"),
    ],
)
def test_goals_that_are_no_classes_are_refused(backbone, texts, goals, message):
    with pytest.raises(FrugalError, match=message):
        linear.fit(classifier.new(backbone, 3, "head"), texts, torch.tensor(goals))


def test_pairs_are_of_one_class_and_of_two_in_turn():
    goals, found = GOALS.tolist(), contrastive.pairs(GOALS.tolist(), 3, seed=4)
    alike, others = found[::2], found[1::2]
    assert len(found) == 2 * 3 * 12
    every = [(i, j) for i in range(12) for j in range(i + 1, 12)]
    same = {(i, j) for i, j in every if goals[i] == goals[j]}
    assert {(i, j) for i, j, _ in alike} == same  # 18, each of them twice in 36
    assert {(i, j) for i, j, _ in others} <= set(every) - same
    assert len({(i, j) for i, j, _ in others}) == 36  # of 48, none twice
    assert all(label is True for *_, label in alike)
    assert all(label is False for *_, label in others)
    assert contrastive.pairs(goals, 3, seed=5) != found
    assert contrastive.pairs([0, 0, 0], 1, 0)[0][2]
    assert not any(label for *_, label in contrastive.pairs([0, 1, 2], 2, 0))
    assert contrastive.pairs([0], 2, 0) == []


def test_tuning_on_pairs_is_a_plain_loop_over_them(backbone):
    model, plain = (classifier.new(backbone, 3, "full") for _ in range(2))
    fitted = contrastive.fit(model, TEXTS, GOALS, RECIPE)
    trained = [p for n, p in plain.named_parameters() if not n.startswith("head.")]
    optimizer = torch.optim.AdamW(trained, lr=RECIPE.lr, weight_decay=0.0)
    every, slow = contrastive.pairs(GOALS.tolist(), 2, 0), []

    def state(text):  # alone, by the model's own forward pass
        ids = torch.tensor(backbone.tokenizer(text)["input_ids"])[None]
        return plain.encoder(ids).last_hidden_state[0].mean(0)

    for start in range(0, len(every), 4):
        optimizer.param_groups[0]["lr"] = RECIPE.lr * schedule(len(slow), 12, RECIPE.warmup)
        terms = []
        for i, j, alike in every[start : start + 4]:
            u, v = state(TEXTS[i]), state(TEXTS[j])
            terms.append((u @ v / (u.norm() * v.norm()) - (1.0 if alike else 0.0)) ** 2)
        loss = sum(terms) / 4
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        slow.append(loss.item())
    assert fitted.loss == pytest.approx(slow, abs=3e-4)
    assert fitted.loss[:3] == pytest.approx(slow[:3], abs=1e-5)
    assert sum(fitted.loss[-3:]) < sum(fitted.loss[:3])


def test_flops_of_tuning_on_pairs_are_those_that_torch_counts(backbone):
    model = classifier.new(backbone, 3, "full")
    model.encoder.set_attn_implementation("eager")
    texts = [f"abcd{i:02d}" for i in range(8)]  # of one length: no padding is computed
    with FlopCounterMode(display=False) as counter:
        fitted = contrastive.fit(model, texts, GOALS[:8], RECIPE)
    assert fitted.cost.flops == counter.get_total_flops()
    assert fitted.cost.tokens % len(model.encode(texts[:1])[0]) == 0


def test_too_few_texts_make_no_pair(backbone):
    with pytest.raises(FrugalError, match="no pairs to train on: 1 texts"):
        contrastive.fit(classifier.new(backbone, 2), ["a"], torch.tensor([0]), RECIPE)


def test_choices_are_scored_each_behind_its_prompt(backbone):
    examples = [
        Example(prompt="ab", choices=(" c", " dd", " e"), label=1),
        Example(prompt="f", choices=(" g", " hh"), label=0),
    ]
    assert pairs.texts(examples) == ["ab c", "ab dd", "ab e", "f g", "f hh"]
    assert pairs.goals(examples).tolist() == [0, 1, 0, 1, 0]
    model = classifier.new(backbone, pairs.CLASSES, "head")
    linear.fit(model, pairs.texts(examples), pairs.goals(examples))
    found, cost = pairs.PairTeacher(model).logits(examples)
    assert found.shape == (2, 3)
    assert found[1, 2] == -torch.inf
    slow = [
        [
            float(said[0, 1] - said[0, 0])
            for said in (model.outputs([e.prompt + c])[0] for c in e.choices)
        ]
        for e in examples
    ]
    flat = list(itertools.chain.from_iterable(slow))
    assert found[found > -torch.inf].tolist() == pytest.approx(flat, abs=1e-5)
    assert cost.tokens == sum(map(len, model.encode(pairs.texts(examples))))
    before = pairs.PairTeacher(model).fingerprint()
    with torch.no_grad():
        model.head.bias[0] += 1
    assert pairs.PairTeacher(model).fingerprint() != before
