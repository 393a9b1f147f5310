"""The live study: same texts for all, dollars that add up, killed and resumed without a loss."""

import json

import pytest
from pydantic import ValidationError

from frugal import stats
from frugal.budgets import compare, study
from frugal.engine import presets, sweep
from frugal.engine.runs import Store
from frugal.errors import FrugalError
from frugal.fewshot.tfew import Recipe

SETTING = study.Setting.of(presets.settings("smoke").budgets)
# An hour costs next to nothing, so that what else its dollars buy does not hang on this machine.
CHEAP = {"usd_per_hour": 1e-3}
ONE = {"labels": (4, 8), "seeds": (0,), "students": ("1 layer",), **CHEAP}
SMALL = SETTING.model_copy(update=ONE)
EXACT = ["labels", "seed", "strategy", "model", "params", "trained", "trained_on"]
EXACT += ["accuracy", "hits", "tokens", "flops"]


def test_every_strategy_is_scored_on_the_same_texts_and_dollars_add_up(tmp_path):
    runs = study.run(SMALL, tmp_path)
    assert list(runs["strategy"]) == ["teacher", "annotate", "distill", "llm"] * 2
    for row in runs.itertuples():
        assert row.examples == SMALL.limit
        assert row.accuracy == pytest.approx(stats.unpacked(row.hits, SMALL.limit).mean())
        assert row.usd == pytest.approx(row.usd_labels + row.usd_compute)
        assert row.usd_compute == pytest.approx(row.seconds / 3600 * SMALL.usd_per_hour)
        human = row.labels * SMALL.usd_per_label
        assert row.usd_labels == pytest.approx(human) or row.strategy == "llm"
        assert row.usd_labels <= human + 1e-9
    by = runs.set_index(["labels", "strategy"])
    assert by.loc[(4, "annotate"), "trained_on"] == 4
    assert by.loc[(4, "distill"), "trained_on"] == SMALL.unlabelled
    # Distillation pays for its teacher, the teacher's answers, and its student.
    for n in (4, 8):
        teacher, distill = by.loc[(n, "teacher"), "flops"], by.loc[(n, "distill"), "flops"]
        assert distill > teacher + by.loc[(n, "annotate"), "flops"]


def test_the_texts_without_labels_are_the_same_for_every_n_and_nobody_trains_on_the_test(tmp_path):
    bench = study.Bench(SMALL, tmp_path)
    texts = {e.prompt for e in bench.texts(0)}
    assert len(texts) == SMALL.unlabelled
    few, many = bench.people(4, 0), bench.people(8, 0)
    assert many[:4] == few
    assert not texts & {e.prompt for e in many}
    assert not {e.prompt for e in bench.test} & (texts | {e.prompt for e in many})
    with pytest.raises(FrugalError, match="24 labels and 8 texts without are more than the 23"):
        bench.people(24, 0)


def test_dear_computing_buys_more_labels_instead(tmp_path):
    cheap = SMALL.model_copy(update={"usd_per_hour": 1.0, "labels": (4,), "llm": ""})
    usd = study.run(cheap, tmp_path / "cheap").set_index("strategy").loc["distill", "usd_compute"]
    # An hour's price at which this machine's seconds are worth about four labels.
    dear = cheap.model_copy(update={"usd_per_hour": 4 * cheap.usd_per_label / usd})
    runs = study.run(dear, tmp_path / "dear").set_index("strategy")
    more = int(runs.loc["distill", "usd_compute"] / dear.usd_per_label)
    assert more >= 1
    assert runs.loc["annotate more", "trained_on"] == 4 + more
    assert runs.loc["annotate more", "usd_labels"] == pytest.approx((4 + more) * 0.129)
    assert "llm" not in runs.index


def test_an_llm_labels_no_more_than_the_dollars_of_the_human_labels(tmp_path):
    dear = SMALL.model_copy(update={"usd_per_1k_tokens": 2.0, "labels": (4,)})
    runs = study.run(dear, tmp_path).set_index("strategy")
    assert 0 < runs.loc["llm", "trained_on"] < SMALL.unlabelled
    assert runs.loc["llm", "usd_labels"] <= 4 * 0.129


def test_an_llm_labels_no_more_texts_than_it_is_given(tmp_path):
    few = SMALL.model_copy(update={"llm_texts": 3, "labels": (8,)})
    assert study.run(few, tmp_path).set_index("strategy").loc["llm", "trained_on"] == 3


