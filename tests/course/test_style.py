"""Sentences under figures: a page shows the letters that were written, and no formula."""

import html
import re

import mistune
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from frugal_course.figures import style
from frugal_course.publish import pages

LETTERS = st.text(st.sampled_from("ab 1.-+*_`[](){}<>#|~$&\\:!=\"'"), min_size=1, max_size=40)


@given(LETTERS)
@example("From $0.41 to $16.48, [a](b) and *c*")
@example("- 3 points; 1. a")
@example("+15 points [+9, +21]; a < b & c")
@example("# x")
@example("http://a.b/c_d_e")
def test_a_page_shows_the_letters_that_were_written(text):
    marked = style._unmarked(text)
    assert pages._without_math(marked, []) == marked
    shown = html.unescape(re.sub(r"<[^<>]*>", "", mistune.html(marked)))
    assert " ".join(shown.split()) == " ".join(text.split())


def test_a_picture_has_its_sentence_beside_it_and_under_it(monkeypatch):
    shown = []
    monkeypatch.setattr(style, "display", lambda data, raw: shown.append(data))
    style.picture(Figure(), "One costs $1.\nAnother $2.")
    image, words = shown
    assert image["text/plain"] == words["text/plain"] == "One costs $1.\nAnother $2."
    assert words["text/markdown"].count("\n\n") == 1
    assert "$" not in words["text/markdown"]
