"""Students and teachers of either family, and designs in small classifiers."""

import functools
import math

import pytest
import torch

from frugal import tasks
from frugal.budgets import distill, students
from frugal.encoders.classifier import Recipe
from frugal.engine import backbones
from frugal.errors import FrugalError
from frugal.fewshot import choices, encoding, packing, tfew

OF = (" a", " b b", " c c c")
SHARE = 0.2
FIT = Recipe(epochs=0, least_steps=120, batch_size=8, lr=5e-3)
RECIPE = tfew.Recipe.of({"method": "full", "steps": 40, "batch_size": 8, "lr": 3e-3})
RECIPE = RECIPE.model_copy(update={"optimizer": "adamw"})


@pytest.fixture(scope="module")
def encoder():
    return backbones.load("tiny-encoder", device="cpu")


@pytest.fixture(scope="module")
def examples():
    """Two or three choices each; some offer them the other way round."""
    found = tasks.load("counting").draw(12, 0)
    turned = [
        e.model_copy(update={"choices": e.choices[::-1], "label": len(e.choices) - 1 - e.label})
        for e in found[::3]
    ]
    return [*turned, *(e for i, e in enumerate(found) if i % 3)]


def new(who, encoder):
    return students.new(who, encoder, OF, share=SHARE, seed=1)


def learn(model, examples, table, **options):
    if isinstance(model, distill.ClassTeacher):
        # So small a design in frozen random layers is slow to learn.
        slow = {} if model.model.trains == "full" else {"lr": 6 * FIT.lr, "least_steps": 240}
        return students.classify(model, examples, table, FIT.model_copy(update=slow), **options)
    return students.rank(model, examples, table, RECIPE, **options)


def test_a_name_says_what_learns(encoder):
    layers = new("1 layer", encoder).model
    assert layers.encoder.config.num_hidden_layers == 1
    whole = new("tiny-encoder", encoder).model
    assert whole.encoder.config.num_hidden_layers == 6
    for model in (layers, whole):
        assert set(model.trained()) == dict(model.named_parameters()).keys()
    assert new("tiny-t5", encoder).family == "encoder-decoder"
    assert students.fresh("2 layers")
    assert not students.fresh("s4")
    with pytest.raises(FrugalError, match="no-such-model"):
        new("no-such-model", encoder)
    with pytest.raises(FrugalError, match="is not a group"):
        new("G1[x]:A", encoder)


@pytest.mark.parametrize("design", ["s4", "L", "G1[1-2]:- | G2[3-6]:A"])
def test_a_design_is_all_that_is_trained(encoder, examples, design):
    student = new(design, encoder)
    model = student.model
    trained = sum(p.numel() for p in model.trained().values())
    head = sum(p.numel() for p in model.head.parameters())
    assert trained == model.trains.sized.params + head
    before = {n: p.clone() for n, p in model.encoder.named_parameters()}
    started = [p.clone() for p in model.trained().values()]
    one = student.fingerprint()
    learnt = students.classify(student, examples, None, FIT.model_copy(update={"least_steps": 5}))
    assert all(torch.equal(before[n], p) for n, p in model.encoder.named_parameters())
    assert not any(
        torch.equal(a, b) for a, b in zip(started, model.trained().values(), strict=True)
    )
    assert (learnt.params, learnt.trained) == (sum(p.numel() for p in model.parameters()), trained)
    assert student.fingerprint() != one  # its outputs are of what was trained, too


@pytest.fixture(scope="module")
def taught(encoder, examples):
    """By name, the logits of who has learnt the labels; each learns once."""

    @functools.cache
    def of(teacher):
        model = learn(new(teacher, encoder), examples, None).model
        assert distill.right(model, examples)[0].float().mean() >= 0.75
        return model.logits(examples)[0]

    return of


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        *(("tiny-causal", "tiny-t5"), ("tiny-t5", "2 layers")),
        *(("tiny-encoder", "tiny-causal"), ("tiny-causal", "s4")),
    ],
)
def test_who_has_learnt_labels_teaches_them_to_any_other(
    encoder, examples, taught, teacher, student
):
    table = taught(teacher)
    # The student never sees a label: they are all turned to the first choice.
    blind = [e.model_copy(update={"label": 0}) for e in examples]
    learnt = learn(new(student, encoder), blind, table)
    said, _ = learnt.model.logits(examples)
    assert (said.argmax(1) == table.argmax(1)).float().mean() >= 0.75
    assert learnt.cost.flops > 0
    assert learnt.cost.tokens > 0