def test_killed_between_and_inside_cells_and_resumed(tmp_path, monkeypatch):
    whole = study.run(SMALL, tmp_path / "whole")

    class Killed(BaseException):
        pass

    calls, real, bought = [], study.outputs, study.labels.buy

    def outputs(*arguments):
        calls.append(1)
        if len(calls) == 2:  # in the second cell, after its teacher was trained
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(study, "outputs", outputs)
    work = tmp_path / "work"
    with pytest.raises(Killed):
        study.run(SMALL, work)
    done = set(sweep.status(Store(work)).query("state == 'done'")["id"])
    assert len(done) == 3  # teacher and student of the first cell, teacher of the second
    before = {run: (Store(work).path(run) / "result.json").stat().st_mtime_ns for run in done}
    resumed = study.run(SMALL, work)
    assert resumed[EXACT].equals(whole[EXACT])

    def nothing(source, examples, folder, **how):
        found = bought(source, examples, folder, **how)
        assert len(people(work)) == lines  # what was bought is not bought again
        return found

    def people(work):
        return (work / "people-0" / "answers.jsonl").read_text().splitlines()

    lines = len(people(work))
    monkeypatch.setattr(study.labels, "buy", nothing)
    assert study.run(SMALL, work).equals(resumed)
    sizes = SMALL.model_copy(update={"labels": (4,), "students": ("1 layer", "2 layers")})
    grown = study.run(sizes, work)  # a study can grow
    assert list(grown["strategy"]) == ["teacher"] + ["annotate", "distill", "llm"] * 2
    assert grown[:4].equals(resumed[:4])
    assert before == {r: (Store(work).path(r) / "result.json").stat().st_mtime_ns for r in done}
    assert len(study.run(SMALL.model_copy(update={"seeds": (0, 1)}), work)) == 16


def test_what_a_study_costs_is_known_before(tmp_path):
    specs, store = study.specs(SMALL, tmp_path), Store(tmp_path)
    plan = sweep.plan(specs, store, flops_per_second=1.0)
    assert (plan.runs, plan.done) == (4, 0)
    assert not list(tmp_path.iterdir())
    runs = study.run(SMALL.model_copy(update={"llm": ""}), tmp_path / "done")
    taught = runs.query("strategy == 'teacher'").set_index("labels")["flops"]
    bench = study.Bench(SMALL, tmp_path)
    asked = bench.texts(0) + bench.test
    for spec in specs:
        if spec.params["who"] == study.TEACHER:
            n = spec.params["labels"]
            train = bench.wanted(n, 0)
            learning, answering = bench.flops("tiny-encoder", train, asked, 0, teaches=True)
            assert learning == pytest.approx(taught[n], rel=0.1)
            assert answering == pytest.approx(
                bench.new("tiny-encoder", train, 0).logits(asked)[1].flops
            )
            assert study.cell_flops(**spec.params) == learning + answering
    assert study.cost(SMALL, specs, store).flops == plan.flops > 0
    assert study.cost(SMALL, specs, store).hours > 0


def test_llm_labels_are_paid_for_in_every_cell_though_computed_once(tmp_path):
    few = SMALL.model_copy(update={"usd_per_1k_tokens": 2.0, "labels": (8, 4)})
    runs = study.run(few, tmp_path).query("strategy == 'llm'").set_index("labels")
    assert runs.loc[4, "trained_on"] < runs.loc[8, "trained_on"]
    for n in (4, 8):  # a cell before it with more money changes nothing about what this one buys
        assert runs.loc[n, "usd_labels"] <= n * few.usd_per_label + 1e-9
    alone = few.model_copy(update={"labels": (4,)})
    again = study.run(alone, tmp_path / "alone").query("strategy == 'llm'").iloc[0]
    assert again["usd_labels"] == pytest.approx(runs.loc[4, "usd_labels"])
    assert again["hits"] == runs.loc[4, "hits"]


def test_a_file_keeps_half_of_its_lines_from_training(tmp_path):
    counting = study.Bench(SMALL, tmp_path).task
    lines = counting.draw(counting.drawable, 0)
    file = tmp_path / "own.jsonl"
    file.write_text("".join(e.model_dump_json() + "\n" for e in lines))
    own = SMALL.model_copy(update={"task": str(file), "limit": 5, "unlabelled": 8})
    bench = study.Bench(own, tmp_path)
    test = {e.prompt for e in bench.test}
    for seed in (0, 1):
        texts, people = bench.texts(seed), bench.people(8, seed)
        assert (len(texts), len(people)) == (8, 8)
        assert not test & {e.prompt for e in [*texts, *people]}
        assert not {e.prompt for e in texts} & {e.prompt for e in people}
    with pytest.raises(FrugalError, match="12 there are to label, and 18 to read"):
        bench.people(11, 0)


def test_students_of_every_kind_learn_in_one_study(tmp_path):
    every = SETTING.model_copy(update={"labels": (8,), "seeds": (0,), **CHEAP})
    runs = study.run(every, tmp_path)
    students = runs[runs["strategy"] == "distill"].set_index("model")
    assert list(students.index) == ["1 layer", "2 layers", "s4", "tiny-t5"]
    teacher = runs[runs["strategy"] == "teacher"].iloc[0]
    assert (teacher["model"], teacher["params"]) == ("tiny-encoder", teacher["trained"])
    assert students.loc["1 layer", "params"] < students.loc["2 layers", "params"]
    assert students.loc["s4", "params"] == teacher["params"]
    assert students.loc["s4", "trained"] < 0.3 * teacher["params"]
    assert (students["flops"] > teacher["flops"]).all()


