"""Figure 2: every method has its recipe, runs resume, and counts are the paper's."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from frugal import data, peft
from frugal.cli import app
from frugal.costs import arch
from frugal.engine import presets, runs, sweep
from frugal.errors import FrugalError
from frugal.fewshot import figure2
from frugal.papers import tables

KNOWN = data.toml("figure2.toml")
SMOKE = presets.settings("smoke")


def test_every_row_of_the_papers_table_is_a_method_here():
    assert {e["row"] for e in KNOWN.values()} == set(tables.load("tfew_table4_peft")["row"])
    assert {e["method"] for e in KNOWN.values()} == set(peft.METHODS)
    for preset in presets.names():
        settings = presets.settings(preset).figure2
        assert set(settings.methods) <= set(KNOWN)


def test_recipes_are_the_papers_on_a_server_and_keep_its_proportions_elsewhere():
    server = presets.settings("server").figure2
    for name, entry in KNOWN.items():
        found = figure2.recipe(name, server)
        assert (found.steps, found.lr) == (entry["paper"]["steps"], entry["paper"]["lr"])
    laptop = presets.settings("laptop").figure2.given(steps=100)
    steps = {name: figure2.recipe(name, laptop).steps for name in KNOWN}
    assert steps["ia3"] == 100
    assert steps["full"] == 30
    assert steps["said 20K"] == 300
    short = presets.settings("laptop").figure2.given(steps=1)
    assert figure2.recipe("full", short).steps == short.least_steps
    with pytest.raises(
        FrugalError, match="unknown method of Figure 2 'lorra'; did you mean 'lora'"
    ):
        figure2.recipe("lorra", laptop)
    with pytest.raises(FrugalError, match="figure2: limit"):
        SMOKE.figure2.given(limit=-1)


def test_counts_and_means_are_the_papers():
    t0 = figure2.counts(arch.get("t0-3b")).set_index("name")
    assert t0.loc["ia3", "params"] == 540_672
    released = {"bitfit": 1_331_200, "adapter": 12_934_144, "lora": 9_097_216}
    released |= {"compacter": 870_400, "compacter++": 560_128, "prefix": 589_824}
    assert t0["released"][list(released)].to_dict() == released
    printed = figure2.published().set_index("name")
    assert printed.loc["ia3", "accuracy"] == pytest.approx(0.6463, abs=5e-5)
    assert printed.loc["full", "accuracy"] == pytest.approx(0.6329, abs=5e-5)
    assert printed.loc["adapter", "params"] == 12.9e6


def test_runs_are_computed_once_and_written_flat(tmp_path):
    given = ["figure2", "--preset", "smoke", "--method", "ia3", "--method", "fish 0.2 %"]
    given += ["--limit", "4", "--store", str(tmp_path), "--out", str(tmp_path / "made" / "it.csv")]
    planned = CliRunner().invoke(app, [*given, "--dry-run", "--json"])
    assert json.loads(planned.stdout)["flops"] > 0
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["runs"]
    assert [r["name"] for r in found] == ["ia3", "fish 0.2 %"]
    table = pd.read_csv(tmp_path / "made" / "it.csv")
    assert table["trainable_params"].tolist() == [192, 53]
    assert {"date", "machine", "lr", "steps", "accuracy"} <= set(table)
    settings = SMOKE.figure2.given(methods=["ia3", "fish 0.2 %"], limit=4)
    specs = figure2.specs(SMOKE, settings)
    assert sweep.plan(specs, runs.Store(tmp_path), flops_per_second=1).done == 2
    assert figure2.table(runs.Store(tmp_path / "none"), specs).empty
