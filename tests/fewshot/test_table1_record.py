"""The record of our own Table 1: read at one precision, and never of a part of a way's draws."""

import numpy as np
import pandas as pd
import pytest
import torch

from frugal import data, stats
from frugal.engine import presets
from frugal.fewshot import table1, table1_plan, table1_record, table1_run
from frugal.fewshot.table1_record import CALIBRATED

PLAN = table1_plan.frozen()
RATES = data.ROOT / "results" / "table1_rates.csv"
TEXTS = 40
FEW = PLAN.tasks[:6]  # on which int8 is tried beside float32


def rows(precision, ways=PLAN.ways, tasks=PLAN.tasks):
    """Made up: what a whole sweep of these at a precision leaves."""
    found = []
    for task in tasks:
        for name in ways:
            way = PLAN.ways[name]
            if way.also and task not in PLAN.also:
                continue
            for suffix in ("", CALIBRATED) if way.kind == "prompt" else ("",):
                for draw in range(way.draws):
                    seed = [*f"{task} {name} {suffix} {draw}".encode()]
                    hits = np.random.default_rng(seed).random(TEXTS) < 0.7
                    if precision == "int8" and draw == 0:
                        hits[0] = not hits[0]  # what int8 changes
                    found.append(
                        {
                            "task": task,
                            "way": name + suffix,
                            "draw": draw,
                            "accuracy": hits.mean(),
                            "hits": stats.packed(hits),
                            "examples": TEXTS,
                            "flops_per_query": 1e9 if name == "ia3" else 4e9,
                            "precision": way.precision(precision),
                        }
                    )
    return pd.DataFrame(found)


@pytest.fixture
def file(tmp_path):
    """Writes rows as the record is kept: sorted, none twice."""

    def write(*parts):
        table = pd.concat(parts, ignore_index=True)
        keys = ["task", "way", "precision", "draw"]
        table.drop_duplicates(keys).sort_values(keys).to_csv(tmp_path / "t.csv", index=False)
        return tmp_path / "t.csv"

    return write


def same(some, other):
    keys = ["task", "way", "draw"]
    some, other = (t.sort_values(keys).reset_index(drop=True) for t in (some, other))
    pd.testing.assert_frame_equal(some, other)


def test_rates_are_those_that_did_best_where_they_were_chosen():
    tried = table1_record.recorded(RATES)
    assert set(tried["task"]) == {PLAN.rates.task}
    assert (tried.groupby(["way", "lr"]).size() == PLAN.rates.draws).all()
    for name, rates in PLAN.rates.tried.items():
        mine = tried[tried["way"] == name].groupby("lr")["accuracy"].mean()
        assert list(mine.index) == sorted(rates)
        way = PLAN.ways[name]
        assert (way.recipe or way.head)["lr"] == mine.idxmax()


def test_the_record_is_read_at_one_precision(file):
    low, few = rows("int8"), rows("float32", ["ia3"], FEW)
    assert set(low.loc[low["precision"] == "float32", "way"]) == {"full", "head"}
    kept = file(low, few)
    same(table1_record.recorded(kept), low)
    same(table1_record.recorded(kept, "int8"), low)
    high = low[low["precision"] == "float32"]
    same(table1_record.recorded(kept, "float32"), pd.concat([high, few]))
    # Of a record in float32 with some rows in int8, the former; of as many, int8.
    same(table1_record.recorded(file(rows("float32"), rows("int8", ["ia3"]))), rows("float32"))
    same(table1_record.recorded(file(few, rows("int8", ["ia3"], FEW))), rows("int8", ["ia3"], FEW))
    # A way that could be in int8 is not filled in from float32.
    part = rows("int8", ["icl-16", "zero-shot", "lora"])
    same(table1_record.recorded(file(part, few)), part)


def test_what_is_said_of_ways_is_the_same_with_float32_beside_it(file):
    low = rows("int8")
    alone = table1_record.recorded(file(low))
    over, means = table1_record.over_tasks(alone), table1_record.means(alone)
    beside = table1_record.recorded(file(low, rows("float32", ["ia3"], FEW)))
    pd.testing.assert_frame_equal(table1_record.over_tasks(beside), over)
    pd.testing.assert_frame_equal(table1_record.means(beside), means)
    assert len(over) == len(table1_record.PAIRS)
    assert (over["tasks"] == over["planned"]).all()
    assert set(over["planned"]) == {len(PLAN.tasks), len(PLAN.also)}


