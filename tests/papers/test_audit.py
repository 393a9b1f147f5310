"""The audit finds what is known to be wrong in the papers, and knows no verdict beforehand."""

from collections import Counter
from decimal import Decimal

import pandas as pd
import pytest

from frugal import data
from frugal.errors import FrugalError
from frugal.papers import audit, rules, tables

ITEMS = {item.id: item for item in audit.run()}


def test_ids_are_unique_and_counts_add_up():
    items = audit.run()
    assert len(ITEMS) == len(items)
    found = audit.summary(items)
    assert found["checked"] == found["reproduced"] + found["rounded"] + found["failed"]
    assert all(i.note for i in items if i.verdict == "failed")


@pytest.mark.parametrize(
    ("id_", "verdict", "recomputed"),
    [
        ("tfew/T-Few/inference", "reproduced", "1.133e+12"),
        ("tfew/T-Few/training", "reproduced", "2.7192e+16"),
        ("tfew/GPT-3 175B/inference", "reproduced", "1.44235e+15"),
        ("tfew/GPT-3 6.7B/inference", "failed", "5.52214e+13"),
        ("tfew/GPT-3 13B/inference", "failed", "1.07146e+14"),
        ("tfew/T0/accuracy", "failed", "62.5091"),
        ("tfew/kv-cache-deck", "failed", "77.3 GB"),
        ("tfew/kv-cache-paper", "reproduced", "144.00 GiB"),
        ("tfew/shots-median", "failed", "32"),
        ("tfew/loss/L_LM + L_LN", "failed", "63.25"),
        ("tfew/cache-saving", "failed", "40.0097"),
        ("tfew/ensemble-factor", "reproduced", "1.99976"),
        ("tfew/size-ratio", "reproduced", "15.9091"),
        ("tfew/cached-gpt3", "reproduced", "gpt3-6.7b 1.22×, gpt3-13b 2.36×, gpt3-175b 31.82×"),
        ("tfew/attention-deck", "failed", "(k + 1)² = 1764"),
        ("tfew/context-window", "failed", "at most 2,048"),
        ("tfew/context-cache", "failed", "at most 2,048"),
        ("tfew/accuracy-median", "failed", "75.0 against 77.7"),
        ("tfew/gpt3-margin", "reproduced", "5.8"),
        ("tfew/ablation-pretraining", "reproduced", "1.6"),
        ("tfew/ablation-losses", "reproduced", "4.1"),
        ("tfew/raft-tasks", "reproduced", "11"),
        ("tfew/params/Compacter", "failed", "870400"),
        ("tfew/params/Compacter++", "failed", "560128"),
        ("tfew_table5_peft/Prefix tuning/repeated", "failed", "H-Swag and ANLI-R3: 34.40 (9.71)"),
        ("tfew/train-in-queries", "rounded", "18.8526"),
        ("tfew/ia3-formula-deck", "failed", "1081344"),
        ("tfew/dollars-deck", "failed", "$5.10"),
        ("tfew/ablation-drop", "failed", "2.7"),
        ("tfew/params/LoRA", "reproduced", "9097216"),
        ("tfew/params/Adapter", "reproduced", "12934144"),
        ("spaces_table3_groups/G_3, G_4/average", "failed", "70.8875"),
        ("spaces_table4_t5/T5-base/significance", "failed", "4 of 8 datasets"),
        ("spaces_table4_t5/T5-3b/significance", "failed", "3 of 8 datasets"),
        ("spaces_table5_roberta/RoBERTa-base/significance", "failed", "2 of 8 datasets"),
        ("spaces_table5_roberta/RoBERTa-large/significance", "failed", "0 of 8 datasets"),
        ("spaces/averages", "failed", "59 rounded, 31 only cut off, 4 neither"),
        ("spaces_strategy_g2/winner", "rounded", "G_2-(A, P) by 0.05"),
        ("spaces_strategy_g4/winner", "reproduced", "G_4-(P, B, L) by 0.4"),
        ("spaces_table4_t5/T5-base/gain", "rounded", "+1.1375"),
        ("spaces_table3_groups/rows/repeated", "failed", "1 such rows"),
        ("spaces/assignments", "failed", "15 subsets"),
        ("spaces/layers-deck", "failed", "48"),
        ("annotate/table1/WLP", "reproduced", "$3111.16"),
        ("annotate/table3/WLP/headings", "reproduced", "+$100, +$200, +$300, +$500"),
        ("annotate/table3/STANCEOSAURUS/headings", "failed", "+$100, +$150, +$200, +$300"),
        ("annotate/table3/FEVER/headings", "failed", "+$50, +$75, +$100, +$150"),
        ("annotate/table4/WLP/distilled", "failed", "72.5"),
        ("annotate/table4/FEVER/distilled", "failed", "74.3"),
        ("annotate/params/student-heading", "failed", "222903552"),
        ("annotate/table1/FEVER", "rounded", "$13540.61"),
        ("annotate/table3/WLP/1K/Ann/+$100", "reproduced", "$99.84"),
        ("annotate/table3/FEVER/5K/Dist/+$500", "failed", "$150.00"),
        ("annotate/table4/NATURAL QUESTIONS/upper-bound", "failed", "$10625.99"),
    ],
)
def test_known_findings(id_, verdict, recomputed):
    assert (ITEMS[id_].verdict, ITEMS[id_].recomputed) == (verdict, recomputed)


