"""Pictures of ideas: what they count is counted, and words stand inside, apart from each other."""

import pytest
from drawn import apart

from frugal_course.figures import ideas

CHOICES = [["add", "_to", "_playlist"], ["search", "_work"], ["search", "_event"], ["rate"]]
SPACES = {f"S{i}": (f"{10 - i} designs", "settled") for i in range(5)}
ALL = {
    "layer": lambda: ideas.methods_in_a_layer("a finding"),
    "tree": lambda: ideas.choices_as_a_tree("30 tokens", CHOICES, "a finding"),
    "once": lambda: ideas.read_once(["positive", "negative"], "a finding"),
    "shots": lambda: ideas.shots_in_a_query(6, "a finding"),
    "batch": lambda: ideas.mixed_batch(["reviews", "tickets", "reviews", "intents"], "a finding"),
    "funnel": lambda: ideas.funnel(SPACES, "a finding"),
    "dollar": lambda: ideas.what_a_dollar_buys("a finding"),
}


def told(figure):
    return [text for text in figure.axes[0].texts if text.get_text()]


@pytest.mark.parametrize("name", ALL)
def test_words_stand_inside_and_apart(name):
    figure = ALL[name]()
    figure.draw_without_rendering()
    whole = figure.bbox
    for text in told(figure):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text.get_text()
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text.get_text()
        assert text.get_fontsize() >= 9
    assert apart(figure, told(figure))
    assert told(figure)[0].get_text() == "a finding"


def test_a_tree_has_each_beginning_once():
    words = [text.get_text() for text in told(ALL["tree"]())]
    assert "alone: 4 prompts, 8 tokens of choices" in words
    beginnings = {tuple(c[: i + 1]) for c in CHOICES for i in range(len(c))}
    assert f"packed: one prompt, {len(beginnings)} tokens of choices" in words
    assert words.count("30 tokens") == len(CHOICES) + 1
    assert words.count("search") == 2 + 1  # a row each, and once in the tree


def test_cached_shots_are_drawn_once():
    words = [text.get_text() for text in told(ALL["shots"]())]
    assert words.count("shot") == 6 * 3 + 6
    assert words.count("query 2") == 2


def test_every_space_and_every_row_is_there():
    words = [text.get_text() for text in told(ALL["funnel"]())]
    assert all(name in words and count in words for name, (count, _) in SPACES.items())
    rows = [text.get_text() for text in told(ALL["batch"]())]
    assert (rows.count("text of reviews"), rows.count("$l$ of reviews")) == (2, 2)
