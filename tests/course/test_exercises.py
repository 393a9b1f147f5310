"""Every solution passes, every blank fails, every common mistake hears what is wrong."""

import ast
import math
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from frugal import stats
from frugal.budgets import compare, distill
from frugal.errors import FrugalError
from frugal_course import exercises
from frugal_course.exercises import ch1_costs, ch2_ia3, ch5_budgets, sheets
from frugal_course.exercises.exercise import BLANK, Exercise, same

FOLDER = Path(__file__).parents[2] / "notebooks"
ALL = [e for number in exercises.CHAPTERS for e in exercises.of_chapter(number)]


def by_name(exercise):
    return exercise.name


def test_every_chapter_has_something_to_write_to_interpret_and_to_design():
    for number in exercises.CHAPTERS:
        own = exercises.of_chapter(number)
        assert 5 <= len(own) <= 6
        assert [e.title for e in own if e.difficulty == 3] == [own[-1].title]
        assert own[-1].title.startswith("Design the ")
        assert [e.title.startswith("Interpret: ") for e in own].count(True) == 1

    assert len({e.name for e in ALL}) == len(ALL)
    assert {e.difficulty for e in ALL} == {1, 2, 3}


def test_no_exercise_needs_torch_to_be_read():
    code = (
        "import sys; from frugal_course import exercises as e\n"
        "for n in e.CHAPTERS: e.of_chapter(n)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("exercise", ALL, ids=by_name)
def test_solution_passes_and_is_what_the_library_says(exercise):
    verdict = exercises.check(exercise.name, exercise.solution)
    assert verdict.right, verdict
    assert exercise.learned in verdict.text


@pytest.mark.parametrize("exercise", ALL, ids=by_name)
def test_blank_fails_and_is_said_to_be_one(exercise):
    space = {"np": np}
    exec(exercise.blank(), space)
    verdict = exercise.check(space[exercise.name])
    assert not verdict.right
    assert verdict.text == "Your function returns nothing yet."


@pytest.mark.parametrize(
    ("exercise", "words"),
    [(e, words) for e in ALL for words in e.mistakes],
    ids=lambda x: x.name if isinstance(x, Exercise) else x[:30],
)
def test_common_mistake_fails_with_its_words(exercise, words):
    verdict = exercise.check(exercise.mistakes[words])
    assert not verdict.right
    assert verdict.text == words


@pytest.mark.parametrize("exercise", ALL, ids=by_name)
def test_any_other_answer_hears_how_it_differs_and_never_the_answer(exercise):
    for wrong in (lambda *_: 7.25, lambda *_: "text", lambda *_: [1], lambda *_: float("nan")):
        verdict = exercise.check(wrong)
        assert not verdict.right
        assert len(verdict.text) > 20
    assert "raises ZeroDivisionError: division by zero" in exercise.check(lambda *_: 1 / 0).text
    assert "raises TypeError" in exercise.check(lambda *, other: other).text


def test_a_wrong_number_hears_its_ratio_and_a_list_its_place():
    query = exercises.get("query_flops")
    assert "that is 3 times the right answer" in repr(
        query.check(lambda *a: 3 * query.solution(*a))
    )
    widths = exercises.get("adapter_widths")
    shorter = widths.check(lambda *a: widths.solution(*a)[1:])
    assert "returns 23 values, where 24 are expected" in shorter.text
    last = widths.check(lambda *a: [*widths.solution(*a)[:-1], 1])
    assert "first at place 23" in last.text


def test_arguments_are_the_learners_to_spoil():
    spoil = exercises.get("frontier")

    def solution(ways):
        answer = spoil.solution(ways)
        ways.clear()
        return answer

    assert spoil.check(solution).right
    assert spoil.check(spoil.solution).right


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        (1, 1.0, True), (True, 1, False), (None, 0, False), ((1, 2), [1, 2], True),
        (torch.tensor([1.0, 2.0]), [1, 2], True), ("a", "a", True), ("1", 1, False),
        ([1, [2, None]], [1, [2, None]], True), ([1], [1, 2], False),
    ],
)  # fmt: skip
def test_same(found, expected, equal):
    assert same(found, expected) is equal


def test_unknown_exercise_is_named():
    with pytest.raises(
        FrugalError, match="unknown exercise 'break_evn'; did you mean 'break_even'"
    ):
        exercises.check("break_evn", print)


def test_generated_notebooks_are_the_committed_ones(tmp_path):
    """`make exercises` makes them."""
    for path in sheets.generate(tmp_path):
        committed = FOLDER / path.relative_to(tmp_path)
        assert committed.read_bytes() == path.read_bytes(), path.name
    generated = {p.relative_to(tmp_path) for p in tmp_path.rglob("*.ipynb")}
    kinds = ("exercises", "solutions")
    assert generated == {
        p.relative_to(FOLDER) for kind in kinds for p in (FOLDER / kind).glob("*.ipynb")
    }


@pytest.mark.parametrize("number", exercises.CHAPTERS)
def test_no_solution_stands_in_an_exercise_notebook(number):
    text = "\n".join(cell.source for cell in sheets.notebook(number, solved=False).cells)
    solved = "\n".join(cell.source for cell in sheets.notebook(number, solved=True).cells)
    for exercise in exercises.of_chapter(number):
        assert exercise.source() in solved
        function = ast.parse(exercise.source()).body[0]
        lines = exercise.source().splitlines()
        for statement in function.body[1:]:
            for line in lines[statement.lineno - 1 : statement.end_lineno]:
                if len(line.strip()) > 8:
                    assert line.strip() not in text, line
    assert text.count(BLANK) == len(exercises.of_chapter(number))


