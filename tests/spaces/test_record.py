"""What a search's table of runs keeps: enough to say all that the search said."""

import numpy as np
import pandas as pd
import pytest

from frugal import stats
from frugal.engine import runs, sweep
from frugal.engine.presets import Spaces
from frugal.engine.runs import Store
from frugal.errors import FrugalError
from frugal.spaces import record, rivals, search
from frugal.spaces.search import Search, Settings

SETTINGS = Settings(
    backbone="none",
    arch="minilm-l6",
    tasks=("one", "two"),
    labels=10,
    limit=10,
    designs=3,
    last_designs=2,
    recipe={"epochs": 2, "lr": 1e-3},
    flops_per_second=1e9,
)


@runs.job(inputs=lambda **_: {"classifier": "2"})
def scored(design, seed, task, **_):
    """More with longer text, and by task and seed."""
    score = 0.001 * len(design) + 0.01 * seed + 0.1 * (task == "two")
    return {"score": score, "params": 100, "head_params": 5, "loss": 1.0}


@pytest.fixture(autouse=True)
def _job(monkeypatch):
    monkeypatch.setattr(search, "JOB", f"{__name__}:scored")


def test_stages_are_those_of_the_store_from_the_table_alone(tmp_path, monkeypatch):
    found = Search(SETTINGS.model_copy(update={"until": "S4-G1"}), Store(tmp_path))
    said = found.run()
    file = tmp_path / "runs.csv"
    with monkeypatch.context() as once:
        once.setattr(stats, "judge", lambda _: pytest.fail("judged again"))
        record.table(found, said).to_csv(file, index=False)
    pd.testing.assert_frame_equal(record.table(found, said), record.table(found))
    kept = record.read(file)
    assert set(kept["classifier"]) == {2}
    assert set(record.read()["classifier"]) == {1}  # by the training of before
    assert len(kept) == sum(stage.done for stage in said)
    for own, again in zip(said, record.stages(kept), strict=True):
        assert (own.name, own.winner, own.done) == (again.name, again.winner, again.done)
        pd.testing.assert_frame_equal(own.candidates, again.candidates, rtol=1e-5, atol=1e-5)
    assert {"epochs", "lr", "labels", "limit", "budget", "date", "machine"} <= set(kept.columns)
    assert kept["lr"].unique().tolist() == [1e-3]


def test_a_stage_that_is_not_done_has_no_winner_and_half_a_design_no_score(tmp_path):
    found = Search(SETTINGS, Store(tmp_path))
    with pytest.raises(FrugalError, match="no run of the search is done"):
        record.table(found)
    (begun,) = found.report()
    sweep.run(begun.specs["S0"][:3], found.store)
    kept = record.table(found)
    assert len(kept) == 3
    assert record.designs(kept)["seed"].tolist() == [0]
    (stage,) = record.stages(kept)
    assert stage.winner is None
    assert record.summary([stage]).empty
    with pytest.raises(FrugalError, match="there is no recorded search"):
        record.read(tmp_path / "none.csv")


def test_summary_has_a_row_for_each_decision(tmp_path):
    found = Search(SETTINGS.model_copy(update={"until": "S2"}), Store(tmp_path))
    stages = found.run()
    assert [stage.name for stage in stages] == ["S0", "S1", "S2"]
    table = record.summary(stages).set_index("stage")
    assert table.index.tolist() == ["S1", "S2"]
    for stage in stages[1:]:
        row, means = table.loc[stage.name], stage.candidates.set_index("name")["mean"]
        assert row["winner"] == stage.winner == means.idxmax()
        assert row["lead"] == pytest.approx(means.nlargest(2).iloc[0] - means.nlargest(2).iloc[1])
        assert row["papers_mean"] == means[row["papers"]]
        assert row["every"] == pytest.approx(means.mean())
        others = means.drop(stage.winner)
        ours = np.array(stage.scores[stage.winner])[:, None]
        for rival, lead in (
            (row["second"], row["over_second"]),
            (row["papers"], row["over_papers"]),
        ):
            if rival == stage.winner:
                assert lead is None
                continue
            theirs = np.array(stage.scores[rival])[:, None]
            assert lead == stats.compare(ours, theirs, of=len(others))
            assert lead.difference == pytest.approx(means[stage.winner] - means[rival])
        assert [each["over"] for each in stage.record()["leads"]] == list(stage.leads)
    assert not stages[0].leads
    assert table["papers"].tolist() == ["spindle", "uniform"]


def test_the_live_settings_are_a_part_of_a_presets():
    own = {"live": {"designs": 1, "until": "S1"}, "rivals": {"seeds": 1, "designs": {}}}
    preset = Spaces(**SETTINGS.model_dump(exclude={"inputs"}), **own)
    assert Settings.of(preset) == SETTINGS
    live = Settings.of(preset, live=True)
    assert (live.designs, live.until, live.labels) == (1, "S1", 10)
    assert Settings.of(preset, live=True, designs=7, last_designs=None).designs == 7


def test_rivals_share_draws_that_no_search_used(tmp_path):
    wanted = rivals.specs(SETTINGS, {"s4": {}, "B": {}, "full": {"lr": 1e-4}}, 3)
    seeds = {spec.params["seed"] for specs in wanted.values() for spec in specs}
    assert seeds == {1000, 1001, 1002}
    (shape,) = {SETTINGS.architecture()}
    bitfit = wanted["B"][0].params["budget"]
    assert bitfit < SETTINGS.budget  # it has no size, so that it trains less
    assert round(bitfit * shape.params) == 6 * (4 * 384 + 1536 + 384 + 2 * 384)
    assert wanted["full"][0].params["recipe"] == {"epochs": 2, "lr": 1e-4}
    store = Store(tmp_path)
    sweep.run([spec for specs in wanted.values() for spec in specs], store)
    table = rivals.table(store, wanted)
    assert len(table) == 3 * 3 * 2
    assert set(table["name"]) == {"the paper's S4", "bitfit", "full"}
    assert (table["params"] == 100).all()  # without the head
    apart = rivals.gap(table, "full", "bitfit")
    assert (apart.difference, apart.draws) == (pytest.approx(0.003), 3)
    assert apart.high == pytest.approx(apart.low)  # the scores of two designs rise alike
    own = table[table["seed"] < 1002]
    assert rivals.gap(own, "full", "bitfit").low is None
    shaken = table.assign(score=table["score"] + 0.01 * np.sin(7 * np.arange(len(table))))
    wide = shaken.pivot(index=["task", "seed"], columns="name", values="score")
    each = (wide["full"] - wide["bitfit"]).unstack("task")
    apart = rivals.gap(shaken, "full", "bitfit")
    assert apart.difference == pytest.approx(each.to_numpy().mean())
    assert apart.variance == pytest.approx((each.var() / 3).sum() / 4)
    one, three = (rivals.gap(shaken, "full", "bitfit", of=of).high for of in (1, 3))
    assert three > one
