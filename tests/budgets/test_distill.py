"""Distillation: the loss and its gradients, padding without influence, outputs computed once."""

import itertools
import math
import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from frugal import peft, tasks
from frugal.budgets import distill
from frugal.encoders import classifier
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices

RECIPE = classifier.Fit(steps=9, batch_size=4, lr=1e-2)
TWO = (" a", " b b")


@pytest.fixture(scope="module")
def encoder():
    return backbones.load("tiny-encoder", device="cpu")


@pytest.fixture
def examples():
    """Those of `counting` with two choices."""
    return [e for e in tasks.load("counting").draw(22, 0) if len(e.choices) == 2]


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


def test_padding_a_batch_changes_no_logit_and_no_gradient(encoder, examples):
    model = classifier.new(encoder, TWO)
    row = model.encode(examples[:1])[0]
    slopes = []
    for rows in ([row], [row, [1] * (2 * len(row))]):
        model.zero_grad()
        logits = model(*model.batch(rows))[:1]
        distill.kd_loss(logits, torch.tensor([[1.0, -1.0]])).backward()
        slopes.append((logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}))
    (alone, a), (padded, b) = slopes
    assert torch.allclose(alone, padded, atol=1e-6)
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


def test_logits_of_many_equal_those_one_by_one(encoder, examples):
    model = classifier.new(encoder, TWO)
    many, cost = model.logits(examples)
    for example, row in zip(examples, many, strict=True):
        assert torch.allclose(model.logits([example])[0][0], row, atol=1e-5)
    assert cost.tokens == sum(len(r) for r in model.encode(examples))


def test_a_small_student_has_its_teachers_embeddings_and_fresh_layers(encoder):
    student = classifier.new(encoder, TWO, layers=2, seed=3)
    assert student.encoder.config.num_hidden_layers == 2
    assert encoder.model.config.num_hidden_layers == 6
    ours, theirs = student.encoder.embeddings, encoder.model.embeddings
    assert same(weights(ours), weights(theirs))
    assert ours.word_embeddings.weight is not theirs.word_embeddings.weight
    again = classifier.new(encoder, TWO, layers=2, seed=3)
    assert same(weights(student), weights(again))
    assert not same(weights(student), weights(classifier.new(encoder, TWO, layers=2, seed=4)))


def test_choices_of_any_number_and_order_become_classes(encoder, tiny):
    examples = tasks.load("counting").draw(12, 0)  # two or three choices
    examples[1] = examples[1].model_copy(update={"choices": examples[1].choices[::-1]})
    of = classifier.classes(examples)
    assert set(of) == {" a", " b b", " c c c"}
    chosen = [of[c] for c in classifier.targets(examples, of).tolist()]
    assert chosen == [e.choices[e.label] for e in examples]
    table, _ = distill.RankTeacher(tiny).logits(examples)
    by_class = classifier.by_class(table, examples, of)
    model = classifier.new(encoder, of)
    said, _ = model.logits(examples)
    assert said.shape == table.shape
    for i, example in enumerate(examples):
        plain = model(*model.batch(model.encode([example])))[0]
        for j, choice in enumerate(of):
            if choice in example.choices:
                place = example.choices.index(choice)
                assert by_class[i, j] == table[i, place]
                assert said[i, place] == pytest.approx(plain[j].item(), abs=1e-5)
            else:
                assert by_class[i, j] == -math.inf
        assert said[i, len(example.choices) :].tolist() == [-math.inf] * (3 - len(example.choices))


def test_training_learns_labels_and_logits_and_leaves_the_backbone_alone(encoder, examples):
    before = weights(encoder.model)
    recipe = classifier.Fit(steps=80, batch_size=8, lr=1e-2)
    teacher = classifier.new(encoder, TWO)
    goals = classifier.targets(examples, TWO)
    fitted = classifier.fit(teacher, examples, goals, recipe)
    assert fitted.loss[-1] < fitted.loss[0] / 2
    assert distill.right(teacher, examples)[0].float().mean() > 0.9
    table, _ = teacher.logits(examples)
    student = classifier.new(encoder, TWO, layers=2)
    fitted = classifier.fit(student, examples, table, recipe)
    assert fitted.loss[-1] < fitted.loss[0] / 2
    assert fitted.cost.tokens == 80 * 8 * len(examples[0].prompt)  # all prompts are as long
    assert fitted.cost.flops > 0
    assert same(before, weights(encoder.model))