def test_what_int8_costs_is_paired_by_draw_and_text(file):
    low, high = rows("int8"), rows("float32", ["ia3"], FEW)
    # A task that lacks a draw in either precision is left out.
    part = high[~((high["task"] == FEW[1]) & (high["draw"] == 3))]
    less = low[~((low["task"] == FEW[2]) & (low["way"] == "ia3") & (low["draw"] == 4))]
    name, each = table1_record.against_float32("ia3", file(less, part))
    assert name == "int8"
    assert list(each) == [task for task in PLAN.tasks if task in FEW and task not in FEW[1:3]]
    for task, found in each.items():
        ours, theirs = (
            np.stack([stats.unpacked(h, TEXTS) for h in mine.sort_values("draw")["hits"]])
            for mine in (t[(t["task"] == task) & (t["way"] == "ia3")] for t in (low, high))
        )
        assert found == stats.compare(ours, theirs)
        assert abs(found.difference) == pytest.approx(1 / (5 * TEXTS))  # one text of one draw
    for kept in (file(low), file(high), file(rows("float32", ["ia3", "icl-16"]))):
        assert not table1_record.against_float32("ia3", kept)[1]
    assert not table1_record.against_float32("head", file(low, high))[1]


def test_nothing_recorded_is_empty_tables(tmp_path, file):
    for kept in (tmp_path / "none.csv", file(rows("int8").head(0))):
        none = table1_record.recorded(kept)
        assert none.empty
        assert table1_record.over_tasks(none).empty
        assert table1_record.means(none).empty
        assert table1_record.verdicts(none, "ia3", "icl-16").empty
        assert table1_record.against_float32("ia3", kept) == ("float32", {})


def test_verdicts_are_of_the_tasks_that_have_all_draws():
    found = rows("int8", ["ia3", "icl-16", "zero-shot", "L_LM"])
    every = table1_record.differences(found, "ia3", "icl-16")
    assert tuple(every) == PLAN.tasks
    for name, difference in every.items():
        own, other = (table1_record.hits(found, name, way) for way in ("ia3", "icl-16"))
        assert (own.shape, other.shape) == ((5, TEXTS), (10, TEXTS))
        assert difference == stats.compare(own, other)
    zero = table1_record.differences(found, "ia3", "zero-shot" + CALIBRATED)["fever"]
    assert zero.texts == TEXTS
    table = table1_record.verdicts(found, "ia3", "icl-16").set_index("task")
    mine = found.query("task == 'fever' and way == 'ia3'")
    assert table.loc["fever", "ours"] == pytest.approx(mine["accuracy"].mean())
    assert table.loc["fever", "ours_flops"] == 1e9
    part = found[~((found["task"] == "fever") & (found["way"] == "ia3") & (found["draw"] == 1))]
    assert set(PLAN.tasks) - set(table1_record.differences(part, "ia3", "icl-16")) == {"fever"}
    over = table1_record.over_tasks(part).set_index(["ours", "theirs"])
    assert over.loc[("ia3", "icl-16"), ["tasks", "planned"]].tolist() == [13, 14]
    assert over.loc[("ia3", "L_LM"), ["tasks", "planned"]].tolist() == [4, 4]
    assert ("ia3", "lora") not in over.index
    assert over.loc[("ia3", "icl-16"), "flops"] == pytest.approx(4)
    means = table1_record.means(part)
    assert np.isnan(means.loc["fever", "ia3"])
    assert means.loc["tweets", "ia3"] == pytest.approx(
        found.query("task == 'tweets' and way == 'ia3'")["accuracy"].mean()
    )
    assert list(means.columns[:2]) == ["zero-shot", "zero-shot" + CALIBRATED]


def cheap(recorded, count=3):
    """The cheapest recorded rows: first one of each way, those of the cheapest ways."""
    own = recorded[~recorded["way"].str.endswith(CALIBRATED)].sort_values("seconds")
    return own.iloc[own.groupby("way").cumcount().argsort(kind="stable")].head(count)


def test_cheap_rows_are_of_several_ways_if_there_are_several():
    found = pd.DataFrame(
        {
            "way": ["ia3", "ia3", "zero-shot" + CALIBRATED, "zero-shot", "lora", "head"],
            "seconds": [50, 40, 1, 9, 90, 2],
        }
    )
    assert cheap(found)["seconds"].tolist() == [2, 9, 40]
    assert cheap(found[found["way"] == "ia3"])["seconds"].tolist() == [40, 50]


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("place", range(3))
def test_committed_rows_come_out_again(place):
    recorded = table1_record.recorded()
    if recorded.empty or len(found := cheap(recorded)) <= place:
        pytest.skip("not recorded yet")
    row = found.iloc[place]
    laptop = presets.named("laptop")
    specs = table1.specs(laptop, row["precision"], names=[row["task"]], ways=[row["way"]])
    spec = specs[row["draw"]]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as they were recorded: two add up in another order, and round so
    try:
        again = table1_run.score(**spec.params)
    finally:
        torch.set_num_threads(threads)
    if (spec.inputs["versions"], presets.machine()) == (row["versions"], row["machine"]):
        assert spec.id == row["spec"]
        assert again["hits"] == row["hits"]
    low, high = stats.wilson(round(row["accuracy"] * row["examples"]), row["examples"])
    assert low <= again["score"] <= high
