"""Tasks: the same draws everywhere, nothing in both halves, and one clear error for bad lines."""

import hashlib
import json

import pytest
from datasets import Dataset

from frugal import tasks
from frugal.errors import FrugalError
from frugal.tasks.templates import Template

LINE = {"prompt": "Sky:", "choices": [" blue", " green"], "label": 0}


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_draws_are_disjoint_from_the_test_set_and_repeat():
    task = tasks.load("counting")
    tested = {e.prompt for e in task.test()}
    for seed in tasks.SEEDS:
        drawn = task.draw(8, seed)
        assert len({e.prompt for e in drawn}) == 8
        assert not tested & {e.prompt for e in drawn}
        assert drawn == tasks.load("counting").draw(8, seed)
    assert task.draw(8, 0) != task.draw(8, 1)
    assert task.draw(4, 0) == task.draw(8, 0)[:4]  # more shots are the same ones and more


def test_draw_is_the_same_on_every_machine():
    text = "".join(e.prompt for e in tasks.load("counting").draw(8, 42))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "fddb25ea01ac3d8c"


def test_a_users_file_is_used_as_it_is_and_what_is_drawn_is_not_scored(tmp_path):
    lines = [{**LINE, "prompt": f"Sky {i}:"} for i in range(20)]
    task = tasks.load(write(tmp_path / "mine.jsonl", *lines))
    drawn, tested = task.draw(6, seed=1), task.test(shots=6, seed=1)
    assert len(tested) == 14
    assert {e.prompt for e in drawn} | {e.prompt for e in tested} == {x["prompt"] for x in lines}
    assert [e.prompt for e in task.test()] == [x["prompt"] for x in lines]


def test_line_separators_inside_a_text_do_not_end_its_line(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({**LINE, "prompt": "a\u2028b"}, ensure_ascii=False) + "\n", "utf-8")
    assert tasks.load(path).test()[0].prompt == "a\u2028b"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "line 2: prompt"),
        ({"choices": [" one"]}, "line 2: choices"),
        ({"choices": [" one", "  "]}, "line 2: choices: one is empty"),
        ({"choices": [" one", " one"]}, "line 2: choices: two are the same"),
        ({"label": 2}, "line 2: label: 2 is not the index"),
        ({"label": -1}, "line 2: label: -1 is not the index"),
        ({"label": True}, "line 2: label"),
        ({"label": "0"}, "line 2: label"),
    ],
)
def test_a_bad_line_names_file_line_and_field(tmp_path, change, message):
    path = write(tmp_path / "mine.jsonl", LINE, {**LINE, **change})
    with pytest.raises(FrugalError, match=r"mine\.jsonl, ") as error:
        tasks.load(path)
    assert message in str(error.value)


def test_bad_files_have_one_clear_error(tmp_path):
    missing = {k: v for k, v in LINE.items() if k != "label"}
    with pytest.raises(FrugalError, match="line 1: label: Field required"):
        tasks.load(write(tmp_path / "missing.jsonl", missing))
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(FrugalError, match=r"empty\.jsonl: no example"):
        tasks.load(tmp_path / "empty.jsonl")
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "é"}'.encode("latin-1"))
    with pytest.raises(FrugalError, match=r"latin\.jsonl: not UTF-8 at byte 12"):
        tasks.load(tmp_path / "latin.jsonl")
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(FrugalError, match=r"broken\.jsonl, line 1"):
        tasks.load(tmp_path / "broken.jsonl")
    with pytest.raises(FrugalError, match=r"nowhere\.jsonl: No such file"):
        tasks.load(tmp_path / "nowhere.jsonl")
    with pytest.raises(FrugalError, match="unknown task 'countin'; did you mean 'counting'"):
        tasks.load("countin")


def test_too_many_shots_are_refused():
    with pytest.raises(FrugalError, match="counting: shots must be between 0 and"):
        tasks.load("counting").draw(1000, 0)


