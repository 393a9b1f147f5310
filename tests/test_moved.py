"""Former import paths work in this version, and say where things have gone."""

import sys

import pytest

from frugal import moved

FORMER = {
    "import frugal.show": "frugal_course.figures",
    "from frugal import show": "frugal_course.figures",
    "from frugal.show import accuracy_against_cost": "frugal_course.figures",
    "from frugal.show.style import picture": "frugal_course.figures.style",
    "from frugal.show.fewshot import label_swap": "frugal_course.figures.tfew",
    "import frugal.show.explorers": "frugal_course.explorers",
    "from frugal.show import explorers; explorers.budget": "frugal_course.explorers",
    "from frugal.show.explorers import icl_cost": "frugal_course.explorers",
    "from frugal import exercises; exercises.check": "frugal_course.exercises",
    "from frugal.exercises.exercise import Exercise": "frugal_course.exercises.exercise",
    "from frugal.seminar import prepare; prepare.badge": "frugal_course.notebooks",
    "from frugal.seminar import slides; slides.export": "frugal_course.publish.slides",
    "from frugal.budgets.sources import Endpoint": "frugal.budgets.annotators",
    "from frugal.budgets import sources; sources.Endpoint": "frugal.budgets.annotators",
    "from frugal.fewshot.tasks import load": "frugal.tasks",
    "from frugal.fewshot import tasks; tasks.load": "frugal.tasks",
    "from frugal.fewshot import templates": "frugal.tasks.templates",
}


@pytest.fixture(autouse=True)
def _nobody_was_here():
    """What an import leaves behind would hide the next one's warning."""
    for name in [name for name in sys.modules if moved._now(name)]:
        home, _, last = name.rpartition(".")
        vars(sys.modules.get(home, sys)).pop(last, None)
        sys.modules.pop(name)


@pytest.mark.parametrize("line", FORMER)
def test_a_former_path_works_and_says_where_it_leads(line):
    says = f"is now {FORMER[line]}; its former name works in this version alone"
    with pytest.warns(FutureWarning) as heard:
        exec(line, {})
    assert any(str(warning.message).endswith(says) for warning in heard)


def test_what_has_not_moved_does_not_warn():
    exec("from frugal.fewshot import packing; from frugal import tasks", {})


def test_a_name_that_moved_is_found_where_it_was():
    from frugal.engine import backbones, tiny

    with pytest.warns(FutureWarning, match="is now frugal.engine.tiny.byte_tokenizer"):
        assert backbones.byte_tokenizer is tiny.byte_tokenizer
    with pytest.warns(FutureWarning, match="is now frugal.budgets.endpoint.Endpoint"):
        from frugal.budgets.annotators import Endpoint
    assert Endpoint.__module__ == "frugal.budgets.endpoint"
    with pytest.raises(AttributeError, match="no attribute 'bite_tokenizer'"):
        backbones.bite_tokenizer  # noqa: B018
