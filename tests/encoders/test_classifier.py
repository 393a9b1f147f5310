"""The one small classifier: against a slow and obvious version, with and without kept states."""

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from frugal.encoders import classifier, encoder, losses
from frugal.encoders import schedule as seen
from frugal.encoders.classifier import Recipe
from frugal.engine import backbones
from frugal.engine.training import schedule
from frugal.errors import FrugalError
from frugal.spaces import build
from frugal.tasks import metrics

RECIPE = Recipe(epochs=3, batch_size=4, lr=1e-2, max_tokens=24)
LOW = "G1[1]:A,L | G2[2-3]:A,P | G3[4-5]:- | G4[6]:P"
HIGH = "G1[1]:- | G2[2-3]:- | G3[4-5]:A,P,B,L | G4[6]:L"
TOP = "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:P,B,L"
KEEPS = [HIGH, TOP, "head"]  # the states of frozen layers below
EVERY = [LOW, *KEEPS, "full"]
TEXTS = [("ab" * (i % 7 + 1) + "cd" * (i * 5 % 11))[: i % 13 + 3] for i in range(18)]


@pytest.fixture(scope="module")
def backbone():
    return backbones.load("tiny-encoder", device="cpu")


def goals(kind):
    """What is to be found is how many a are in a text."""
    count = torch.tensor([text.count("a") for text in TEXTS])
    if kind == "numbers":
        return (count - count.float().mean()) / count.float().std()
    return count % 3 if kind == "classes" else 3 * nn.functional.one_hot(count % 3).float()


