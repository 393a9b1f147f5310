"""Our own Table 1: frozen, paired by text, resumable; calibrated as a slow reference says."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import tomllib
import torch

from frugal import data, stats, tasks
from frugal.engine import backbones, presets, runs, sweep
from frugal.errors import FrugalError
from frugal.fewshot import (
    calibration,
    choices,
    evaluate,
    icl,
    studies,
    table1,
    table1_plan,
    table1_record,
    table1_run,
    tfew,
)
from frugal.tasks import Example, Template

SMOKE = presets.named("smoke")
PLAN = table1_plan.frozen("smoke")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The whole table at smoke, done."""
    store = runs.Store(tmp_path_factory.mktemp("table1"))
    sweep.run(table1.specs(SMOKE, "float32"), store)
    return store


@pytest.fixture(scope="module")
def rows(store):
    return pd.DataFrame(table1_record.records(store, table1.specs(SMOKE, "float32")))


def test_what_is_frozen_exists_and_needs_no_hub():
    plan = table1_plan.frozen()
    assert len(set(plan.tasks)) >= 12
    assert set(plan.also) <= set(plan.tasks)
    assert len(plan.also) == 4
    for name in (*plan.tasks, plan.rates.task):
        source = tasks.defined(name).source
        assert source.vader or source.bigbench
        assert not source.split
    assert plan.rates.task not in plan.tasks
    assert set(plan.rates.tried) <= set(plan.ways)
    for name, tried in plan.rates.tried.items():
        way = plan.ways[name]
        assert (way.recipe or way.head)["lr"] in tried
    for way in plan.ways.values():
        assert (way.shots is not None) + bool(way.recipe) + bool(way.head) == 1
    for name in ("L_LM", "L_LM + L_UL", "L_LM + L_LN"):  # else as all three
        mine = plan.ways[name].recipe
        assert {**mine, "losses": []} == {**plan.ways["ia3"].recipe, "losses": []}
        assert mine["losses"] == list(studies.ABLATION[name])
    assert plan.recipe["steps"] == 50
    assert plan.limit == 300
    # What a row is compared with exists too.
    ways = set(plan.ways)
    ways |= {n + table1_record.CALIBRATED for n, way in plan.ways.items() if way.kind == "prompt"}
    assert {w for pair in table1_record.PAIRS for w in pair} <= ways


def test_a_run_for_every_task_way_and_draw():
    plan = table1_plan.frozen()
    specs = table1.specs(presets.named("laptop"), "int8")
    assert len({s.id for s in specs}) == len(specs)
    common = sum(w.draws for w in plan.ways.values() if not w.also)
    more = sum(w.draws for w in plan.ways.values() if w.also)
    assert len(specs) == len(plan.tasks) * common + len(plan.also) * more
    own = {s.params["way"]: s.params["precision"] for s in specs}
    assert own["full"] == own["head"] == "float32"
    assert {own[way] for way in set(own) - {"full", "head"}} == {"int8"}
    models = [(s.params["backbone"], s.params["precision"]) for s in specs]
    assert sum(a != b for a, b in itertools.pairwise(models)) == 2  # each loaded once
    some = table1.specs(presets.named("laptop"), "int8", names=["fever"], ways=["ia3", "icl-64"])
    assert [s.params["draw"] for s in some] == [0, 1, 2, 3, 4]  # fever is not among `also`
    assert {s.id for s in some} <= {s.id for s in specs}
    for given, word in (({"names": ["fevr"]}, "fever"), ({"ways": ["ia4"]}, "ia3")):
        with pytest.raises(FrugalError, match=f"of table1 .* did you mean '{word}'"):
            table1.specs(presets.named("laptop"), "int8", **given)
    assert len(table1.rate_specs(SMOKE, "float32")) == 4


def test_rows_hold_what_was_measured(rows):
    ways = {"zero-shot", "icl-2", "ia3", "lora", "head"}
    calibrated = {"zero-shot, calibrated", "icl-2, calibrated"}
    assert set(rows[rows["task"] == "first-letter"]["way"]) == ways | calibrated
    assert set(rows[rows["task"] == "counting"]["way"]) == ways | calibrated | {"L_LM"}
    assert not rows.duplicated(["task", "way", "draw", "precision"]).any()
    for row in rows.itertuples():
        found = stats.unpacked(row.hits, row.examples)
        assert found.shape == (PLAN.limit,)
        assert found.mean() == pytest.approx(row.accuracy)
    assert (rows["flops_per_query"] > 0).all()
    trained = rows["way"].isin(["ia3", "lora", "head", "L_LM"])
    assert ((rows["trainable_params"] > 0) == trained).all()
    assert (rows.loc[trained, "train_flops"] > 0).all()
    assert rows["versions"].str.contains("torch").all()
    assert {"seconds", "precision", "machine", "date", "spec", "shots"} <= set(rows)


