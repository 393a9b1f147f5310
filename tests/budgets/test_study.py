"""The live study: same texts for all, dollars that add up, killed and resumed without a loss."""

import pandas as pd
import pytest

from frugal.budgets import study
from frugal.engine import presets
from frugal.errors import FrugalError

SETTING = study.Setting.of(presets.settings("smoke").budgets)
# An hour costs next to nothing, so that what else its dollars buy does not hang on this machine.
CHEAP = {"usd_per_hour": 1e-3}
ONE = {"labels": (4, 8), "seeds": (0,), "students": ("1 layer",), **CHEAP}
SMALL = SETTING.model_copy(update=ONE)
EXACT = [
    "labels",
    "seed",
    "strategy",
    "model",
    "params",
    "trained",
    "trained_on",
    "accuracy",
    "hits",
    "tokens",
    "flops",
]


def test_every_strategy_is_scored_on_the_same_texts_and_dollars_add_up(tmp_path):
    runs = study.run(SMALL, tmp_path)
    assert list(runs["strategy"]) == ["teacher", "annotate", "distill", "llm"] * 2
    for row in runs.itertuples():
        assert len(row.hits) == SMALL.limit
        assert row.accuracy == pytest.approx(row.hits.count("1") / SMALL.limit)
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

    out, calls, real = tmp_path / "runs.csv", [], study.outputs

    def outputs(*arguments):
        calls.append(1)
        if len(calls) == 2:  # in the second cell, after its teacher was trained
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(study, "outputs", outputs)
    with pytest.raises(Killed):
        study.run(SMALL, tmp_path / "work", out=out)
    assert len(pd.read_csv(out)) == 4
    said = []
    resumed = study.run(SMALL, tmp_path / "work", out=out, progress=said.append)
    assert said == ["8 labels, seed 0, 1 layer"]
    assert resumed[EXACT].equals(whole[EXACT])
    again = study.run(SMALL, tmp_path / "work", out=out, progress=said.append)
    assert len(said) == 1
    assert again[EXACT].equals(whole[EXACT])
    more = SMALL.model_copy(update={"seeds": (0, 1)})  # a study can grow
    assert len(study.run(more, tmp_path / "work", out=out)) == 16
    sizes = SMALL.model_copy(update={"labels": (4,), "students": ("1 layer", "2 layers")})
    grown = study.run(sizes, tmp_path / "work", out=out)
    assert list(grown["strategy"][16:]) == ["annotate", "distill", "llm"]
    assert set(grown["model"][16:]) == {"2 layers"}
    assert grown[:16][EXACT].equals(study.run(more, tmp_path / "work", out=out)[:16][EXACT])
    with pytest.raises(FrugalError, match="runs of another setting"):
        study.run(SMALL.model_copy(update={"epochs": 2}), tmp_path / "work", out=out)
    out.write_text("a,b\n1,2\n")
    with pytest.raises(FrugalError, match="not the table of a study"):
        study.run(SMALL, tmp_path / "work", out=out)


def test_lost_rows_are_computed_again_and_doubled_ones_count_once(tmp_path):
    one = SMALL.model_copy(update={"labels": (8,)})
    whole = study.run(one, tmp_path / "work", out=tmp_path / "whole.csv")
    header, *lines = (tmp_path / "whole.csv").read_text().splitlines(True)
    out = tmp_path / "runs.csv"
    for lost in range(3):  # the teacher's row, and two of its student
        out.write_text("".join([header, *lines[:lost], *lines[lost + 1 :], lines[-1]]))
        found = study.run(one, tmp_path / "work", out=out)
        by = found.sort_values("strategy", ignore_index=True)[EXACT]
        assert by.equals(whole.sort_values("strategy", ignore_index=True)[EXACT])
    out.write_text("".join([header, *lines, lines[2]]))
    by = study.run(one, tmp_path / "work", out=out).sort_values("strategy", ignore_index=True)
    assert by[EXACT].equals(whole.sort_values("strategy", ignore_index=True)[EXACT])


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