def new(backbone, trains, outputs=3, **options):
    if trains not in ("full", "head"):
        trains = build.Part(build.sized(backbone.model, trains, 0.2))
    return classifier.new(backbone, outputs, trains, **{"max_tokens": 24, **options})


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("trains", "kind"), [*((t, "classes") for t in EVERY), (LOW, "numbers"), ("full", "logits")]
)
def test_losses_are_those_of_a_slow_and_obvious_version(backbone, trains, kind):
    outputs, wanted = 1 if kind == "numbers" else 3, goals(kind)
    model, plain = (new(backbone, trains, outputs) for _ in range(2))
    fitted = classifier.fit(model, TEXTS, wanted, RECIPE)
    trained = list(plain.trained().values())

    def said(texts):  # one text at a time, nothing padded, the model's own forward pass
        ids = [torch.tensor(backbone.tokenizer(t)["input_ids"][:24])[None] for t in texts]
        states = [plain.encoder(i).last_hidden_state.mean(1) for i in ids]
        return torch.cat([plain.head(x) for x in states])

    batches = encoder.training_batches([len(i) for i in plain.encode(TEXTS)], 4, RECIPE.seed)
    optimizer = torch.optim.AdamW(trained, lr=RECIPE.lr, weight_decay=0.0)
    slow = []
    for epoch in range(3):
        for number in encoder.shuffled(len(batches), RECIPE.seed, epoch):
            optimizer.param_groups[0]["lr"] = RECIPE.lr * schedule(len(slow), 15, RECIPE.warmup)
            index = batches[number]
            out, goal = said([TEXTS[i] for i in index]), wanted[index]
            if kind == "classes":
                loss = nn.functional.cross_entropy(out, goal)
            elif kind == "numbers":
                loss = nn.functional.mse_loss(out[:, 0], goal)
            else:
                kl = nn.KLDivLoss(reduction="batchmean")
                loss = 4 * kl((out / 2).log_softmax(-1), (goal / 2).softmax(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            slow.append(loss.item())
    assert fitted.loss == pytest.approx(slow, abs=3e-5)  # fp32, 15 steps of Adam apart
    assert fitted.loss[0] == pytest.approx(slow[0], abs=2e-6)
    answers, cost = model.outputs(TEXTS)
    with torch.no_grad():
        assert torch.allclose(answers, said(TEXTS), atol=1e-3)
    assert cost.tokens == sum(map(len, model.encode(TEXTS)))


@pytest.mark.parametrize("trains", KEEPS)
def test_kept_states_change_no_bit(backbone, trains, monkeypatch):
    found = []
    for room in (seen.KEPT_BYTES, 2000, 0):  # for all, some, none of the batches
        monkeypatch.setattr(seen, "KEPT_BYTES", room)
        model = new(backbone, trains)
        found.append((classifier.fit(model, TEXTS, goals("classes"), RECIPE).loss, weights(model)))
    for loss, after in found[1:]:
        assert loss == found[0][0]
        assert same(after, found[0][1])


@pytest.mark.parametrize(
    ("trains", "room", "below", "above"),
    [(HIGH, 10**6, 5, 15), (HIGH, 0, 15, 15), (LOW, 10**6, 15, 15), ("head", 10**6, 5, 5)],
)
def test_frozen_layers_run_once_for_each_batch(backbone, trains, room, below, above, monkeypatch):
    monkeypatch.setattr(seen, "KEPT_BYTES", room)
    model, calls = new(backbone, trains), Counter()
    for n, layer in enumerate(model.encoder.encoder.layer):
        layer.register_forward_hook(lambda *_, n=n: calls.update([n]))
    classifier.fit(model, TEXTS, goals("classes"), RECIPE)  # 18 texts are five batches, 3 epochs
    assert (calls[0], calls[5]) == (below, above)


@pytest.mark.parametrize(
    ("trains", "room"),
    [
        *((trains, 10**9) for trains in (*EVERY, "2 layers")),
        *((trains, room) for trains in (HIGH, "head") for room in (0, 1500)),
    ],
)
def test_flops_are_those_that_torch_counts(backbone, trains, room, monkeypatch):
    monkeypatch.setattr(seen, "KEPT_BYTES", room)
    layers = 2 if trains == "2 layers" else None
    trains = "full" if layers else trains
    model = new(backbone, trains, layers=layers)
    model.encoder.set_attn_implementation("eager")
    texts = ["abcdefgh"] * 7  # of one length: no padding is computed
    recipe = RECIPE.model_copy(update={"least_steps": 7})
    with FlopCounterMode(display=False) as counter:
        fitted = classifier.fit(model, texts, torch.zeros(7).long(), recipe)
    assert fitted.cost.flops == counter.get_total_flops()
    with FlopCounterMode(display=False) as asked:
        _, cost = model.outputs(texts)
    assert cost.flops == asked.get_total_flops()
    if layers is None:
        planned = classifier.planned_flops(backbone, 3, model.trains, recipe, texts, texts)
        assert planned == fitted.cost.flops + cost.flops


def test_gradients_stop_at_the_first_tuned_layer(backbone):
    model, grads = new(backbone, HIGH), []
    for layer in model.encoder.encoder.layer:
        layer.register_forward_hook(lambda m, a, out: grads.append(out.requires_grad))
    model(model.batch(model.encode(["abcabc", "ab"]), [0, 1])).sum().backward()
    assert grads == [False] * 3 + [True] * 3
    assert all(p.grad is not None for p in model.trained().values())


def test_an_encoder_that_does_more_than_its_layers_is_run_as_a_whole(backbone):
    """A norm behind the last layer would be left out where layers run one by one."""
    changed = backbones.load("tiny-encoder", device="cpu")
    encoder.surgery.layers(changed.model)[0].module.register_forward_pre_hook(
        lambda module, given: (given[0] * 1.5, *given[1:])
    )
    own = changed.model.forward
    changed.model.forward = lambda *a, **k: _normed(own(*a, **k))
    assert encoder.Split(changed.model, 3).below == 0
    assert encoder.Split(backbone.model, 3).below == 3


def _normed(output):
    output.last_hidden_state = 2 * output.last_hidden_state
    return output


@given(st.lists(st.integers(1, 30), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 9))
def test_every_text_is_in_one_batch_with_its_like(lengths, size, seed):
    batches = encoder.training_batches(lengths, size, seed)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    ids = [[7] * n for n in lengths]
    for index in batches:
        batch = encoder.padded(ids, index, 0, torch.device("cpu"))
        own = [lengths[i] for i in index]
        assert batch.real.sum(1).tolist() == own
        assert batch.ids.shape == (len(own), max(own))
        assert (batch.ids[batch.real] == 7).all()
    if len(lengths) <= 32 * size:  # one pool: shortest first
        assert [lengths[i] for index in batches for i in index] == sorted(lengths)
    asked = list(encoder.scoring_batches(lengths, torch.device("cpu")))
    assert sorted(itertools.chain(*asked)) == list(range(len(lengths)))
    assert all(len(i) * max(lengths[j] for j in i) <= 1024 for i in asked)


def test_training_learns_is_repeatable_and_leaves_the_backbone_alone(backbone):
    before = weights(backbone.model)
    long = RECIPE.model_copy(update={"epochs": 30})

    def trained(recipe):
        model = new(backbone, LOW, 1)
        return model, classifier.fit(model, TEXTS, goals("numbers"), recipe).loss

    model, one = trained(long)
    again, other = (RECIPE.model_copy(update={"seed": seed}) for seed in (RECIPE.seed, 1))
    assert trained(RECIPE)[1] == trained(again)[1] != trained(other)[1]
    assert sum(one[-5:]) < 0.3 * sum(one[:5])
    said = model.outputs(TEXTS)[0][:, 0]
    assert metrics.pearson(said.numpy(), goals("numbers").numpy()) > 0.8
    assert same(before, weights(backbone.model))
    assert all(p.requires_grad for p in backbone.model.parameters())


def test_a_small_student_has_the_backbones_embeddings_and_fresh_layers(backbone):
    student = new(backbone, "full", layers=2, seed=3)
    assert student.encoder.config.num_hidden_layers == 2
    assert backbone.model.config.num_hidden_layers == 6
    ours, theirs = student.encoder.embeddings, backbone.model.embeddings
    assert same(weights(ours), weights(theirs))
    assert ours.word_embeddings.weight is not theirs.word_embeddings.weight
    assert same(weights(student), weights(new(backbone, "full", layers=2, seed=3)))
    assert not same(weights(student), weights(new(backbone, "full", layers=2, seed=4)))


@pytest.mark.parametrize(("kind", "trains", "stop"), [("classes", HIGH, 8), ("logits", "full", 1)])
def test_stopped_at_any_step_and_resumed_gives_the_same_bits(
    tmp_path, backbone, kind, trains, stop
):
    class Stop(Exception):
        pass

    def progress(step, loss):
        if step == stop:
            raise Stop

    def fit(model, **options):
        return classifier.fit(model, TEXTS, goals(kind), RECIPE, **options)

    whole, resumed, steps = new(backbone, trains), new(backbone, trains), []
    losses = fit(whole).loss
    with pytest.raises(Stop):
        fit(new(backbone, trains), checkpoint=tmp_path, every=1, progress=progress)
    fitted = fit(resumed, checkpoint=tmp_path, progress=lambda step, loss: steps.append(step))
    assert steps[0] in (stop, stop + 1)
    assert whole.fingerprint() == resumed.fingerprint()
    assert losses == fitted.loss
    with pytest.raises(FrugalError, match="another training"):
        fit(new(backbone, trains, seed=1), checkpoint=tmp_path)


def test_bad_input_has_one_clear_error(backbone):
    with pytest.raises(FrugalError, match="tiny-causal is of the family causal"):
        classifier.new(backbones.load("tiny-causal", device="cpu"), 2)
    with pytest.raises(FrugalError, match="nothing to train on: 0 texts"):
        classifier.fit(new(backbone, "head"), [], torch.empty(0).long(), RECIPE)
    with pytest.raises(FrugalError, match="step 1: the loss is nan"):
        classifier.fit(new(backbone, "full"), TEXTS, torch.full((18, 3), torch.nan), RECIPE)
    wild = RECIPE.model_copy(update={"lr": 1e30})
    with pytest.raises(FrugalError, match=r"step \d+: the loss is nan; lower the learning rate"):
        classifier.fit(new(backbone, "full"), TEXTS, goals("classes"), wild)
    assert losses.loss(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


HALF = RECIPE.model_copy(update={"precision": "bfloat16"})


@pytest.mark.parametrize("trains", [HIGH, "head", "full"])
def test_bfloat16_learns_what_float32_does(backbone, trains):
    one, other = (new(backbone, trains) for _ in range(2))
    exact = classifier.fit(one, TEXTS, goals("classes"), RECIPE).loss
    found = classifier.fit(other, TEXTS, goals("classes"), HALF).loss
    assert found != exact  # it is another precision
    assert found == pytest.approx(exact, rel=0.05, abs=0.02)
    assert all(p.dtype == torch.float32 for p in other.parameters())  # nothing small is lost
    answers, _ = other.outputs(TEXTS)
    assert answers.dtype == torch.float32
    assert torch.allclose(answers, one.outputs(TEXTS)[0], atol=0.1)
    before = other.fingerprint()
    other.precision = "float32"  # the same weights answer otherwise
    assert other.fingerprint() != before


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("trains", [LOW, HIGH, "head"])
def test_frozen_weights_of_every_precision_carry_what_is_trained_in_float32(
    backbone, trains, precision
):
    one, other = (
        new(of, trains)
        for of in (backbone, backbones.load("tiny-encoder", device="cpu", precision=precision))
    )
    exact = classifier.fit(one, TEXTS, goals("classes"), RECIPE).loss
    found = classifier.fit(other, TEXTS, goals("classes"), RECIPE).loss
    assert found != exact
    assert found == pytest.approx(exact, rel=0.05, abs=0.03)
    assert {p.dtype for p in other.trained().values()} == {torch.float32}
    assert torch.allclose(other.outputs(TEXTS)[0], one.outputs(TEXTS)[0], atol=0.15)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_weights_that_are_trained_are_float32(precision):
    low = backbones.load("tiny-encoder", device="cpu", precision=precision)
    with pytest.raises(FrugalError, match=f"tiny-encoder: its weights are {precision}; those that"):
        new(low, "full")


def test_a_checkpoint_says_in_which_precision_it_was_made(tmp_path, backbone):
    wanted = goals("classes")
    steps, whole, resumed = [], new(backbone, "full"), new(backbone, "full")
    losses = classifier.fit(whole, TEXTS, wanted, HALF).loss

    def stop(step, loss):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifier.fit(
            new(backbone, "full"), TEXTS, wanted, HALF, checkpoint=tmp_path, every=1, progress=stop
        )
    with pytest.raises(FrugalError, match="its precision is bfloat16, here float32"):
        classifier.fit(new(backbone, "full"), TEXTS, wanted, RECIPE, checkpoint=tmp_path)
    fitted = classifier.fit(
        resumed, TEXTS, wanted, HALF, checkpoint=tmp_path, progress=lambda n, _: steps.append(n)
    )
    assert steps[0] in (7, 8)
    assert fitted.loss == losses
    assert whole.fingerprint() == resumed.fingerprint()


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12))
def test_a_batch_is_cut_where_that_is_cheapest(lengths):
    lengths, cpu, every = sorted(lengths), torch.device("cpu"), range(len(lengths))

    def cost(cuts):
        parts = [lengths[a:b] for a, b in itertools.pairwise((0, *cuts, len(lengths)))]
        return sum(encoder.SPLIT["cpu"] + len(part) * max(part) for part in parts)

    found = encoder.parts(every, lengths, cpu)
    assert [i for part in found for i in part] == list(every)
    ends = list(itertools.accumulate(map(len, found)))[:-1]
    choices = (c for n in every for c in itertools.combinations(range(1, len(lengths)), n))
    assert cost(ends) == min(map(cost, choices))
    assert list(encoder.parts(every, lengths, torch.device("meta"))) == [every]  # as a GPU


@pytest.mark.parametrize("kind", ["classes", "logits"])
def test_parts_of_a_batch_are_the_batch(backbone, kind, monkeypatch):
    found = []
    for room in (10**6, 0):  # one part, and one for each length
        monkeypatch.setitem(encoder.SPLIT, "cpu", room)
        model = new(backbone, "full")
        fitted = classifier.fit(model, TEXTS, goals(kind), RECIPE)
        found.append((fitted.loss, weights(model)))
    (one, before), (parts, after) = found
    assert parts == pytest.approx(one, abs=2e-5)
    assert all(torch.allclose(before[k], after[k], atol=1e-3) for k in before)


def test_words_that_no_text_has_stay_as_they_are(backbone):
    model = new(backbone, "full")
    table = model.encoder.get_input_embeddings()
    before = table.weight.detach().clone()
    classifier.fit(model, TEXTS, goals("classes"), RECIPE)
    assert model.encoder.get_input_embeddings() is table
    assert len(table.weight) == len(before)
    read = {token for row in model.encode(TEXTS) for token in row}
    moved = {i for i in range(len(before)) if not torch.equal(table.weight[i], before[i])}
    assert moved == read  # no padding either, whose states no text sees
