"""Training of encoders: against a slow and obvious version, with and without kept states."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from frugal.encoders.encoder import Encoder, Split, shuffled
from frugal.engine import backbones, runs
from frugal.engine.training import schedule
from frugal.errors import FrugalError
from frugal.spaces import build, train
from frugal.spaces.train import Recipe, fit
from frugal.tasks import metrics, texts
from frugal.tasks.texts import TextTask

RECIPE = Recipe(epochs=3, batch_size=4, lr=1e-2, max_tokens=24)
LOW = "G1[1]:A,L | G2[2-3]:A,P | G3[4-5]:- | G4[6]:P"
HIGH = "G1[1]:- | G2[2-3]:- | G3[4-5]:A,P,B,L | G4[6]:L"
TOP = "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:P,B,L"


@pytest.fixture(scope="module")
def encoder():
    return backbones.load("tiny-encoder", device="cpu")


def task(classes=2, count=18):
    """Texts of many lengths; what is to be found is how many a are in them."""
    texts = [("ab" * (i % 7 + 1) + "cd" * (i * 5 % 11))[: i % 13 + 3] for i in range(2 * count)]
    labels = [t.count("a") % classes if classes > 1 else t.count("a") / 2 for t in texts]
    metric = "accuracy" if classes > 1 else "pearson"
    return TextTask(
        "made", classes, metric, texts[:count], labels[:count], texts[count:], labels[count:]
    )


def design(encoder, text):
    return text if text in ("full", "head") else build.sized(encoder.model, text, 0.2)


@pytest.mark.parametrize("text", [LOW, HIGH, TOP, "head", "full"])
@pytest.mark.parametrize("classes", [1, 3])
def test_losses_are_those_of_a_slow_and_obvious_version(encoder, text, classes):
    made, found = task(classes), design(encoder, text)
    fitted = fit(encoder, found, made, RECIPE)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RECIPE.seed)
        tuned = train._attach(encoder.model, found)
        head = nn.Linear(16, classes)
        nn.init.normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
    trained = [*head.parameters(), *(tuned.parameters() if tuned else ())]
    labels = torch.tensor(made.train_labels)
    if classes == 1:
        labels = (labels - labels.mean()) / labels.std(correction=0)

    def said(texts):  # one text at a time, nothing padded
        ids = [torch.tensor(encoder.tokenizer(t)["input_ids"][:24])[None] for t in texts]
        return torch.cat([head(encoder.model(i).last_hidden_state.mean(1)) for i in ids])

    batches = Encoder(encoder).batches(Encoder(encoder).encode(made.train, 24), 4, RECIPE.seed)
    optimizer = torch.optim.AdamW(trained, lr=RECIPE.lr, weight_decay=0.0)
    losses = []
    for epoch in range(3):
        for number in shuffled(len(batches), RECIPE.seed, epoch):
            optimizer.param_groups[0]["lr"] = RECIPE.lr * schedule(len(losses), 15, RECIPE.warmup)
            index = batches[number].index
            out, wanted = said([made.train[i] for i in index]), labels[index]
            loss = (
                nn.functional.cross_entropy(out, wanted.long())
                if classes > 1
                else nn.functional.mse_loss(out[:, 0], wanted)
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(loss.item())
    with torch.no_grad():
        answers = said(made.test)
    if tuned:
        tuned.detach()
    assert fitted.loss == pytest.approx(losses, abs=2e-5)  # fp32, 15 steps of Adam apart
    assert fitted.loss[0] == pytest.approx(losses[0], abs=1e-6)
    if classes > 1:
        assert (fitted.predicted == answers.argmax(-1)).all()
    assert fitted.head_params == 17 * classes
    assert fitted.params == (tuned.trainable_params if tuned else 0)


@pytest.mark.parametrize("text", [LOW, HIGH, TOP, "head", "full"])
def test_kept_states_change_no_bit(encoder, text, monkeypatch):
    found, made = design(encoder, text), task()
    kept, computed = (fit(encoder, found, made, RECIPE, cached=c) for c in (True, False))
    assert kept.loss == computed.loss
    assert torch.equal(kept.predicted, computed.predicted)
    monkeypatch.setattr(train, "CACHE_BYTES", 2000)  # room for some batches
    assert fit(encoder, found, made, RECIPE).loss == computed.loss


@pytest.mark.parametrize(
    ("text", "spare", "below", "above"),
    [(HIGH, 10**6, 5, 15), (HIGH, 0, 15, 15), (LOW, 10**6, 15, 15), ("head", 10**6, 5, 5)],
)
def test_frozen_layers_run_once_for_each_batch(encoder, text, spare, below, above, monkeypatch):
    calls = Counter()
    handles = [
        layer.register_forward_hook(lambda *_, n=n: calls.update([n]))
        for n, layer in enumerate(Encoder(encoder).layers)
    ]
    monkeypatch.setattr(train, "CACHE_BYTES", spare)
    if text != "head":  # a prefix looks at the model's own keys and values when it is attached
        build.attach(encoder.model, design(encoder, text)).detach()
    begun = calls.copy()
    try:
        fit(encoder, design(encoder, text), task(), RECIPE)
    finally:
        for handle in handles:
            handle.remove()
    # 18 texts are five batches, seen in three epochs; the test texts are one more.
    assert calls[0] - 2 * begun[0] - 1 == below
    assert calls[5] - 2 * begun[5] - 1 == above


def test_gradients_stop_at_the_first_tuned_layer(encoder):
    tuned = build.attach(encoder.model, design(encoder, HIGH))
    side = Encoder(encoder)
    (batch,) = side.sorted(side.encode(["abcabc", "ab"], 24))
    split, grads = Split(side, 3, 0), []
    handles = [
        m.register_forward_hook(lambda m, a, out: grads.append(out.requires_grad))
        for m in side.layers
    ]
    split.mean(batch).sum().backward()
    for handle in handles:
        handle.remove()
    assert grads == [False] * 3 + [True] * 3
    assert all(p.grad is not None for p in tuned.parameters())
    tuned.detach()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=200), st.integers(1, 9), st.integers(0, 9))
def test_every_text_is_in_one_batch_with_its_like(lengths, size, seed):
    side = Encoder(backbones.load("tiny-encoder", device="cpu"))
    batches = side.batches([[7] * n for n in lengths], size, seed)
    assert sorted(torch.cat([b.index for b in batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[i] for i in batch.index]
        assert batch.real.sum(1).tolist() == own
        assert batch.ids.shape == (len(own), max(own))
        assert (batch.ids[batch.real] == 7).all()
    if len(lengths) <= 32 * size:  # one pool: shortest first
        assert [lengths[i] for b in batches for i in b.index] == sorted(lengths)


def test_training_learns_is_repeatable_and_leaves_the_model_as_it_was(encoder):
    before = {name: p.clone() for name, p in encoder.model.state_dict().items()}
    long = RECIPE.model_copy(update={"epochs": 30})
    one, two = (fit(encoder, design(encoder, LOW), task(1), long) for _ in range(2))
    assert one.loss == two.loss
    assert (
        one.loss
        != fit(encoder, design(encoder, LOW), task(1), long.model_copy(update={"seed": 1})).loss
    )
    assert sum(one.loss[-5:]) < 0.3 * sum(one.loss[:5])
    assert one.score > 0.8
    after = encoder.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in encoder.model.parameters())


def test_errors(encoder):
    with pytest.raises(FrugalError, match="tiny-causal is no encoder, but causal"):
        fit(backbones.load("tiny-causal", device="cpu"), "head", task(), RECIPE)
    with pytest.raises(FrugalError, match=r"step \d+: the loss is nan; lower the learning rate"):
        fit(encoder, "full", task(), RECIPE.model_copy(update={"lr": 1e30}))
    assert not hasattr(encoder.model, "_frugal_tuned")


def test_the_job_is_a_fit(encoder):
    params = {
        "backbone": "tiny-encoder",
        "task": "counting",
        "design": HIGH,
        "budget": 0.2,
        "labels": 8,
        "limit": 6,
        "seed": 3,
        "recipe": {"epochs": 2, "batch_size": 4, "lr": 1e-3},
    }
    job = runs.find("frugal.spaces.train:finetune")
    result = job.function(**params)
    made = texts.load("counting", 8, 6, 3)
    fitted = fit(encoder, design(encoder, HIGH), made, Recipe(**params["recipe"], seed=3))
    assert result == {
        "score": fitted.score,
        "params": fitted.params,
        "head_params": 51,
        "loss": fitted.loss[-1],
    }

    def cost(**changes):
        return job.flops(**{**params, **changes})

    assert cost(design="head") < cost(design=TOP) < cost() < cost(design=LOW) < cost(design="full")
    longer = {"epochs": 4, "batch_size": 4, "lr": 1e-3}
    assert cost() < cost(recipe=longer) < 2 * cost()


def confusion(predicted, labels):
    pairs = Counter(zip(predicted, labels, strict=True))
    return pairs[1, 1], pairs[1, 0], pairs[0, 1], pairs[0, 0]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1))
def test_metrics_of_two_classes_are_those_of_the_confusion_matrix(pairs):
    predicted, labels = zip(*pairs, strict=True)
    tp, fp, fn, tn = confusion(predicted, labels)
    assert metrics.accuracy(predicted, labels) == pytest.approx((tp + tn) / len(pairs))
    assert metrics.f1(predicted, labels) == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    wanted = (tp * tn - fp * fn) / math.sqrt(product) if product else 0
    assert metrics.matthews(predicted, labels) == pytest.approx(wanted, abs=1e-12)


def test_pearson_is_that_of_the_textbook():
    x, y = [1.0, 2.0, 4.0, 8.0], [1.0, 3.0, 2.0, 5.0]
    mx, my = sum(x) / 4, sum(y) / 4
    top = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    bottom = math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))
    assert metrics.pearson(x, y) == pytest.approx(top / bottom)
    assert metrics.pearson([1, 1, 1, 1], y) == 0.0


def test_tasks_share_their_answers_or_are_refused(tmp_path):
    made = texts.load("counting", 1000, 5, 0)
    assert (made.classes, made.metric) == (3, "accuracy")
    assert len(made.train) == 23  # all that can be drawn
    assert not set(made.train) & set(made.test)
    assert set(made.train_labels) <= {0.0, 1.0, 2.0}
    path = tmp_path / "own.jsonl"
    line = '{{"prompt": "p{0}", "choices": ["x{0}", "y"], "label": 0}}\n'
    path.write_text("".join(line.format(i) for i in range(6)))
    with pytest.raises(FrugalError, match="do not choose among the same answers"):
        texts.load(str(path), 3, 3, 0)
    with pytest.raises(FrugalError, match="unknown task"):
        texts.load("movie-reviwes", 3, 3, 0)
    with pytest.raises(FrugalError, match="at least 1"):
        texts.load("counting", 0, 3, 0)


@pytest.mark.real
def test_ratings_are_a_regression_that_minilm_learns():
    made = texts.load("movie-reviews-rating", 64, 200, 0)
    assert (made.classes, made.metric, len(made.train), len(made.test)) == (1, "pearson", 64, 200)
    assert not set(made.train) & set(made.test)
    assert all(-4 <= label <= 4 for label in made.train_labels)
    minilm = backbones.load("minilm-l6", device="cpu")
    recipe = Recipe(epochs=4, max_tokens=48)
    found = build.sized(minilm.model, "s4")
    kept, computed = (fit(minilm, found, made, recipe, cached=c) for c in (True, False))
    assert kept.loss == computed.loss
    assert kept.score > 0.3