def test_every_epoch_sees_every_example_once_and_batches_are_even():
    lengths = [5 + (7 * i) % 40 for i in range(64)]
    batches = [classifier.mixed_batch(step, 4, lengths, seed=3) for step in range(32)]
    for epoch in (batches[:16], batches[16:]):
        assert sorted(itertools.chain(*epoch)) == list(range(64))
    padding = [max(lengths[i] for i in b) * 4 - sum(lengths[i] for i in b) for b in batches]
    assert sum(padding) < 0.2 * 2 * sum(lengths)
    assert len(classifier.mixed_batch(0, 8, [1, 2, 3], seed=0)) == 8  # fewer texts than a batch


@pytest.mark.parametrize("stop", [1, 4, 8])
@pytest.mark.parametrize("kind", ["labels", "logits"])
def test_stopped_at_any_step_and_resumed_gives_the_same_bits(
    tmp_path, encoder, examples, stop, kind
):
    goals = classifier.targets(examples, TWO)
    if kind == "logits":
        goals = nn.functional.one_hot(goals).float() * 3

    class Stop(Exception):
        pass

    def progress(step, loss):
        if step == stop:
            raise Stop

    whole = classifier.new(encoder, TWO, layers=2)
    losses = classifier.fit(whole, examples, goals, RECIPE).loss
    with pytest.raises(Stop):
        classifier.fit(
            classifier.new(encoder, TWO, layers=2),
            examples,
            goals,
            RECIPE,
            checkpoint=tmp_path,
            every=1,
            progress=progress,
        )
    resumed, steps = classifier.new(encoder, TWO, layers=2), []
    fitted = classifier.fit(
        resumed,
        examples,
        goals,
        RECIPE,
        checkpoint=tmp_path,
        progress=lambda step, loss: steps.append(step),
    )
    assert steps[0] in (stop, stop + 1)
    assert same(weights(whole), weights(resumed))
    assert losses == fitted.loss
    other = classifier.new(encoder, TWO, layers=2, seed=1)
    with pytest.raises(FrugalError, match="another training"):
        classifier.fit(other, examples, goals, RECIPE, checkpoint=tmp_path)


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


def test_a_process_killed_in_the_middle_leaves_whole_files(tmp_path, encoder, examples):
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from frugal import tasks
        from frugal.budgets import distill
        from frugal.encoders import classifier
        from frugal.engine import backbones
        examples = [e for e in tasks.load("counting").draw(22, 0) if len(e.choices) == 2]
        encoder, folder = backbones.load("tiny-encoder", device="cpu"), Path(sys.argv[1])
        distill.CHUNK = 3
        teacher = classifier.new(encoder, (" a", " b b"))
        table, _ = distill.outputs(teacher, examples, folder)
        student = classifier.new(encoder, (" a", " b b"), layers=2)
        def progress(step, loss):
            if step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        classifier.fit(student, examples, table, classifier.Fit(steps=9, batch_size=4, lr=1e-2),
                       checkpoint=folder, every=1, progress=progress)
    """)
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    distill_chunk, distill.CHUNK = distill.CHUNK, 3
    try:
        counting = Counting(classifier.new(encoder, TWO))
        table, _ = distill.outputs(counting, examples, tmp_path)
    finally:
        distill.CHUNK = distill_chunk
    assert counting.asked == 0
    whole, resumed = (classifier.new(encoder, TWO, layers=2) for _ in range(2))
    classifier.fit(whole, examples, table, RECIPE)
    classifier.fit(resumed, examples, table, RECIPE, checkpoint=tmp_path)
    assert same(weights(whole), weights(resumed))


def test_bad_input_has_one_clear_error(encoder, tiny, examples):
    other = examples[0].model_copy(update={"choices": (" yes", " no")})
    with pytest.raises(FrugalError, match=r"same answers \(4 in all\)"):
        classifier.classes([*examples, other])
    with pytest.raises(FrugalError, match="tiny-causal is of the family causal"):
        classifier.new(tiny, TWO)
    model = classifier.new(encoder, TWO, layers=1)
    with pytest.raises(FrugalError, match="nothing to train on: 0 examples"):
        classifier.fit(model, [], torch.empty(0, dtype=torch.long), RECIPE)
    goals = torch.full((len(examples), 2), math.nan)
    with pytest.raises(FrugalError, match="step 1: the loss is nan"):
        classifier.fit(model, examples, goals, RECIPE)