@pytest.mark.real
@pytest.mark.parametrize("name", ["movie-reviews", "amazon-reviews", "tweets", "nyt-editorials"])
def test_sentiment_tasks_have_two_balanced_enough_sides(name):
    task = tasks.load(name)
    test = task.test(500)
    positive = sum(e.label for e in test) / len(test)
    assert 0.25 < positive < 0.85
    assert {e.choices for e in test} == {(" negative", " positive")}
    assert all(e.prompt.startswith("Review: ") for e in test)


def test_templates_of_the_reviews_are_fixed_where_scripts_rely_on_them():
    for name in ("movie-reviews", "amazon-reviews", "tweets", "nyt-editorials"):
        first = tasks.defined(name).templates[0]
        assert first.prompt == "Review: {text}\nSentiment:"
        assert first.choices == (" negative", " positive")
        assert len(tasks.defined(name).templates) >= 4


def test_a_row_reads_differently_in_every_template_and_stays_the_same_example():
    task = tasks.load("counting")
    drawn = task.wordings(6, seed=3)
    assert [e[0] for e in drawn] == task.draw(6, 3)
    assert [e[1] for e in drawn] == task.draw(6, 3, template=1)
    for several in drawn:
        assert len({e.prompt for e in several}) == len(several) == 2
        assert len({(e.choices, e.label) for e in several}) == 1
    assert task.wordings(6, 3, "first") == [[e[0]] for e in drawn]
    tested = {e.choices[e.label] for e in task.test(template=1)}
    assert tested <= {" a", " b b", " c c c"}
    with pytest.raises(FrugalError, match="counting: template 2; it has 2, from 0"):
        task.draw(1, 0, template=2)
    with pytest.raises(FrugalError, match="unknown use of templates 'al'; did you mean 'all'"):
        task.wordings(1, 0, "al")


def test_a_template_fills_in_texts_and_lists():
    row = {"a": "x {b}", "several": ["one.", " two"], "b": 3}
    template = Template(prompt="{a}, {b}: {several}?", choices=" <{several}>")
    example = template.example(row, 1)
    assert example.prompt == "x {b}, 3: one,, two?"  # braces of a text are its own
    assert example.choices == (" <one.>", " < two>")
    one_by_one = Template(prompt="{a}", choices=(" {b}", " {several}"))
    assert one_by_one.columns == {"a", "b", "several"}
    with pytest.raises(ValueError, match="must name exactly one list"):
        Template(prompt="", choices="{a} {b}")


def test_a_test_row_without_a_sound_example_is_left_out_and_said_so():
    rows = Dataset.from_list(
        [{"x": "same", "y": t, "label": 0} for t in ("other", "same", "third", "fourth")]
    )
    template = Template(prompt="{y}", choices=(" {x}", " {y}"))
    task = tasks.Task("t", rows, test_size=3, templates=(template,))
    with pytest.warns(UserWarning, match=r"t: choices: two are the same \(row 1\); left out"):
        found = task.test()
    assert [e.choices[1] for e in found] == [" third", " fourth"]
    turned = tasks.Task("t", rows, templates=(template,), order=lambda n, seed: [1, 0, 2, 3])
    with pytest.raises(FrugalError, match="t: choices: two are the same"):
        turned.draw(1, 0)  # what trains is never left out in silence


def test_a_mixture_takes_each_task_up_to_the_limit_in_every_wording():
    counting = tasks.load("counting")
    mixed = tasks.mixture([counting, counting], 5, seed=1)
    assert mixed == counting.wordings(5, 1) * 2
    assert len(tasks.mixture([counting], 10**6)) == counting.drawable
    with pytest.raises(FrugalError, match="at least one task"):
        tasks.mixture([], 5)


def test_several_bad_lines_are_named_together(tmp_path):
    lines = [
        LINE, {**LINE, "label": 5}, {**LINE, "choices": [" a"]}, {"x": 1}, {**LINE, "label": 9},
    ]  # fmt: skip
    with pytest.raises(FrugalError) as error:
        tasks.load(write(tmp_path / "mine.jsonl", *lines, {}))
    message = str(error.value)
    for part in ("line 2: label: 5", "line 3: choices", "line 4: prompt", "and 2 more lines"):
        assert part in message
    assert "\n" not in message
