"""Sweeps that are killed, started twice at once, spread over nodes, and what they leave behind."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import tiny_jobs

from children import Child
from frugal.engine import runs, sweep
from frugal.engine.runs import RunSpec, Store
from frugal.errors import FrugalError

COUNT = 20


def spec(**params):
    return RunSpec(job="tiny_jobs:returns", params=params)


def started(journal):
    return [int(line) for line in journal.read_text().split()]


def start(store, journal, seconds):
    specs = tiny_jobs.draws(COUNT, journal, seconds)
    return Child(lambda: sweep.run(specs, Store(store.folder)))


def results(store, specs):
    return [(store.path(s.id) / "result.json").read_bytes() for s in specs]


def undisturbed(tmp_path, specs):
    store = Store(tmp_path / "undisturbed")
    sweep.run(specs, store)
    return results(store, specs)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_id_is_the_content_and_nothing_else():
    params = {"b": (1, 2.5), "a": {"y": None, "x": "é"}}
    one = RunSpec(job="tiny_jobs:returns", params=params)
    two = RunSpec(job="tiny_jobs:returns", params=dict(reversed(params.items())), num_gpus=0.5)
    assert one.id == two.id
    assert len(one.id) == 16
    assert one.id != RunSpec(job="tiny_jobs:draw", params=params).id
    assert one.id != RunSpec(job="tiny_jobs:returns", params={**params, "b": [1, 2]}).id
    assert RunSpec.model_validate_json(one.model_dump_json()) == one
    assert one.params["b"] == [1, 2.5]  # as JSON gives it back


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_params_must_be_what_json_can_hold(value):
    with pytest.raises(ValueError, match=r"JSON"):
        RunSpec(job="j", params={"a": value})


def test_sweep_killed_three_times_at_random_moments_is_the_undisturbed_one(
    tmp_path, store, journal
):
    specs, seconds = tiny_jobs.draws(COUNT, journal, 0.01), 0.01
    expected = undisturbed(tmp_path, specs)
    journal.write_text("")
    done_before = []
    for least in (3, 8, 14):
        process = start(store, journal, seconds)
        wait_for(lambda least=least: sum(store.done(s.id) for s in specs) >= least)
        time.sleep(random.uniform(0, 2 * seconds))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        done = {s.params["number"] for s in specs if store.done(s.id)}
        assert least <= len(done) < COUNT
        done_before.append((len(started(journal)), done))
    assert start(store, journal, seconds).wait() == 0
    assert results(store, specs) == expected
    for position, done in done_before:
        assert not done & set(started(journal)[position:])
    assert set(sweep.status(store)["state"]) == {"done"}


def test_two_processes_at_once_share_the_sweep(tmp_path, store, journal):
    specs = tiny_jobs.draws(COUNT, journal, 0.02)
    processes = [start(store, journal, 0.02) for _ in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    assert sorted(started(journal)) == list(range(COUNT))  # each computed once, by one of them
    assert results(store, specs) == undisturbed(tmp_path, specs)


def test_a_killed_holder_lets_go_of_its_run(store, journal):
    specs = tiny_jobs.draws(COUNT, journal, 60.0)
    process = start(store, journal, 60.0)
    wait_for(lambda: started(journal))
    states = sweep.status(store, specs)["state"].tolist()
    process.kill()
    process.wait()
    assert states == ["running"] + ["waiting"] * (COUNT - 1)
    assert sweep.status(store, specs)["state"].tolist() == ["waiting"] * COUNT


def test_failed_run_stops_no_other_and_is_tried_again(tmp_path, store):
    flag = RunSpec(job="tiny_jobs:fail_once", params={"number": 3, "flag": str(tmp_path / "flag")})
    specs = [spec(value=1), flag, spec(value=2)]
    with pytest.raises(FrugalError, match=f"1 of 3 runs failed.*{flag.id}.*not yet 3"):
        sweep.run(specs, store)
    assert sweep.status(store, specs)["state"].tolist() == ["done", "failed", "done"]
    assert "Traceback" in (store.path(flag.id) / "log.txt").read_text()
    assert sweep.run(specs, store)["score"].tolist() == [1, 3, 2]
    assert sweep.status(store, specs)["error"].isna().all()


def test_same_spec_twice_is_one_run(store, journal):
    specs = tiny_jobs.draws(3, journal)
    seen = []
    sweep.run(specs * 2, store, progress=lambda *counts: seen.append(counts))
    assert started(journal) == [0, 1, 2]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_collect_is_parameters_and_results(store, journal):
    specs = tiny_jobs.draws(4, journal)
    sweep.run(specs[:3], store)
    table = sweep.collect(store, specs)
    assert table["id"].tolist() == [s.id for s in specs[:3]]
    assert table["number"].tolist() == [0, 1, 2]
    assert table["score"].tolist() == [random.Random(i).random() for i in range(3)]
    assert (table["seconds"] >= 0).all()
    assert "drew 2" in (store.path(specs[2].id) / "log.txt").read_text()
    assert set(sweep.collect(store)["id"]) == {s.id for s in specs[:3]}


def test_plan_costs_what_is_left(store, journal):
    specs = tiny_jobs.draws(4, journal)  # 0, 1000, 2000, 3000 FLOPs
    sweep.run(specs[:2], store)
    plan = sweep.plan(specs, store, flops_per_second=0.5, usd_per_hour=36)
    assert (plan.runs, plan.done, plan.flops) == (4, 2, 5000)
    assert plan.hours == pytest.approx(10_000 / 3600)
    assert plan.usd == pytest.approx(100)
    with pytest.raises(FrugalError, match="tiny_jobs:returns does not say"):
        sweep.plan([spec(value=1)], store, flops_per_second=1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_jobs:drew", "unknown job.*did you mean 'tiny_jobs:draw'"),
        ("tiny_jobs:unregistered", "unknown job"),
        ("os:getcwd", "unknown job"),  # nothing but jobs can be run from a spec
        ("no_such_module:job", "cannot be imported"),
        ("", "cannot be imported"),
    ],
)
def test_only_registered_functions_run(store, name, message):
    with pytest.raises(FrugalError, match=message):
        runs.find(name)
    with pytest.raises(FrugalError, match=r"1 of 1 runs failed"):
        sweep.run([RunSpec(job=name)], store)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"value": float(1), "name": "other"}, "score must be a finite number, not None"),
        ({"value": "good"}, "score must be a finite number, not 'good'"),
        ({"value": True}, "score must be a finite number, not True"),
        ({"value": 1, "name": "value"}, "score"),
    ],
)
def test_a_result_must_have_a_score(store, params, message):
    with pytest.raises(FrugalError, match=message):
        sweep.run([spec(**params)], store)


def test_changed_spec_and_broken_result_are_named(store):
    one, two = spec(value=1), spec(value=2)
    sweep.run([one, two], store)
    (store.path(one.id) / "result.json").write_text("{")
    with pytest.raises(FrugalError, match=rf"{one.id}.result.json: cannot be read"):
        sweep.collect(store)
    file = store.path(two.id) / "spec.json"
    file.write_text(file.read_text().replace("2", "3"))
    with pytest.raises(FrugalError, match=r"it was changed"):
        store.specs()
    file.write_text("{}")
    with pytest.raises(FrugalError, match=r"not a run's spec"):
        store.specs()


@pytest.fixture
def two_nodes(monkeypatch):
    """A local Ray cluster: a head without CPUs, and two nodes."""
    from ray.cluster_utils import Cluster

    # Workers import the jobs from here, as they would from an installed package.
    paths = [Path(tiny_jobs.__file__).parent, *sys.path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    quick = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 0, "_system_config": {"health_check_initial_delay_ms": 0, **quick}}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster, nodes
    cluster.shutdown()


@pytest.mark.cluster
def test_sweep_on_two_nodes_of_which_one_is_removed(tmp_path, store, journal, two_nodes):
    cluster, nodes = two_nodes
    specs = tiny_jobs.draws(COUNT, journal, 0.3)
    expected = undisturbed(tmp_path, specs)
    journal.write_text("")
    at_removal = []

    def remove_one(done, total):
        if done == 6:
            cluster.remove_node(nodes[1], allow_graceful=False)
            at_removal.append((len(started(journal)), {i for i in range(COUNT) if has(i)}))

    def has(number):
        return store.done(specs[number].id)

    table = sweep.run(specs, store, ray=True, progress=remove_one)
    assert len(table) == COUNT
    assert results(store, specs) == expected
    ((position, done),) = at_removal
    assert len(done) >= 6
    assert not done & set(started(journal)[position:])
    assert "drew 7" in (store.path(specs[7].id) / "log.txt").read_text()
    with pytest.raises(FrugalError, match="wants 1 GPUs, the cluster has 0"):
        sweep.run(
            [RunSpec(job="tiny_jobs:returns", params={"value": 1}, num_gpus=1)], store, ray=True
        )