@pytest.mark.parametrize("name", PLAN.tasks)
def test_every_way_and_draw_answers_the_same_texts_and_none_is_shown(name, monkeypatch):
    asked = []
    real = tasks.Task.test

    def seen(self, *given, **options):
        found = real(self, *given, **options)
        asked.append([e.content for e in found])
        return found

    monkeypatch.setattr(tasks.Task, "test", seen)
    table1_run._task.cache_clear()
    table1_run._encoded.cache_clear()
    for spec in table1.specs(SMOKE, "float32", names=[name]):
        table1_run.score(**spec.params)
    assert len(asked) > 2
    assert all(texts == asked[0] for texts in asked)
    task = tasks.load(name)
    for way in PLAN.ways.values():
        for draw in range(way.draws):
            drawn = task.draw(PLAN.labels if way.shots is None else way.shots, draw)
            assert not {e.content for e in drawn} & set(asked[0])


@pytest.mark.parametrize("name", PLAN.tasks)
@pytest.mark.parametrize("shots", [0, 2])
def test_ways_are_what_the_plain_functions_find(rows, name, shots):
    """Zero-shot, ICL and their calibration, each choice scored alone, one prompt after another."""
    model, task = backbones.load("tiny-causal"), tasks.load(name)
    drawn, queries = task.draw(shots, 1 if shots else 0), task.test(PLAN.limit)
    plain, other = [], []
    for row, query in zip(task.rows.select(range(task.drawable, len(task.rows))), queries,
                          strict=False):  # fmt: skip
        blank = query.model_copy(update={"prompt": query.prompt.replace(row["word"], "N/A")})
        beta, prior = (
            [
                float(choices.score(model, icl.prompted([one], drawn)).mean_logp[0])
                for c in example.choices
                for one in [Example(prompt=example.prompt, choices=(c, " zzz"), label=0)]
            ]
            for example in (query, blank)
        )
        assert "N/A" in blank.prompt
        plain.append(np.argmax(beta) == query.label)
        other.append(np.argmax(np.subtract(beta, prior)) == query.label)
    way, draw = ("icl-2", 1) if shots else ("zero-shot", 0)
    for suffix, expected in (("", plain), (table1_record.CALIBRATED, other)):
        chosen = (rows["task"] == name) & (rows["way"] == way + suffix) & (rows["draw"] == draw)
        (mine,) = rows[chosen].to_dict("records")
        assert stats.unpacked(mine["hits"], mine["examples"]).tolist() == expected


def test_a_training_is_the_plain_one(rows):
    model, task = backbones.load("tiny-causal"), tasks.load("counting")
    how = tfew.Recipe.of(PLAN.recipe, PLAN.ways["lora"].recipe, {"seed": 1})
    examples, queries = task.draw(PLAN.labels, 1), task.test(PLAN.limit)
    found, scores, trained = evaluate.few_shot(model, task, examples, queries, how)
    mine = rows.query("task == 'counting' and way == 'lora' and draw == 1").iloc[0]
    assert stats.unpacked(mine["hits"], mine["examples"]).tolist() == scores.hits.tolist()
    assert mine["train_flops"] == found.train_flops
    assert mine["trainable_params"] == trained.tuned.trainable_params
    trained.tuned.detach()


def test_a_head_reads_pairs_where_examples_share_no_answers(rows):
    sizes = rows[rows["way"] == "head"].groupby("task")["trainable_params"].first()
    width = backbones.load("tiny-encoder").model.config.hidden_size
    assert sizes.to_dict() == {"counting": 2 * (width + 1), "first-letter": 3 * (width + 1)}


def test_content_free_prompts_keep_the_choices_and_are_scored_once():
    row = {"a": "one", "b": "two", "topics": ["x", "y"], "label": 0}
    template = Template(prompt="{topics}: {a} or {b}?", choices=(" {a}", " {b}"))
    found = template.example(row, 0, content_free=True)
    assert found.prompt == "x, y: N/A or N/A?"
    assert found.choices == (" one", " two")
    free = [found, found.model_copy(update={"label": 1}),
            found.model_copy(update={"choices": (" one", " three")}), found]  # fmt: skip
    first, places = calibration.once(free)
    assert len(first) == 2
    assert places == [0, 0, 1, 0]


