"""What a study's runs say: means, paired differences, what distilling is worth."""

import numpy as np
import pandas as pd
import pytest

from frugal import stats
from frugal.budgets import compare
from frugal.errors import FrugalError


def runs_of(hits):
    """A row for each (labels, strategy, seed) of `hits`."""
    return pd.DataFrame(
        {
            "labels": n,
            "model": "2 layers",
            "seed": seed,
            "strategy": strategy,
            "hits": text,
            "accuracy": text.count("1") / len(text),
            "usd": float(n),
        }
        for (n, strategy), texts in hits.items()
        for seed, text in enumerate(texts)
    )


def test_summary_is_mean_and_spread_over_seeds():
    runs = runs_of({(4, "distill"): ["1110", "1111"], (4, "annotate"): ["1100", "1110"]})
    table = compare.summary(runs).set_index("strategy")
    assert table.loc["distill", ["mean", "min", "max", "count"]].tolist() == [0.875, 0.75, 1.0, 2]
    assert table.loc["annotate", "usd"] == 4


def test_gaps_pair_the_answers_text_by_text():
    ours, theirs = ["11100", "11110", "01110"], ["11000", "11100", "10110"]
    runs = runs_of({(4, "distill"): ours, (4, "annotate"): theirs})
    (row,) = compare.gaps(runs, "distill", "annotate").itertuples()
    assert (row.labels, row.model, row.seeds) == (4, "2 layers", 3)
    assert (row.low, row.high) == pytest.approx((0, 20))
    as_numbers = [[[int(hit) for hit in row] for row in side] for side in (ours, theirs)]
    assert row.gap == stats.compare(*map(np.array, as_numbers))
    assert row.gap.difference == pytest.approx(2 / 15)


def test_two_seeds_have_a_difference_and_no_interval():
    runs = runs_of({(4, "distill"): ["1111", "0000"], (4, "annotate"): ["0000", "1111"]})
    (row,) = compare.gaps(runs, "distill", "annotate").itertuples()
    assert (row.gap.difference, row.gap.low) == (0, None)
    assert (row.low, row.high) == (-100, 100)


def test_an_unknown_strategy_is_named():
    runs = runs_of({(4, "distill"): ["10"], (4, "annotate"): ["10"]})
    with pytest.raises(FrugalError, match="unknown strategy 'destill'; did you mean 'distill'"):
        compare.gaps(runs, "destill", "annotate")


def test_worth_reads_the_labels_curve_and_says_where_it_ends():
    hits = {
        (100, "annotate"): ["1100000000"],  # 0.2
        (300, "annotate"): ["1111000000"],  # 0.4
        (1000, "annotate"): ["1111110000"],  # 0.6
        (100, "distill"): ["1111100000"],  # 0.5: halfway from 300 to 1,000
        (300, "distill"): ["1110000000"],  # worse than the labels
        (1000, "distill"): ["1111111100"],  # better than all labels
    }
    assert compare.worth(runs_of(hits), "2 layers") == {
        100: pytest.approx(650),
        300: 300,
        1000: None,
    }


def test_runs_that_kept_a_digit_a_text_are_read_beside_others():
    old = runs_of({(4, "distill"): ["11100", "01110"]})
    new = compare.packed(old)
    assert new["hits"].tolist() == ["e0", "70"]
    assert new["examples"].tolist() == [5, 5]
    assert compare.packed(new).equals(new)
    both = pd.concat([old[:1], new[1:]], ignore_index=True)  # `examples` is missing in one
    assert compare.packed(both).equals(new)


def made(leads, seeds=5, texts=1000):
    """Runs in which labels alone answer half of the texts, and a distilled student more or less."""
    draw = np.random.default_rng(0).random
    hits = {}
    for n, lead in leads.items():
        for way, level in (("annotate", 0.5), ("distill", 0.5 + lead)):
            drawn = draw((seeds, texts)) < level
            hits[n, way] = ["".join(str(int(h)) for h in row) for row in drawn]
    return runs_of(hits)  # a label costs a dollar


def test_a_crossing_that_is_known_is_found_with_an_interval_around_it():
    held = compare.crossing(made({100: 0.2, 1000: 0.0, 10_000: -0.2}), "2 layers")
    ((usd, low, high),) = held.places
    assert low < 1000 < high
    assert low < usd < high
    assert (held.first, held.last) == pytest.approx((100, 10_000))
    # At the ends of the interval the difference is no longer clear of 0, a little further it is.
    assert low > 500
    assert high < 2000
    assert str(held) == (
        f"labels and distillation cross at ${usd:,.0f} [${low:,.0f}, ${high:,.0f}], "
        f"the price of {usd:,.0f} labels"
    )


def test_the_place_of_a_crossing_is_where_the_line_between_two_n_is_zero():
    one, two = compare.gaps(made({100: 0.2, 10_000: -0.1}), "distill", "annotate")["gap"].map(
        lambda gap: gap.difference
    )
    ((usd, *_),) = compare.crossing(made({100: 0.2, 10_000: -0.1}), "2 layers").places
    expected = 10 ** (2 + 2 * one / (one - two))
    assert usd == pytest.approx(expected, rel=0.02)


def test_an_interval_is_open_where_the_budgets_end():
    held = compare.crossing(made({100: 0.3, 1000: -0.004}), "2 layers")
    ((_, low, high),) = held.places
    assert low is not None
    assert high is None
    assert ", beyond]" in str(held)


def test_where_nothing_crosses_a_number_says_so():
    ahead = compare.crossing(made({100: 0.2, 1000: 0.1}), "2 layers")
    assert not ahead.places
    least = min(gap.low for gap in ahead.leads.values())
    assert 0.05 < least < 0.1
    end = f"distillation leads by at least {100 * least:.1f} points"
    assert str(ahead) == f"labels and distillation do not cross between $100 and $1,000: {end}"
    behind = compare.crossing(made({100: -0.2, 1000: -0.1}), "2 layers")
    assert "labels lead by at least" in str(behind)
    close = compare.crossing(made({100: 0.2, 1000: 0.005}), "2 layers")
    if not close.places:
        assert "labels would lead by less than" in str(close)
    two = compare.crossing(made({100: 0.2, 1000: 0.1}, seeds=2), "2 layers")
    assert str(two).endswith("(2 draws; an interval needs 3)")
    # Both intervals hold at once, so that each is wider than one alone.
    alone = compare.gaps(made({100: 0.2, 1000: 0.1}), "distill", "annotate")["gap"]
    assert all(gap.low > own.low for gap, own in zip(alone, ahead.leads.values(), strict=True))


def test_a_crossing_needs_two_n():
    with pytest.raises(FrugalError, match=r"both ways at two N; 2 layers has \[100\]"):
        compare.crossing(made({100: 0.1}), "2 layers")


def test_runs_of_two_studies_are_paired_by_seed_and_text():
    runs = made({100: 0.2, 1000: 0.1})
    few = runs.query("strategy == 'distill' and labels == 100")
    many = runs.query("strategy == 'annotate' and labels == 1000")
    ours, theirs = (stats.hits(side.sort_values("seed")["hits"]) for side in (few, many))
    assert compare.less(few[::-1], many) == stats.compare(ours, theirs)
    assert compare.less(few, many[:3]) == stats.compare(ours[:3], theirs[:3])


def test_before_it_is_made_the_long_record_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr(compare.data, "ROOT", tmp_path)
    assert compare.at_length().empty
    (tmp_path / "results").mkdir()
    made({100: 0.1}).to_csv(tmp_path / "results" / "crossing.csv", index=False)
    assert len(compare.at_length()) == 10
