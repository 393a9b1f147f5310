"""The job that a search is made of, the scores it gives, and its tasks."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugal.encoders import classifier
from frugal.encoders.classifier import Recipe
from frugal.engine import backbones, runs
from frugal.errors import FrugalError
from frugal.spaces import train
from frugal.tasks import metrics, texts

LOW = "G1[1]:A,L | G2[2-3]:A,P | G3[4-5]:- | G4[6]:P"
HIGH = "G1[1]:- | G2[2-3]:- | G3[4-5]:A,P,B,L | G4[6]:L"
TOP = "G1[1]:- | G2[2-3]:- | G3[4-5]:- | G4[6]:P,B,L"


def test_the_job_trains_the_one_classifier_and_knows_its_flops():
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
    made, encoder = texts.load("counting", 8, 6, 3), backbones.load("tiny-encoder", device="cpu")
    model = classifier.new(encoder, 3, train.trains(encoder, HIGH, 0.2), seed=3)
    goals = torch.tensor(made.train_labels).long()
    fitted = classifier.fit(model, made.train, goals, Recipe(**params["recipe"], seed=3))
    said, asked = model.outputs(made.test)
    assert result == {
        "score": metrics.accuracy(said.argmax(1).numpy(), made.test_labels),
        "params": model.trains.sized.params,
        "head_params": 51,
        "loss": fitted.loss[-1],
    }
    whole = sum(p.numel() for p in classifier.new(encoder, 3).encoder.parameters())
    for what, trained in (("full", whole), ("head", 0)):
        assert job.function(**{**params, "design": what})["params"] == trained
    assert job.inputs(**params)["classifier"] == "2"  # results of the former training are others

    def cost(**changes):
        return job.flops(**{**params, **changes})

    assert cost() == fitted.cost.flops + asked.flops
    assert cost(design="head") < cost(design=TOP) < cost() < cost(design=LOW)
    assert cost() < cost(design="full")
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
    found = train.finetune(
        backbone="minilm-l6",
        task="movie-reviews-rating",
        labels=64,
        limit=200,
        seed=0,
        budget=0.005,
        design="s4",
        recipe={"epochs": 4, "max_tokens": 48},
    )
    assert found["score"] > 0.3