def test_a_table_that_was_killed_goes_on_and_is_the_same(rows, tmp_path):
    specs = table1.specs(SMOKE, "float32", ways=["zero-shot", "ia3", "head"])
    store = runs.Store(tmp_path)

    def kill(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(specs, store, progress=kill)
    half = pd.DataFrame(table1_record.records(store, specs))
    assert 0 < len(half) < len(specs)
    kept = {s.id: store.machine(s.id) for s in specs if store.done(s.id)}
    sweep.run(specs, store)
    assert {run: store.machine(run) for run in kept} == kept  # none was computed again
    whole = pd.DataFrame(table1_record.records(store, specs)).drop(columns=["seconds", "date"])
    other = rows[rows["spec"].isin(whole["spec"])].drop(columns=["seconds", "date"])
    pd.testing.assert_frame_equal(whole, other.reset_index(drop=True))


def test_the_command_writes_what_is_done_and_what_is_left(frugal, tmp_path):
    argv = ["table1", "--preset", "smoke", "--precision", "float32", "--store", str(tmp_path)]
    some = ["--task", "counting", "--way", "zero-shot", "--way", "ia3"]
    status, out, _ = frugal(*argv, *some, "--dry-run", "--json")
    left = json.loads(out)
    assert (status, left["runs"], left["done"]) == (0, 3, 0)
    assert left["flops"] > 0
    assert left["hours"] > 0
    csv = tmp_path / "made" / "table1.csv"
    status, out, _ = frugal(*argv, *some, "--out", str(csv), "--json")
    assert status == 0
    assert [m["way"] for m in json.loads(out)["means"]] == ["ia3", "zero-shot",
                                                            "zero-shot, calibrated"]  # fmt: skip
    assert len(pd.read_csv(csv)) == 4
    status, out, _ = frugal(
        *argv, "--task", "first-letter", "--way", "zero-shot", "--out", str(csv)
    )
    table = pd.read_csv(csv, dtype={"hits": str})
    assert len(table) == 6  # with the rows of before
    assert table.equals(table.sort_values(["task", "way", "draw"], ignore_index=True))
    status, out, _ = frugal(*argv, *some, "--dry-run", "--json")
    assert json.loads(out)["done"] == 3
    # What the file keeps is not run again where there is no store, and stays as it was written.
    before = csv.read_text(encoding="utf-8")
    anew = [*argv[:-1], str(tmp_path / "other"), "--out", str(csv)]
    status, out, _ = frugal(*anew, *some, "--dry-run", "--json")
    assert (json.loads(out)["done"], json.loads(out)["flops"]) == (3, 0)
    status, out, _ = frugal(*anew, *some, "--way", "head", "--json")
    assert (status, len(list(tmp_path.glob("other/runs/*/result.json")))) == (0, 2)
    lines = csv.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 6 + 2
    assert set(before.splitlines()) < set(lines)
    assert {m["way"] for m in json.loads(out)["means"]} == {
        "head", "ia3", "zero-shot", "zero-shot, calibrated",
    }  # fmt: skip
    status, _, err = frugal(*argv, "--way", "ia33")
    assert status == 2
    assert "unknown way of table1 'ia33'; did you mean 'ia3'?" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(spec="0" * 16), r"line 2: none of these runs .* \(torch .*other file"),
        (lambda t: t.assign(draw="9"), r"line 2: it was changed: counting, .*, 9, float32 is not"),
        (lambda t: t.assign(task="first-letter"), "line 2: it was changed: first-letter"),
        (lambda t: t.assign(accuracy="0.999"), "line 2: its accuracy is not that of its hits"),
        (lambda t: t.assign(hits="zz"), "line 2: hits: no hexadecimal digits"),
        (lambda t: t.assign(examples="many"), "line 2: .*'many'"),
        (lambda t: pd.concat([t, t[:1]]), "line 5: its run is there twice"),
        (lambda t: t[~t["way"].str.endswith("calibrated")], "one row of two is there"),
        (lambda t: t.drop(columns="hits"), "not a table of runs: no column hits"),
        (lambda t: t[:0].drop(columns=t.columns), "not a table of runs"),
    ],
)
def test_rows_that_these_runs_do_not_make_are_not_gone_on_with(
    rows, tmp_path, frugal, change, said
):
    few = rows[(rows["task"] == "counting") & rows["way"].str.match("zero-shot|head")]
    few = few[few["draw"] == 0]
    csv = tmp_path / "t.csv"
    few.to_csv(csv, index=False)
    specs = table1.specs(SMOKE, "float32")
    assert len(table1_record.kept(csv, specs)) == 3
    change(few.astype(str)).to_csv(csv, index=False)
    before = csv.read_bytes()
    with pytest.raises(FrugalError, match=said):
        table1_record.kept(csv, specs)
    argv = ["--preset", "smoke", "--precision", "float32", "--store", str(tmp_path / "runs")]
    assert frugal("table1", *argv, "--out", str(csv))[0] == 2
    assert csv.read_bytes() == before
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The rows of many shots, at smoke."""
    store, specs = runs.Store(tmp_path_factory.mktemp("many")), table1.specs(
        SMOKE, "float32", of="many-shots"
    )  # fmt: skip
    sweep.run(specs, store)
    return pd.DataFrame(table1_record.records(store, specs))


def shown(spec):
    """The prompts of a run of many shots, by a slow reference: texts alike by their states."""
    asked = table1_run.Asked(**spec.params)
    task = tasks.load(asked.task)
    context = asked.context
    found = []
    for query in task.test(asked.limit):
        pool = task.draw(context.get("pool") or asked.shots, asked.draw)
        if context.get("swapped"):
            pool = studies.swapped(pool)
        if near := context.get("nearest"):
            fixed, others = pool[: asked.shots - near], pool[asked.shots - near :]
            order = sorted(range(len(others)), key=lambda i: -alike(query, others[i]))[:near]
            pool = fixed + [others[i] for i in reversed(order)]
        found += icl.prompted([query], pool)
    return found


def alike(one, other):
    """The cosine of transformers' own mean states, of one text after another."""
    reader, read = backbones.load("tiny-encoder"), []
    for text in (one.prompt, other.prompt):
        ids = reader.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            read.append(reader.model(ids).last_hidden_state[0].mean(0))
    return float(torch.cosine_similarity(*read, dim=0))


