"""A server's model as a way: asked under its cap, billed as it bills, or left out with why."""

import pytest

from frugal.budgets import ledger
from frugal.budgets.endpoint import Endpoint
from frugal.choice import options, ways
from frugal.choice.served import Served
from frugal.costs import prices
from frugal.errors import FrugalError


class Oracle:
    """Says what it is told to, for two cents an answer; most of the time no more."""

    name, batch, remote, hint, batches = "oracle", 4, False, "", None

    def __init__(self, wrong=0, expected=0.02):
        self.wrong, self.expected, self.asked = wrong, expected, 0

    def identity(self):
        return {"model": self.name}

    def ready(self):
        return

    def most_usd(self, example):
        return 0.02

    def expected_usd(self, example):
        return self.expected

    def ask(self, examples, attempt):
        for place, example in enumerate(examples):
            self.asked += 1
            wrong = self.asked <= self.wrong
            yield place, ledger.Answer(example.label ^ wrong, 0.02)


def test_it_answers_what_all_answer_and_costs_what_it_bills(attempt, tmp_path):
    (found,) = Served(Oracle(wrong=3), 1.0, tmp_path / "kept").ask(attempt)
    assert len(found.hits) == len(attempt.scored) == 18
    assert found.hits.sum() == 15
    assert found.usd_asked == pytest.approx(0.02)
    option = options.priced(found, 100, 1e4, options.Prices(0.1))
    assert option.usd_total == pytest.approx(1e4 * 0.02)
    assert option.usd_per_query == pytest.approx(0.02)
    assert "18 answers for $0.36" in found.note


def test_a_cap_that_is_too_small_is_said_before_or_after(attempt, tmp_path):
    dear = Served(Oracle(), 0.2, tmp_path / "a")
    assert dear.refusal(attempt) == (
        "18 answers of oracle would cost about $0.36, and the cap is $0.20"
    )
    source = Oracle(expected=0.001)  # it bills more than it was thought to
    cheap = Served(source, 0.2, tmp_path / "b")
    assert cheap.refusal(attempt) == ""
    with pytest.raises(FrugalError, match=r"the cap of \$0.20 left 8 of 18 examples unanswered"):
        cheap.ask(attempt)
    assert source.asked == 10
    again = Served(source, 0.4, tmp_path / "b")
    assert len(again.ask(attempt)[0].hits) == 18
    assert source.asked == 18  # what was paid for is kept


def test_without_a_key_or_a_server_it_is_left_out(attempt, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    served = Served(Endpoint("m", 0.001, 0.001), 5.0, tmp_path)
    tries, left_out = ways.planned(attempt, served)
    assert "api" not in tries
    assert left_out[-1] == {
        "strategy": "api",
        "why": "OPENAI_API_KEY is not set; a key is read from the environment alone",
    }
    assert ways.planned(attempt)[1][-1]["why"] == ways.UNSERVED
    assert "api" in ways.planned(attempt, Served(Oracle(), 1.0, tmp_path))[0]
    assert prices.usd(0.2) == "$0.20"
