"""Distillation: the loss and its gradients, padding without influence, outputs computed once."""

import itertools
import math
import signal

import pytest
import torch
from torch import nn

from children import Child, die
from frugal import peft, tasks
from frugal.budgets import distill
from frugal.encoders import classifier
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices
from frugal.tasks.texts import classes

RECIPE = classifier.Recipe(epochs=0, least_steps=9, batch_size=4, lr=1e-2)
TWO = (" a", " b b")


@pytest.fixture(scope="module")
def encoder():
    return backbones.load("tiny-encoder", device="cpu")


@pytest.fixture
def examples():
    """Those of `counting` with two choices."""
    return [e for e in tasks.load("counting").draw(22, 0) if len(e.choices) == 2]


def chooser(encoder, of=TWO, **options):
    return distill.ClassTeacher(classifier.new(encoder, len(of), **options), of)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def plain(student, teacher, temperature):
    """T² Σ_v p_t (log p_t − log p_s) of one position, and its gradient T (p_s − p_t), by hand."""
    present = [v for v in range(len(teacher)) if teacher[v] > -math.inf]

    def softmax(logits):
        exps = {v: math.exp(logits[v] / temperature) for v in present}
        return {v: e / sum(exps.values()) for v, e in exps.items()}

    p_s, p_t = softmax(student), softmax(teacher)
    kl = sum(p_t[v] * (math.log(p_t[v]) - math.log(p_s[v])) for v in present)
    slope = [temperature * (p_s[v] - p_t[v]) if v in p_s else 0.0 for v in range(len(teacher))]
    return temperature**2 * kl, slope


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_loss_and_gradients_equal_a_plain_reference(temperature):
    generator = torch.Generator().manual_seed(0)
    s, t = (3 * torch.randn(4, 5, 7, generator=generator) for _ in range(2))
    t[0, 1, 3] = t[2, 2, 0] = -math.inf  # choices that do not exist
    mask = torch.rand(4, 5, generator=generator) > 0.3
    s.requires_grad_()
    loss = distill.kd_loss(s, t, mask=mask, temperature=temperature)
    loss.backward()
    count = int(mask.sum())
    total, slopes = 0.0, torch.zeros_like(s)
    for i, j in itertools.product(range(4), range(5)):
        if mask[i, j]:
            value, slope = plain(s[i, j].tolist(), t[i, j].tolist(), temperature)
            total += value / count
            slopes[i, j] = torch.tensor(slope) / count
    assert loss.item() == pytest.approx(total, abs=1e-6)
    assert (s.grad - slopes).abs().max() < 1e-6


def test_padding_has_no_influence_but_in_the_official_variant():
    generator = torch.Generator().manual_seed(1)
    s, t, junk = (torch.randn(3, n, 11, generator=generator) for n in (4, 4, 6))
    longer = torch.tensor([[True] * 4 + [False] * 6] * 3)

    def both(**more):
        found = []
        for mask, tail in ((longer[:, :4], None), (longer, junk)):
            x = s.clone().requires_grad_()
            a, b = (x, t) if tail is None else (torch.cat([x, tail], 1), torch.cat([t, -tail], 1))
            loss = distill.kd_loss(a, b, mask=mask, **more)
            loss.backward()
            found.append((loss.detach(), x.grad))
        return found

    (short, slope), (padded, padded_slope) = both()
    assert torch.allclose(short, padded, atol=1e-7)
    assert torch.allclose(slope, padded_slope, atol=1e-7)
    (short, _), (padded, _) = both(variant="official")
    assert not torch.allclose(short, padded, rtol=1e-2)
    s2, t2 = torch.cat([s, junk], 1), torch.cat([t, -junk], 1)
    flat = nn.KLDivLoss(reduction="batchmean")(
        (s2 / 2).flatten(0, 1).log_softmax(-1), (t2 / 2).flatten(0, 1).softmax(-1)
    )
    assert padded.item() == pytest.approx(4 * flat.item(), abs=1e-6)


def test_a_student_like_its_teacher_has_no_loss_and_half_precision_works():
    t = torch.randn(5, 3)
    t[2, 2] = -math.inf
    s = t.nan_to_num(neginf=7.0).requires_grad_()  # what is not there does not matter
    loss = distill.kd_loss(s, t)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert s.grad.abs().max() < 1e-6
    assert distill.kd_loss(s.bfloat16(), t.bfloat16()).isfinite()
    with pytest.raises(FrugalError, match="did you mean 'official'"):
        distill.kd_loss(s, t, variant="oficial")