@pytest.mark.parametrize("name", ["tiny-causal", "tiny-t5"])
def test_imitation_equals_a_plain_reference_for_every_example(name, examples):
    """Loss and gradients; neither the batch nor the other examples' choices have a say."""
    backbone = backbones.load(name)
    torch.manual_seed(0)
    table = torch.full((len(examples), 3), -math.inf)
    for row, example in zip(table, examples, strict=True):
        row[: len(example.choices)] = torch.randn(len(example.choices))
    which = [7, 2, 5, 0]
    objective = distill.Imitation(table)
    encoded = encoding.encode(backbone, [examples[i] for i in which])
    trees = [packing.tree(e) for e in encoded]
    scores = choices.forward(backbone, packing.pack(trees, packing.layout(trees), backbone.device))
    backbone.model.requires_grad_(True)
    parameters = list(backbone.model.parameters())
    gradients = []
    for loss in (objective(scores, which), plain(backbone, examples, table, which)):
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        gradients.append((loss, found))
    (ours, a), (theirs, b) = gradients
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    assert max(float(g.abs().max()) for g in a if g is not None) > 1e-4
    for x, y in zip(a, b, strict=True):
        if x is None or y is None:
            assert x is y
        else:
            torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-4)


def plain(backbone, examples, table, which):
    """T² Σ p_t log(p_t / p_s) by hand, an example and a choice at a time."""
    total = 0.0
    for i in which:
        (encoded,) = encoding.encode(backbone, [examples[i]])
        beta = []
        for sequence in encoded.sequences:
            alone = packing.tree(encoded.__class__(**{**vars(encoded), "sequences": [sequence],
                                                      "label": 0}))  # fmt: skip
            scores = choices.forward(backbone, packing.pack([alone], [[0]], backbone.device))
            beta.append(scores.token_logp.mean())
        there = len(beta)
        s = torch.log_softmax(torch.stack(beta) / 2.0, 0)
        t = torch.softmax(table[i, :there] / 2.0, 0)
        total = total + 4.0 * sum(p * (p.log() - q) for p, q in zip(t, s, strict=True))
    return total / len(which)


def test_a_ranking_student_goes_on_to_the_same_bits_and_refuses_other_lessons(
    encoder, examples, taught, tmp_path
):
    table = taught("tiny-encoder")
    whole = learn(new("tiny-t5", encoder), examples, table)

    class Killed(BaseException):
        pass

    def stop(step, loss):
        if step == 37:
            raise Killed

    backbone = new("tiny-t5", encoder)
    with pytest.raises(Killed):
        tfew.train(backbone, examples, RECIPE, objective=distill.Imitation(table),
                   checkpoint=tmp_path, every=10, progress=stop)  # fmt: skip
    assert not hasattr(backbone.model, "_frugal_tuned")
    resumed = learn(backbone, examples, table, checkpoint=tmp_path)
    assert torch.equal(whole.model.logits(examples)[0], resumed.model.logits(examples)[0])
    assert resumed.cost.tokens == whole.cost.tokens
    for other in (table + 1e-3 * torch.arange(3), None):
        with pytest.raises(FrugalError, match="of another training"):
            learn(new("tiny-t5", encoder), examples, other, checkpoint=tmp_path)


def test_a_teacher_needs_all_choices(encoder, examples, taught):
    table = taught("tiny-encoder")
    short = RECIPE.model_copy(update={"losses": ("lm",)})
    backbone = new("tiny-causal", encoder)
    with pytest.raises(FrugalError, match="an objective reads all choices"):
        tfew.train(backbone, examples, short, objective=distill.Imitation(table))
    assert students.rank(backbone, examples, table, short).cost.flops > 0


@pytest.mark.real
def test_smollm2_draws_nano_t0_towards_what_it_says_of_texts_it_never_read():
    task = tasks.load("movie-reviews")
    read, others = task.draw(64, 0), task.test(48)
    teacher, student = (backbones.load(name) for name in ("smollm2-135m", "nano-t0"))
    table, _ = distill.RankTeacher(teacher).logits(read)
    said, _ = distill.RankTeacher(teacher).logits(others)

    def apart():
        return float(distill.kd_loss(distill.RankTeacher(student).logits(others)[0], said))

    before = apart()
    recipe = tfew.Recipe.of(
        {"method": "full", "steps": 12, "batch_size": 16, "optimizer": "adamw", "lr": 1e-4}
    )
    students.rank(student, read, table, recipe)
    assert apart() < 0.7 * before