@pytest.mark.parametrize("solved", [False, True])
@pytest.mark.parametrize("number", exercises.CHAPTERS)
def test_notebooks_run_from_top_to_bottom(number, solved):
    """In this process, which is faster than a kernel; the cells are plain Python."""
    notebook = sheets.notebook(number, solved=solved)
    space = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), space)
        if last is not None:
            verdict = eval(compile(ast.Expression(last.value), "cell", "eval"), space)
            assert verdict.right == solved
            if solved:
                assert repr(verdict) == cell.outputs[0].data["text/plain"]
    nbformat.validate(notebook)


def test_folding_is_what_torch_and_the_library_compute():
    weight, bias, scale, x = (
        torch.randn(s, dtype=torch.float64) for s in ((5, 3), (5,), (5,), (2, 3))
    )
    folded = ch2_ia3.fold(weight, bias, scale)
    expected = scale * torch.nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(torch.nn.functional.linear(x, *folded), expected)
    into, given = torch.randn(3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    folded_ff = ch2_ia3.fold_feed_forward(weight, into)
    torch.testing.assert_close(given @ folded_ff.T, (into * given) @ weight.T)


def test_a_budget_distils_what_the_library_says():
    from frugal.papers import purchases, table3

    for cell in table3.cells():
        if cell.unlabelled is not None:
            fitted = ch5_budgets._fitted(cell.task, cell.labels)
            mine = ch5_budgets.distilled(cell.budget, table3.gpu_usd(), *fitted)
            bought = purchases.buy(cell.task, "distill", labels=cell.labels, budget=cell.budget)
            assert mine == pytest.approx(bought.unlabelled)


@pytest.mark.parametrize(
    ("name", "plan", "words"),
    [
        ("ten_points", (13, 1000), "Right"),
        ("ten_points", (2, 900), "with two, t is 12.7"),
        ("ten_points", (15, 2000), "longer than 90 minutes"),
        ("ten_points", (9, 100), "no number of texts is enough"),
        ("ten_points", (15, 500), "texts are what is missing"),
        ("ten_points", (15, 700.5), "first at place"),
        ("within_five_points", (15, 200), "Right"),
        ("within_five_points", (14, 500), "Right"),
        ("within_five_points", (16, 1000), "costs more than $650"),
        ("within_five_points", (10, 800), "Take the money from the texts"),
        ("within_five_points", (15, 60), "a few more texts"),
    ],
)
def test_any_design_that_does_it_is_right_and_others_hear_why_not(name, plan, words):
    verdict = exercises.check(name, lambda: plan)
    assert words in verdict.text
    assert verdict.right == (words == "Right")


def test_what_exercises_say_of_records_is_in_them():
    """Their numbers are also in the solutions, as a learner writes them."""
    given = ch5_budgets.PILOT
    assert f"draw={given.draw}, text={given.text}, rest={given.rest})" in (
        exercises.get("within_five_points").source()
    )
    assert distill.TEMPERATURE == ch5_budgets.TEMPERATURE
    bought = compare.recorded().query("model == '2 layers' and labels == 300")
    found = compare.gaps(bought, "distill", "annotate")["gap"][0]
    assert f"holds 0: {found}." in exercises.get("within_five_points").text
    high = compare.gaps(compare.recorded(), "distill", "llm").set_index(["labels", "model"])
    assert "+8 points" in str(high.loc[(1000, "2 layers"), "gap"])


@pytest.mark.parametrize(("difference", "disagree"), [(0.03, 0.12), (0.02, 0.3), (0.05, 0.2)])
def test_texts_for_a_paired_difference_are_what_power_says(difference, disagree):
    mine = ch2_ia3.texts_needed(difference, disagree)
    given = stats.Components(0.0, disagree - difference**2)
    assert mine == pytest.approx(stats.power(difference, given, draws=3), rel=0.02)


def test_the_doubt_about_costs_is_the_worst_of_all_corners():
    rng = np.random.default_rng(0)
    for training, query, icl in rng.uniform(1, [1e4, 5, 20], (50, 3)):
        corners = [
            ch1_costs.break_even(training * a, query * b, icl * c)
            for a in (0.8, 1.2)
            for b in (0.8, 1.2)
            for c in (0.8, 1.2)
        ]
        worst = None if None in corners else max(corners)
        assert ch1_costs.surely_paid(training, query, icl, 0.2) == worst


def mean_without_exp(logp, label):
    wrong = [x for i, choice in enumerate(logp) for x in choice if i != label]
    return sum(-math.log(1 - x) for x in wrong) / len(wrong)


def unrounded(training, query, icl_query):
    if icl_query <= query:
        return None
    return training / (icl_query - query)


@pytest.mark.parametrize(
    ("name", "written", "words"),
    [
        ("break_even", unrounded, "round up"),
        ("unlikelihood", mean_without_exp, "p = exp(log p)"),
        ("fold_feed_forward", lambda w, s: w * s.reshape(-1, 1), "The rows are scaled"),
        ("fold_feed_forward", lambda w, s: np.diag(s) @ w, "The rows are scaled"),
        (
            "mixed_batch",
            lambda k, v, t: np.array([row * v[name] for row, name in zip(k, t, strict=True)]),
            "A row may have no task",
        ),
        (
            "t_statistic",
            lambda a, b, sd, n: abs(a - b) / (sd * math.sqrt(2 / n)),
            "The sign is lost",
        ),
    ],
)
def test_mistakes_are_known_in_a_learners_own_words(name, written, words):
    verdict = exercises.check(name, written)
    assert not verdict.right
    assert words in verdict.text, verdict
