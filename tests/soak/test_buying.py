"""A dozen of the runs that `make soak` makes, and that they would find a buyer who errs."""

import dataclasses

import buying
import pytest

from frugal.budgets import batches, labels
from frugal.budgets.endpoint import Endpoint
from frugal.budgets.ledger import Ledger


@pytest.fixture(autouse=True)
def _own(monkeypatch):
    monkeypatch.setattr(batches, "PAUSE", batches.PAUSE)  # what `run` sets is undone
    for name in (buying.KEY, "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "")


def test_labels_are_bought_once_and_under_the_cap_whatever_the_server_does_and_whoever_dies():
    counts, kills, bad = buying.run(12, seed=1)
    assert not bad
    assert sum(counts.values()) == 12
    assert sum(kills.values()) >= 5


def free(real):
    """A server is believed that says it has read nothing."""
    return lambda *a, **b: dataclasses.replace(real(*a, **b), usd=0.0)


def forgetful(real):
    """What was handed in before is not fetched."""
    return lambda *given: None


def twice(real):
    """A label that is there is no reason not to ask."""
    return lambda ledger, k: k not in ledger.asking.values()


def careless(real):
    """What is reserved is less than what may be billed."""
    return lambda source, example: real(source, example) / 20


@pytest.mark.parametrize(
    ("where", "name", "bug", "mode", "said"),
    [
        (Endpoint, "_read", free, "plain", "in the ledger"),
        (labels, "_settle", forgetful, "batch, slow", "though there is money"),
        (Ledger, "open_to", twice, "plain", "is asked about"),
        (Endpoint, "most_usd", careless, "usage: none", "the cap is passed"),
    ],
)
def test_bugs_that_are_planted_are_found(monkeypatch, where, name, bug, mode, said):
    monkeypatch.setattr(where, name, bug(getattr(where, name)))
    monkeypatch.setattr(buying, "MODES", {mode: buying.MODES[mode]})
    found = []
    for seed in range(12):
        found += buying.run(1, seed)[2]
        if any(said in text for text in found):
            break
    assert any(said in text for text in found)


def test_calls_that_are_made_twice_are_told_from_calls_after_a_kill():
    first = {"asked": "k", "id": "a-1", "usd": 1}
    good = {"key": "k", "id": "a-1", "choice": 0}
    bad = {"key": "k", "id": "a-1", "choice": None}
    later = {"asked": "k", "id": "b-1", "usd": 1}
    batch = {**first, "batch": "a-0"}
    assert not buying.asked_twice([first, later])  # who asked first is dead
    assert not buying.asked_twice([first, bad, {**later, "id": "a-2"}])
    assert not buying.asked_twice([batch, {"withdrawn": "a-1"}, later])
    assert buying.asked_twice([first, {**later, "id": "a-2"}])
    assert buying.asked_twice([first, good, later])
    assert buying.asked_twice([batch, {"batch": "a-0", "made": "batch_0"}, later])
    assert labels.ATTEMPTS > 1