@pytest.mark.parametrize("teacher", ["tiny-causal", "tiny-t5"])
def test_a_language_model_teaches_after_its_own_recipe(tmp_path, teacher):
    setting = {**ONE, "labels": (8,), "teacher": teacher, "students": ("1 layer", "tiny-t5")}
    ranked = SETTING.model_copy(update={**setting, "llm": ""})
    runs = study.run(ranked, tmp_path)
    assert list(runs["model"]) == [teacher, *["1 layer"] * 2, *["tiny-t5"] * 2]
    first = runs.iloc[0]
    assert first["trained"] < 0.1 * first["params"]  # (IA)³'s vectors
    more = ranked.model_copy(update={"students": ("1 layer", "tiny-t5", "2 layers")})
    assert more.id == ranked.id
    again = study.run(more, tmp_path).query("model != '2 layers'").reset_index(drop=True)
    assert again[EXACT].equals(runs[EXACT])


def test_an_edited_task_or_model_is_another_study(tmp_path):
    task, folder = tmp_path / "t.jsonl", tmp_path / "llm"
    folder.mkdir()
    setting = SMALL.model_copy(
        update={"task": str(task), "llm": str(folder), "teacher": "tiny-causal"}
    )
    ids = []
    for word, config in (("one", "{}"), ("two", "{}"), ("two", "[]")):
        lines = ({"prompt": f"{word} {n}", "choices": ["a", "b"], "label": n % 2} for n in range(9))
        task.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "config.json").write_text(config)
        ids.append(setting.id)
    for name in ("encoder", "teacher"):
        ids.append(setting.model_copy(update={name: str(folder)}).id)
    assert len(set(ids)) == len(ids)
    assert setting.model_copy(update={"preset": "x", "seeds": (9,)}).id == setting.id


def test_what_a_study_did_not_name_leaves_it_the_same_one(tmp_path):
    assert not {"teacher_epochs", "teacher_precision"} & set(SMALL.own())
    longer = SMALL.model_copy(update={"teacher_epochs": 3, "teacher_precision": "bfloat16"})
    assert longer.own() == SMALL.own() | {"teacher_epochs": 3, "teacher_precision": "bfloat16"}
    how = study.Bench(longer, tmp_path).classifying("tiny-encoder", 0, True)
    assert (how.steps(8), how.steps(4)) == (6, 4)  # three epochs of two batches, or at least four


def test_a_language_model_teaches_in_lower_precision(tmp_path):
    given = {**ONE, "labels": (8,), "teacher": "tiny-causal", "teacher_precision": "bfloat16"}
    bench = study.Bench(SETTING.model_copy(update={**given, "llm": ""}), tmp_path)
    train = bench.people(8, 0)
    assert bench.new("tiny-causal", train, 0, teaches=True).precision == "bfloat16"
    assert bench.new("tiny-causal", train, 0).precision == "float32"
    runs = study.run(bench.setting, tmp_path)
    assert list(runs["strategy"]) == ["teacher", "annotate", "distill"]
    assert set(runs["teacher"]) == {"tiny-causal"}


def test_the_precision_of_trainings_is_in_a_row_and_in_the_id_but_where_it_is_float32(tmp_path):
    half = SMALL.model_copy(update={"training": "bfloat16", "labels": (4,)})
    assert "training" not in SMALL.own()
    assert "precision" not in SMALL.own()
    assert half.own() == SMALL.own() | {"training": "bfloat16"}
    assert half.id != SMALL.id
    found = study.run(half, tmp_path)
    assert set(found["training"]) == {"bfloat16"}
    assert set(found["precision"]) == {"float32"}
    assert study.Bench(half, tmp_path).classifying("s4", 0, False).precision == "bfloat16"


def test_another_student_under_the_same_name_is_another_run(tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    setting = SMALL.model_copy(update={"students": (str(folder), "s4"), "labels": (4,)})
    ids = []
    for config in ("{}", "[]"):
        (folder / "config.json").write_text(config)
        ids.append([spec.id for spec in study.specs(setting, tmp_path)])
    teacher, student, design = (one == other for one, other in zip(*ids, strict=True))
    assert (teacher, student, design) == (True, False, True)


def test_the_records_have_the_columns_of_a_new_study(tmp_path):
    found = set(study.run(SMALL.model_copy(update={"labels": (4,), "llm": ""}), tmp_path))
    for name in ("study", "study_tfew", "study_fever"):
        assert set(compare.recorded(name)) <= found, name


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"teacher_precision": "int8"},
            "tiny-encoder teaches, an encoder whose weights are trained",
        ),
        ({"teacher_precision": "fastest", "teacher": "tiny-causal"}, "Input should be 'float32'"),
        (
            {
                "teacher_precision": "int8",
                "teacher": "tiny-causal",
                "teacher_recipe": Recipe.of({"method": "full"}),
            },
            "full trains in float32 or bfloat16, not in int8",
        ),
    ],
)
def test_a_precision_that_nothing_would_be_in_is_refused(given, why):
    smoke = presets.named("smoke").budgets
    with pytest.raises(ValidationError, match=why):
        study.Setting.of(smoke, **given)
    teaches = {"teacher": "tiny-causal", "teacher_precision": "int8"}
    assert study.Setting.of(smoke, **teaches).own()["teacher_precision"] == "int8"
