"""The greedy search finds what was planted, goes on where it was, and says what it knows."""

import hashlib

import pytest

from frugal import stats
from frugal.engine import runs
from frugal.engine.runs import Store
from frugal.errors import FrugalError
from frugal.spaces import search
from frugal.spaces.design import GROUPS, parse
from frugal.spaces.search import Search, Settings, candidates
from frugal.spaces.space import ALLOCATIONS, Space

WANTED = {1: "AL", 2: "AP", 3: "APB", 4: "PBL"}
COMPUTED = []


@runs.job(flops=lambda **params: params["labels"] * 1e9)
def planted(design, seed, task, **_):
    """The paper's result, under noise of the design's text."""
    COMPUTED.append((design, seed, task))
    found = parse(design)
    sizes = found.sizes
    score = 0.1 * (len(sizes) == 4 and sizes[0] < sizes[1] == sizes[2] > sizes[3])
    shares = [share for group in found.groups for share in group.shares]
    score += 0.1 * (len(set(shares)) == 1)
    score += 0.1 * sum(group.tuned for group in found.groups) / len(sizes)
    if len(sizes) == 4:
        score += sum(0.1 * (g.methods == WANTED[n]) for n, g in enumerate(found.groups, start=1))
    noise = hashlib.sha256(f"{design}/{seed}/{task}".encode()).digest()[0] / 255 / 100
    return {"score": score + noise}


def settings(**changes):
    values = {
        "backbone": "none",
        "arch": "minilm-l6",
        "tasks": ("one", "two"),
        "labels": 10,
        "limit": 10,
        "designs": 3,
        "last_designs": 2,
        "flops_per_second": 1e9,
    }
    return Settings(**values | changes)


@pytest.fixture(autouse=True)
def _planted(monkeypatch):
    monkeypatch.setattr(search, "JOB", f"{__name__}:planted")
    COMPUTED.clear()


@pytest.fixture
def found(tmp_path):
    return Search(settings(), Store(tmp_path))


def test_runs_of_a_search_are_fixed_for_good(found, monkeypatch):
    # Whoever changes these orphans every store there is.
    monkeypatch.setattr(search, "JOB", "planted")
    monkeypatch.setattr(search, "inputs_of", lambda job, params: {"task": params["task"]})
    fixed = Search(settings(recipe={"epochs": 2}), found.store)
    ids = [
        run.id for stage in fixed.walk(papers=True) for own in stage.specs.values() for run in own
    ]
    assert len(ids) == 294
    assert hashlib.sha256("".join(ids).encode()).hexdigest()[:16] == "b203b7db7f72ebac"


def winners(stages):
    return {stage.name: stage.winner for stage in stages}


PLANTED = {
    "S0": "S0",
    "S1": "spindle",
    "S2": "uniform",
    "S3": "G1, G2, G3, G4",
    "S4-G1": "A, L",
    "S4-G2": "A, P",
    "S4-G3": "A, P, B",
    "S4-G4": "P, B, L",
}


def test_search_finds_what_was_planted_and_is_done_and_judged_once(found, monkeypatch):
    judged, judge = [], stats.judge
    monkeypatch.setattr(stats, "judge", lambda scores: judged.append(list(scores)) or judge(scores))
    plan = found.plan(usd_per_hour=36.0)
    assert plan.done == 0
    assert plan.hours == pytest.approx(plan.flops / 1e9 / 3600)
    assert plan.usd == pytest.approx(36 * plan.hours)
    judged.clear()
    stages = found.run()
    assert judged == [list(stage.specs) for stage in stages]
    assert winners(stages) == PLANTED
    assert len(COMPUTED) == len(set(COMPUTED))
    assert len(COMPUTED) == plan.runs  # the plan assumed the paper's winners, and they won
    for stage in stages:
        expected = 2 if stage.name.startswith("S4") else 3
        assert (stage.candidates["runs"] == expected).all()
        assert stage.done == stage.runs == 2 * expected * len(stage.candidates)
    assert [len(s.candidates) for s in stages] == [1, 4, 3, 9, 12, 12, 12, 12]
    assert stages[1].left_out == ["uniform"]
    again = search.opened(found.store.folder)
    assert winners(again.run()) == PLANTED
    assert len(COMPUTED) == plan.runs
    assert again.plan(0.0).done == plan.runs


def test_a_larger_search_keeps_the_runs_of_a_smaller_one(found):
    Search(settings(until="S2"), found.store).run()
    before = len(COMPUTED)
    larger = Search(settings(until="S2", designs=4), found.store)
    assert list(winners(larger.run()).values()) == ["S0", "spindle", "uniform"]
    assert len(set(COMPUTED)) == len(COMPUTED)
    assert 0 < len(COMPUTED) - before <= 2 * (1 + 4 + 3)


def test_what_is_not_done_has_no_winner(found):
    (stage,) = found.report()
    assert (stage.name, stage.winner, stage.done, stage.runs) == ("S0", None, 0, 6)
    first, second, *_ = stage.specs["S0"]
    found.store.add([first])
    found.store.compute(first)
    (stage,) = found.report()
    assert (stage.done, len(stage.candidates)) == (1, 0)  # a design counts when all tasks are done
    found.store.add([second])
    found.store.compute(second)
    (stage,) = found.report()
    record = stage.record()
    assert record["stage"] == "S0"
    assert record["winner"] is None
    assert record["candidates"][0].keys() >= {"name", "mean", "low", "high", "runs"}
    assert record["candidates"][0]["again"] is None


def test_candidates_are_the_papers():
    space = Space(24)
    assert list(candidates("S1", space)) == [
        "increasing", "uniform", "decreasing", "spindle", "bottleneck"
    ]  # fmt: skip
    weak = candidates("S1", Space(6))
    assert [name for name, of in weak.items() if of] == [
        "weakly increasing", "weakly decreasing", "spindle", "bottleneck"
    ]  # fmt: skip
    space = candidates("S1", space)["spindle"]
    assert tuple(candidates("S2", space)) == ALLOCATIONS
    three = candidates("S3", candidates("S2", space)["uniform"])
    assert len(three) == 9
    partly = three["G3, G4"]
    assert candidates("S4-G1", partly) == {}
    assert len(candidates("S4-G3", partly)) == 12
    last = candidates("S4-G4", three["G1, G2, G3, G4"])["P, B, L"]
    assert last.methods == (None, None, None, "PBL")
    assert last.tuned == GROUPS


def test_candidates_without_a_design_that_fits_are_left_out(tmp_path):
    only = Search(settings(designs=1), Store(tmp_path))
    fourth = Space(6, "spindle", "uniform", (4,))
    specs = {name: only.specs("S4-G4", of) for name, of in candidates("S4-G4", fourth).items()}
    assert [name for name, runs in specs.items() if not runs] == ["B"]
    assert only.judged("S4-G4", specs).left_out == ["B"]
    with pytest.raises(FrugalError, match="S0: no design meets the budget"):
        Search(settings(budget=1e-6), Store(tmp_path)).run()


def test_a_store_without_a_search_is_named(tmp_path):
    with pytest.raises(FrugalError, match="no search was started here"):
        search.opened(tmp_path)
    (tmp_path / search.FILE).write_text('{"backbone": 1}')
    with pytest.raises(FrugalError, match=r"search.json: backbone"):
        search.opened(tmp_path)
