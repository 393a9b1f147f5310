"""A study's table: what is lost or damaged is computed again, what stands twice counts once."""

import json

import pandas as pd
import pytest

from frugal import data
from frugal.budgets import study
from frugal.engine import presets
from frugal.errors import FrugalError

SETTING = study.Setting.of(presets.named("smoke").budgets).model_copy(
    update={"labels": (4, 8), "seeds": (0,), "students": ("1 layer", "s4"), "llm": ""}
)
STRATEGIES = ["annotate", "distill"]


@pytest.fixture
def computed(monkeypatch):
    """Cells cost nothing here; what was asked of them."""
    asked = []

    def cell(bench, n, seed, who):
        asked.append((n, seed, *who))

        def row(strategy, model):
            hits = f"{n % 3:b}".zfill(4) + str(len(strategy) % 2)
            numbers = dict.fromkeys(["usd_labels", "usd_compute", "usd", "seconds", "flops"], 0.1)
            counts = dict.fromkeys(["params", "trained", "trained_on", "tokens"], n)
            at = {"task": "t", "labels": n, "seed": seed, "strategy": strategy, "model": model}
            return {**at, **counts, "accuracy": hits.count("1") / 5, "hits": hits, **numbers}

        return [row("teacher", "e")] + [row(s, w) for w in who for s in STRATEGIES]

    monkeypatch.setattr(study, "cell", cell)
    return asked


@pytest.fixture
def out(computed, tmp_path):
    """The table of a study that is done."""
    file = tmp_path / "runs.csv"
    study.run(SETTING, tmp_path / "work", out=file)
    computed.clear()
    return file


def again(out, setting=SETTING):
    found = study.run(setting, out.parent / "work", out=out)
    return found.sort_values(["labels", "strategy", "model"]).reset_index(drop=True)


def test_what_is_there_is_not_computed_again(out, computed):
    first = again(out)
    assert computed == []
    assert len(first) == 10
    assert set(first["preset"]) == {"smoke"}
    assert set(first["setting"]) == {SETTING.id}
    read = pd.read_csv(out, dtype={"hits": str}).sort_values(["labels", "strategy", "model"])
    assert read["accuracy"].tolist() == first["accuracy"].tolist()


def edited(out, edit):
    lines = out.read_text().splitlines()
    out.write_text("\n".join(edit(lines)) + "\n")


DAMAGES = {
    "lost": lambda lines, at: lines[:at] + lines[at + 1 :],
    "cut": lambda lines, at: [*lines[:at], lines[at][: len(lines[at]) // 3], *lines[at + 1 :]],
    "flipped": lambda lines, at: [
        line.replace("0.2,", "0.6,").replace("0.4,", "0.6,") if n == at else line
        for n, line in enumerate(lines)
    ],
    "nan": lambda lines, at: [
        line.replace("0.1", "nan") if n == at else line for n, line in enumerate(lines)
    ],
    "no number": lambda lines, at: [
        line.replace("0.1", "x") if n == at else line for n, line in enumerate(lines)
    ],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("at", range(1, 11))
def test_a_row_that_is_lost_or_damaged_is_computed_again(out, computed, damage, at):
    first = again(out)
    row = out.read_text().splitlines()[at].split(",")
    edited(out, lambda lines: DAMAGES[damage](lines, at))
    second = again(out)
    n, strategy, model = int(row[1]), row[3], row[4]
    assert computed == [(n, 0)] if strategy == "teacher" else [(n, 0, model)]
    pd.testing.assert_frame_equal(second, first)
    computed.clear()
    pd.testing.assert_frame_equal(again(out), first)
    assert computed == []


def test_doubled_rows_count_once(out, computed):
    first = again(out)
    edited(out, lambda lines: [*lines, *lines[1:4], lines[2]])
    pd.testing.assert_frame_equal(again(out), first)
    assert computed == []


def test_a_study_grows(out, computed):
    more = SETTING.model_copy(update={"labels": (4, 8, 12), "students": ("1 layer", "s4", "A")})
    assert len(again(out, more)) == 3 * (1 + 2 * 3)
    assert computed == [(4, 0, "A"), (8, 0, "A"), (12, 0, "1 layer", "s4", "A")]


@pytest.mark.parametrize("file", ["study.csv", "study_tfew.csv", "study_fever.csv"])
def test_records_of_before_are_not_continued(computed, tmp_path, file):
    out = tmp_path / file
    out.write_bytes((data.ROOT / "results" / file).read_bytes())
    before = out.read_bytes()
    if "key" in pd.read_csv(out):
        pytest.skip("this record was made anew")
    with pytest.raises(FrugalError, match=r"keys of version 1.*version 2.*Name another file"):
        again(out)
    assert (out.read_bytes(), computed) == (before, [])


def write_task(file, word):
    lines = [
        {"prompt": f"{word} {n}", "choices": [" a", " b"], "label": n % 2} for n in range(30)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def test_an_edited_task_or_model_is_another_study(computed, tmp_path):
    task = write_task(tmp_path / "t.jsonl", "one")
    folder = tmp_path / "llm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    setting = SETTING.model_copy(
        update={"task": task, "llm": str(folder), "teacher": "tiny-causal", "labels": (4,)}
    )
    ids = [setting.id]
    out = tmp_path / "runs.csv"
    study.run(setting, tmp_path / "work", out=out)
    write_task(tmp_path / "t.jsonl", "two")
    ids.append(setting.id)
    with pytest.raises(FrugalError, match="holds runs of another setting"):
        study.run(setting, tmp_path / "work", out=out)
    (folder / "config.json").write_text("[]")
    ids.append(setting.id)
    for name in ("encoder", "teacher"):
        ids.append(setting.model_copy(update={name: str(folder)}).id)
    assert len(set(ids)) == len(ids)
    assert setting.model_copy(update={"preset": "x", "seeds": (9,)}).id == setting.id


def test_another_student_under_the_same_name_is_computed_anew(computed, tmp_path):
    folder = tmp_path / "student"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    setting = SETTING.model_copy(update={"students": (str(folder), "s4"), "labels": (4,)})
    out = tmp_path / "runs.csv"
    again(out, setting)
    computed.clear()
    (folder / "config.json").write_text("[]")
    found = again(out, setting)
    assert computed == [(4, 0, str(folder))]
    assert len(found) == 5
