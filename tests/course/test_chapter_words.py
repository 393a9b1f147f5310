"""Sentences of chapters 1 to 3: they have the numbers they are given, are short, and stay right
where the finding turns."""

import numpy as np
import pandas as pd
import pytest

from frugal import stats
from frugal.papers import tables
from frugal_course.figures import words_costs, words_peft, words_tfew

LONGEST = 240
RNG = np.random.default_rng(0)


def compared(ours, theirs, draws=3, texts=200):
    return stats.compare(RNG.random((draws, texts)) < ours, RNG.random((draws, texts)) < theirs)


def test_training_pays_off_after_the_queries_of_the_table():
    paid = pd.DataFrame({"rule of thumb": [19, 739, 616], "exact": [12, 454, 360]})
    title, text = words_costs.pays_off(paid, "20", 2 / 3)
    assert title == "T-Few pays off after 19 queries; against a cached prompt, after 739"
    assert "616 against a model of its own size. Counted exactly: 12, 454, 360" in text
    assert "67% of the rule" in text
    assert len(text) <= LONGEST


def test_a_cache_is_compared_with_a_t_few_query():
    title, text = words_costs.cached({"no": 4e15, "yes": 1e14, "t": 1e12}, 41, "41×", 19.8)
    assert title == "A cache saves a factor of 40; a query still costs 100 T-Few queries"
    assert "4e15 FLOPs without a cache, 1e14 with one, T-Few 1e12" in text
    assert "context holds 19" in text


def test_wrong_rows_of_a_mixed_batch_are_counted():
    rows = pd.DataFrame({"task": list("abc"), "frugal": 0.0, "Hugging Face peft": [0, 7.7, 13]})
    text = words_peft.mixed(rows, "0.21", ignored=True)
    assert text.startswith("2 of 3 rows are wrong with Hugging Face peft 0.21, by up to 13")
    assert len(text) <= LONGEST
    assert "do not exist" not in words_peft.mixed(rows, "0.21", ignored=False)


def test_published_lead_names_who_is_ahead():
    published = pd.DataFrame({"accuracy": {"full": 0.633, "ia3": 0.646, "lora": 0.628}})
    assert words_peft.published_title(published) == (
        "Published: only (IA)³ beats full fine-tuning, by 1.3 points"
    )


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_what_no_number_of_texts_can_show_is_said(spread):
    shift = RNG.normal(0, spread, 4)[:, None]
    pilot = stats.compare(RNG.random((4, 300)) < 0.7 + shift, RNG.random((4, 300)) < 0.6)
    text = words_tfew.needed(pilot, stats.power, (3, 5, 10, 20), "T-Few and ICL", "movie-reviews")
    assert ("texts with 20 draws" in text) == (spread == 0)
    assert "no number of texts is enough" in text  # with three draws in either case
    assert "The 4 draws and 300 texts here" in text
    assert len(text) <= LONGEST


def test_swapped_labels_have_a_line_a_k():
    gaps = {4: compared(0.7, 0.65), 16: compared(0.7, 0.3)}
    frame = pd.DataFrame(
        [(k, labels, 0.5) for k in gaps for labels in ("right", "swapped")],
        columns=["shots", "labels", "accuracy"],
    )
    means = frame.groupby(["shots", "labels"])["accuracy"].mean()
    title, text = words_tfew.swapped(gaps, means, "movie-reviews", "smollm2-135m")
    assert title.startswith("16 shots: right labels is ") or "differ by less than" in title
    assert [line.count("points [") for line in text.splitlines()] == [1, 1]
    assert max(map(len, text.splitlines())) <= LONGEST


def test_the_closing_table_of_chapter_3_follows_its_differences():
    printed = tables.wide("tfew_table1")
    ahead, level = compared(0.9, 0.5), compared(0.6, 0.6)
    dollars = type("Item", (), {"printed": "$2", "recomputed": "$1.70", "verdict": "reproduced"})
    given = {
        "printed": printed,
        "tasks": (4, 14),
        "gains": {"a": ahead},
        "over_zero": {"a": level},
        "own_row": 62.5,
        "cost": 21.0,
        "paid": pd.Series([15.0, 14.6]),
        "dollars": dollars,
        "published": pd.Series([60.7, 63.3]),
        "losses": level,
        "swap": ahead,
        "spread": 12.0,
        "rungs": pd.DataFrame({"ratio": [2.6, 1.5, 1.0]}),
        "choices": 3,
        "models": ("smollm2-135m", "nano-t0"),
    }
    rows = words_tfew.closing(recorded=ahead, **given)
    assert (rows[0].tested, rows[0].verdict) == ("recorded: 4 of 14 tasks, 5 draws", "confirmed")
    assert rows[2].verdict == "open"
    assert {r.claim: r.verdict for r in rows}[
        "ICL does well behind wrong labels too (Min et al. 2022)"
    ] == "contradicted"
    assert words_tfew.closing(recorded=None, **given) == rows[1:]
    assert all(len(cell) < 120 for row in rows for cell in row)