@pytest.mark.parametrize(
    ("id_", "said"),
    [
        ("tfew/T0/accuracy", "ANLI's three rounds as one dataset it would be 67.0"),
        (
            "spaces_table4_t5/T5-base/gain",
            "CoLA alone adds +1.39; on the other 7 tasks S4 is at -0.29",
        ),
        ("spaces/assignments", "(A, B), (P, B), (B, L)"),
        ("spaces_table3_groups/rows/repeated", "G_2: MNLI, QQP, STS-B are all 72.8"),
        ("annotate/table1/MULTIPIT_Gen", "also that of MULTIPIT_Id"),
    ],
)
def test_notes_say_what_happened(id_, said):
    assert said in ITEMS[id_].note


def test_places_name_the_table():
    assert ITEMS["spaces_table4_t5/T5-base/gain"].where.startswith("table 4: T5-base")
    assert ITEMS["tfew_table5_peft/LoRA/average"].where.startswith("arXiv 2205.05638v2, table 5")
    assert ITEMS["spaces_strategy_g2/winner"].where == "strategy assignment of G2: best average"
    assert not any("et al." in item.where for item in ITEMS.values())


def test_every_failure_belongs_to_one_finding():
    items = audit.run()
    found = audit.findings(items)
    failed = [item for item in items if item.verdict == "failed"]
    assert all(item.finding for item in failed)
    assert not any(item.finding for item in items if item.verdict != "failed")
    known = [row["id"] for row in data.rows("findings.csv")]
    assert sorted(known) == sorted(f.id for f in found)  # none that nothing fails by
    assert sum(f.cells for f in found) == len(failed)
    assert [f.column for f in found] == sorted((f.column for f in found), key=audit.COLUMNS.index)
    by = {f.id: f for f in found}
    assert (by["budget-headings"].column, by["budget-headings"].cells) == ("deck", 30)
    assert (by["stars"].column, by["stars"].cells) == ("assumption", 25)
    assert by["mislabelled-loss"].column == "paper"  # section 3.2 has it, the deck copied it
    assert by["t0-accuracy"].recomputed == "62.5091"


def test_a_number_can_be_looked_up():
    """`make figures` writes the table in which every number stands."""
    written = pd.read_csv(data.ROOT / "results" / "audit.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(written, audit.frame().astype(str))


def test_starred_items_come_first():
    assert set(audit.STARRED) <= set(ITEMS)
    frame = audit.frame()
    assert tuple(frame["id"][frame["starred"]]) == audit.STARRED
    assert frame["starred"].is_monotonic_decreasing
    assert set(frame["id"]) == set(ITEMS)


def test_the_94_averages_are_mostly_cut_off():
    averages = [i for i in ITEMS.values() if i.paper == "spaces" and i.rule == "mean_of_row"]
    step = Decimal("0.1")
    values = [(Decimal(i.printed), Decimal(i.recomputed)) for i in averages]
    assert len(averages) == 94
    assert sum(rules.cut(v, step) == p for p, v in values) == 72
    assert sum(rules.rounds(v, step) == p for p, v in values) == 59
    assert Counter(i.verdict for i in averages)["failed"] == 3


def test_headings_are_right_for_one_task_only():
    cells = [i for i in ITEMS.values() if "/table3/" in i.id and "/+$" in i.id]
    assert len(cells) == 48
    right = {i.id.split("/")[2] for i in cells if i.verdict == "reproduced"}
    wrong = Counter(i.id.split("/")[2] for i in cells if i.verdict == "failed")
    assert right == {"WLP", "STANCEOSAURUS"}
    assert wrong == {"STANCEOSAURUS": 12, "FEVER": 16}


@pytest.mark.parametrize(
    ("printed", "value", "how", "verdict"),
    [
        ("1.1e12", 1.133e12, {}, "reproduced"),
        ("5.4e13", 5.522e13, {}, "failed"),
        ("72.4%", Decimal("72.45"), {}, "failed"),
        ("72.4%", Decimal("72.45"), {"slack": Decimal("0.05")}, "rounded"),
        ("72.5%", Decimal("72.45"), {}, "reproduced"),
        ("20", 18.85, {}, "failed"),
        ("20", 18.85, {"step": Decimal(10)}, "rounded"),
        ("409K", 409_600, {"cuts": True}, "rounded"),
        ("1,000×", 1000.2, {}, "reproduced"),
        ("$2", 1.7, {}, "reproduced"),
        ("16 kB", 16_072, {}, "reproduced"),
    ],
)
def test_verdicts_follow_the_printed_digits(printed, value, how, verdict):
    assert rules.judge(printed, value, **how) == verdict


def test_verdicts_are_computed(monkeypatch):
    """A different printed number gives a different verdict."""
    real = data.rows

    def changed(name):
        records = real(name)
        if name == "papers/tfew_table1.csv":
            for r in records:
                if (r["row"], r["column"]) == ("T0", "accuracy"):
                    r["printed"] = "62.5%"
        return records

    monkeypatch.setattr(data, "rows", changed)
    found = {i.id: i.verdict for i in audit.run("tfew")}
    assert found["tfew/T0/accuracy"] == "reproduced"


def test_tables_load():
    for name in tables.names():
        frame = tables.load(name)
        assert len(frame)
        assert frame["source"].str.len().gt(0).all()
    wide = tables.wide("spaces_table4_t5")
    assert wide.shape == (12, 9)
    assert wide.loc[("T5-3b", "full"), "CoLA"] == 67.1
    assert tables.wide("tfew_table9_main").index[0] == "T-Few"
    with pytest.raises(FrugalError, match="did you mean 'tfew_table1'"):
        tables.load("tfew_table_1")


def test_frames_for_a_notebook():
    assert len(audit.table1()) == 25
    assert set(audit.frame().columns) >= {"id", "printed", "recomputed", "verdict", "note"}
