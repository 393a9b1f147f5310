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
