"""Display names: one for each identifier, put in wherever a person reads; code and paths stay."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomllib

from frugal import data, stats
from frugal.costs import arch, prices
from frugal_course import figures, names
from frugal_course.figures import closing, style, tables

TASKS = Path(data.ROOT) / "tasks"


def test_every_architecture_price_and_method_has_a_name_a_reader_knows():
    known = [*arch.names(), *(price.model for price in prices.apis())]
    known += tomllib.loads((data.ROOT / "figure2.toml").read_text())
    plain = {"adapter", "prefix", "full", "nano-t0", "davinci"}  # words, or names as they are
    assert not [name for name in known if names.name(name) == name and name not in plain]
    assert names.name("full") == "full fine-tuning"
    shown = [*names.NAMES.values(), *names.WORDS.values()]
    assert not [name for name in shown if names.RAW.fullmatch(name)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ia3 less lora, movie-reviews: +1", "(IA)³ less LoRA, movie reviews: +1"),
        ("compacter++, compacter", "Compacter++, Compacter"),
        ("t0-11b's 1.44e+15 FLOPs, 3e-3, 1e+05.", "T0-11B's 1.44e15 FLOPs, 3e-3, 1e5."),
        ("data/ia3 `ia3` --method ia3-ff ia3.py", "data/ia3 `ia3` --method ia3-ff ia3.py"),
        ("the full text, an adapter", "the full text, an adapter"),
        ("smollm2-135m · 8 steps", "SmolLM2-135M · 8 steps"),
    ],
)
def test_identifiers_in_a_text_are_named_and_code_is_left(text, said):
    assert names.said(text) == said
    assert names.said(said) == said


def test_titles_labels_and_tables_have_names():
    figure, (axes,) = style.panels(1, "ia3 is ahead")
    style.heading(axes, "smollm2-135m")
    style.beside(axes, "lora", 0.5, 0.5)
    assert figure.get_suptitle() == "(IA)³ is ahead"
    assert axes.get_title("left") == "SmolLM2-135M"
    assert axes.texts[0].get_text() == "LoRA"
    table = tables.readable(
        pd.DataFrame({"train_flops": [4.0788e17], "runs": [1_250_000]}, index=["bigscience/T0_3B"])
    )
    assert table.to_dict() == {
        "FLOPs of training": {"T0-3B": "4.08e17"},
        "runs": {"T0-3B": "1,250,000"},
    }


def test_a_claim_is_judged_by_its_interval():
    hits = np.eye(40)[:3].repeat(10, axis=1)
    ahead = stats.compare(np.ones((3, 400)), hits)
    assert closing.verdict(ahead) == "confirmed"
    assert closing.verdict(ahead, above=False) == "contradicted"
    assert closing.verdict(stats.compare(hits[:2], 0 * hits[:2])) == "open"  # no interval
    row = figures.compared("a claim", "72.4%", "recorded: 3 draws", ahead)
    assert row.measured.startswith("+9")
    assert row.interval[0] + row.interval[-1] == "[]"
    assert row.verdict == "confirmed"
    few = figures.compared("a claim", "72.4%", "live", stats.compare(hits[:2], 0 * hits[:2]))
    assert (few.interval, few.verdict) == ("", "open")