def test_choices_of_any_number_and_order_become_classes(encoder, tiny):
    examples = tasks.load("counting").draw(12, 0)  # two or three choices
    examples[1] = examples[1].model_copy(update={"choices": examples[1].choices[::-1]})
    of = classes(examples)
    assert of == (" a", " b b", " c c c")
    model = chooser(encoder, of)
    chosen = [of[c] for c in model.targets(examples).tolist()]
    assert chosen == [e.choices[e.label] for e in examples]
    table, _ = distill.RankTeacher(tiny).logits(examples)
    by_class = model.by_class(table, examples)
    said, _ = model.logits(examples)
    assert said.shape == table.shape
    for i, example in enumerate(examples):
        plain = model.model.outputs([example.prompt])[0][0]
        for j, choice in enumerate(of):
            if choice in example.choices:
                place = example.choices.index(choice)
                assert by_class[i, j] == table[i, place]
                assert said[i, place] == pytest.approx(plain[j].item(), abs=1e-5)
            else:
                assert by_class[i, j] == -math.inf
        assert said[i, len(example.choices) :].tolist() == [-math.inf] * (3 - len(example.choices))


class Counting:
    """A teacher that notes how many examples it was asked about."""

    def __init__(self, teacher, die_at=None):
        self.teacher, self.asked, self.die_at = teacher, 0, die_at

    def logits(self, examples):
        if self.die_at is not None and self.asked >= self.die_at:
            raise KeyboardInterrupt
        self.asked += len(examples)
        return self.teacher.logits(examples)

    def fingerprint(self):
        return self.teacher.fingerprint()


def test_teacher_outputs_are_computed_once_and_a_killed_run_goes_on(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(distill, "CHUNK", 5)
    examples = tasks.load("counting").draw(18, 0)  # two or three choices
    teacher = distill.RankTeacher(tiny)
    with pytest.raises(KeyboardInterrupt):
        distill.outputs(Counting(teacher, die_at=10), examples, tmp_path)
    second = Counting(teacher)
    table, cost = distill.outputs(second, examples, tmp_path)
    assert second.asked == 8
    scores = choices.score(tiny, examples)
    assert torch.allclose(table, scores.table(scores.mean_logp), atol=1e-5)
    assert (table == -math.inf).sum() == sum(len(e.choices) == 2 for e in examples)
    third = Counting(teacher)
    again, same_cost = distill.outputs(third, examples, tmp_path)
    assert third.asked == 0
    assert torch.equal(again, table)
    assert same_cost == cost
    assert cost.tokens > 0
    assert cost.flops > 0
    longer = Counting(teacher)
    distill.outputs(longer, examples[:15], tmp_path)
    assert longer.asked == 0


def test_outputs_of_another_teacher_or_text_are_refused(tmp_path, tiny, examples):
    teacher = distill.RankTeacher(tiny)
    distill.outputs(teacher, examples, tmp_path)
    with pytest.raises(FrugalError, match="outputs of another texts"):
        distill.outputs(teacher, examples[1:], tmp_path)
    tuned = peft.attach(tiny.model, "ia3")
    next(iter(tuned.parameters())).data.mul_(2)
    with pytest.raises(FrugalError, match="outputs of another teacher"):
        distill.outputs(teacher, examples, tmp_path)
    tuned.detach()
    distill.outputs(teacher, examples, tmp_path)
    next(tmp_path.glob("*.safetensors")).write_bytes(b"broken")
    with pytest.raises(FrugalError, match="not a readable file of outputs"):
        distill.outputs(teacher, examples, tmp_path)
    with pytest.raises(FrugalError, match="nothing to label"):
        distill.outputs(teacher, [], tmp_path)


def test_a_process_killed_in_the_middle_leaves_whole_files(
    tmp_path, encoder, examples, monkeypatch
):
    monkeypatch.setattr(distill, "CHUNK", 3)

    def learn(**options):
        teacher, student = Counting(chooser(encoder)), classifier.new(encoder, 2, layers=2)
        table, _ = distill.outputs(teacher, examples, tmp_path)
        classifier.fit(student, [e.prompt for e in examples], table, RECIPE, **options)
        return teacher.asked, weights(student)

    def progress(step, loss):
        if step == 5:
            die()

    killed = Child(lambda: learn(checkpoint=tmp_path, every=1, progress=progress))
    assert killed.wait() == -signal.SIGKILL
    (asked, whole), (_, resumed) = learn(), learn(checkpoint=tmp_path)
    assert asked == 0
    assert same(whole, resumed)
