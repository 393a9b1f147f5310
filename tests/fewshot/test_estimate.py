"""The cost of T-Few's whole study before it starts, against the paper's own arithmetic."""

import pytest

from frugal import tasks
from frugal.costs import arch, flops, prices
from frugal.engine import backbones, presets
from frugal.errors import FrugalError
from frugal.fewshot import estimate
from frugal.tasks import sources


@pytest.fixture(autouse=True)
def _nothing_is_fetched(monkeypatch):
    def refused(*arguments, **options):
        raise AssertionError("a plan needs no data and no weights")

    monkeypatch.setattr(sources, "load_dataset", refused)
    monkeypatch.setattr(sources, "rows", refused)
    monkeypatch.setattr(backbones, "_from_pretrained", refused)


@pytest.fixture
def server():
    return presets.settings("server")


def test_table_1_is_eleven_datasets_five_seeds_and_two_backbones(server):
    found = estimate.study(server)
    assert found["runs"] == 11 * 5 * 2
    assert len(found["parts"]) == 22
    assert {p["task"] for p in found["parts"]} == {
        name for name, d in tasks.definitions().items() if d.shots and "raft" not in name
    }
    assert {(p["backbone"], p["trainable_params"]) for p in found["parts"]} == {
        ("bigscience/T0_3B", 540_672),
        ("bigscience/T0", 1_081_344),
    }
    for total in ("runs", "train_flops", "test_flops", "gpu_hours", "usd"):
        assert found[total] == pytest.approx(sum(p[total] for p in found["parts"]))
    assert found["flops"] == found["train_flops"] + found["test_flops"]
    assert found["usd"] == pytest.approx(found["gpu_hours"] * prices.get("gpu", "a100-80gb").usd)
    assert (found["price_date"], found["dry_run"]) == ("2022-12", True)
    assert any("unverified" in warning for warning in found["warnings"])


def test_one_training_of_t0_11b_is_the_papers_2_7e16_flops_and_half_an_hour(server):
    found = estimate.study(server, names=["copa"], backbone="bigscience/T0")
    (part,) = found["parts"]
    per_run = part["train_flops"] / part["runs"]
    assert per_run == 3 * 11e9 * 1000 * 8 * 103  # §4.2
    hours = per_run / (312e12 * found["mfu"] * 3600)
    assert hours == pytest.approx(0.5, rel=0.05)  # appendix A
    assert (part["batch_size"], part["micro_batch"], part["tested"]) == (8, 1, 100)
    assert part["test_flops"] == 5 * 100 * 5 * 11e9 * 103  # seeds, examples, templates


def test_every_tasks_own_settings_are_in_its_part(server):
    parts = {
        (p["backbone"], p["task"]): p
        for p in estimate.study(server, names=["h-swag", "rte"])["parts"]
    }
    assert parts["bigscience/T0_3B", "h-swag"]["micro_batch"] == 4
    assert parts["bigscience/T0", "h-swag"]["micro_batch"] == 1
    assert parts["bigscience/T0_3B", "rte"]["micro_batch"] == 8
    assert parts["bigscience/T0", "rte"]["shots"] == 32
    steps = estimate.study(server, names=["rte"], given={"steps": 10})["parts"]
    assert steps[0]["train_flops"] * 100 == parts["bigscience/T0_3B", "rte"]["train_flops"]


def test_the_exact_count_knows_that_frozen_weights_cost_no_gradient(server):
    exact = estimate.study(server, names=["rte"], backbone="bigscience/T0", count="exact")
    step = flops.train_step(arch.get("t0-11b"), prompt_tokens=103, batch=8, method="ia3")
    assert exact["train_flops"] == 5 * 1000 * sum(step.values())
    assert (
        exact["train_flops"]
        < estimate.study(server, names=["rte"], backbone="bigscience/T0")["train_flops"]
    )


def test_price_gpu_and_length_can_be_given(server):
    base = estimate.study(server, names=["cb"])
    other = estimate.study(server, names=["cb"], gpu="h100-80gb", usd_per_hour=2.0, mfu=0.1)
    assert other["usd"] == pytest.approx(other["gpu_hours"] * 2.0)
    assert (other["price_date"], other["warnings"]) == (None, [])
    ratio = 2 * 989.5 / 312
    assert base["gpu_hours"] / other["gpu_hours"] == pytest.approx(ratio)
    cut = estimate.study(server, names=["cb"], given={"max_tokens": 50})
    assert cut["flops"] / base["flops"] == pytest.approx(50 / 103)


def test_backbones_at_hand_need_no_word_of_the_preset():
    found = estimate.study(presets.settings("smoke"))
    assert (found["runs"], found["parts"][0]["backbone"]) == (3, "tiny-causal")
    assert estimate.study(presets.settings("laptop"), backbone="gpt3-6.7b")["flops"] > 0


def test_nonsense_is_refused(server):
    for options, message in (
        ({"names": ["rtee"]}, "unknown task 'rtee'; did you mean 'rte'"),
        ({"backbone": "nobody/nothing"}, "its sizes are not known without its weights"),
        ({"gpu": "a100-80"}, "unknown gpu 'a100-80'; did you mean 'a100-80gb'"),
        ({"mfu": 0.0}, "mfu must be"),
        ({"count": "papr"}, "unknown count 'papr'; did you mean 'paper'"),
        ({"given": {"lr": -1}}, "recipe: lr: Input should be"),
    ):
        with pytest.raises(FrugalError, match=message):
            estimate.study(server, **options)