@pytest.mark.parametrize("way", ["icl-2, swapped", "2 nearest", "1 + 1 nearest"])
def test_shots_are_those_that_a_way_says(many, way):
    model = backbones.load("tiny-causal")
    for spec in table1.specs(SMOKE, "float32", ways=[way], of="many-shots"):
        prompts = shown(spec)
        scores = [choices.score(model, [p]) for p in prompts]
        (mine,) = many[many["spec"] == spec.id].query("way == @way").to_dict("records")
        expected = [bool(s.hits[0]) for s in scores]
        assert stats.unpacked(mine["hits"], mine["examples"]).tolist() == expected
        assert mine["flops_per_query"] == evaluate.query_flops(model, prompts)


def test_reordered_shots_are_those_of_the_first_draw(many):
    first = tasks.load("counting").draw(2, 0)
    for spec in table1.specs(SMOKE, "float32", ways=["icl-2, reordered"], of="many-shots"):
        drawn = table1_run.Asked(**spec.params)._drawn
        assert sorted(e.prompt for e in drawn) == sorted(e.prompt for e in first)
    assert many["way"].nunique() == 7 + 4  # four are calibrated as well


def test_the_plan_of_many_shots_is_its_own():
    laptop = presets.named("laptop")
    plan = table1_plan.frozen(plan="many-shots")
    specs = table1.specs(laptop, "int8", of="many-shots")
    assert len({s.id for s in specs}) == len(specs) == 2 * sum(w.draws for w in plan.ways.values())
    assert {s.params.get("encoder") for s in specs} == {None, "minilm-l6"}
    for source in map(tasks.load, plan.tasks):
        assert source.drawable >= plan.labels == max(w.pool for w in plan.ways.values())
    with pytest.raises(FrugalError, match="unknown plan 'table2'; did you mean 'table1'"):
        table1_plan.frozen(plan="table2")
    for wrong, said in (
        ({"shots": 2, "nearest": 3, "pool": 9}, "nearest: 3 of 2 shots"),
        ({"shots": 4, "nearest": 4}, "pool: 0, to choose 4 of 4"),
        ({"shots": 4, "nearest": 4, "pool": 3}, "pool: 3"),
        ({"shots": 0, "swapped": True}, "swapped"),
        ({"shots": 4, "nearest": 4, "pool": 8, "reordered": True}, "reordered"),
    ):
        with pytest.raises(ValueError, match=said):
            table1_plan.Way(draws=1, **wrong)


def test_the_nearest_stand_last_and_of_equals_the_first_is_nearer():
    like = torch.tensor([[0.1, 0.9, 0.9, 0.5], [0.0, 0.0, 0.0, 1.0]])
    assert icl.nearest(like, 3) == [[3, 2, 1], [1, 0, 3]]
    assert icl.nearest(like, 0) == [[], []]
    with pytest.raises(FrugalError, match="nearest: 5 of 4 texts"):
        icl.nearest(like, 5)


def test_a_table_that_is_not_sound_is_one_line(monkeypatch):
    text = (data.ROOT / "table1.toml").read_text(encoding="utf-8")
    broken = tomllib.loads(text.replace("limit = 300", "limit = 0", 1))
    monkeypatch.setattr(data, "toml", lambda name: broken)
    with pytest.raises(FrugalError, match=r"table1\.toml: limit"):
        table1_plan.frozen()
