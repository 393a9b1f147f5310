"""The slides in Chromium, without a network: every page is opened and measured."""

import re
from pathlib import Path

import pytest

from frugal_course.publish import slides

FOLDER = Path(__file__).parents[2] / "notebooks"
FILES = sorted(FOLDER.glob("[0-9]*.ipynb"))

pytestmark = pytest.mark.real  # reveal.js is fetched from the package index


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_page_fits_and_nothing_is_fetched(chromium, file, tmp_path):
    (deck,) = slides.export([file], tmp_path)
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    errors, asked = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(deck.as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    count = page.evaluate("Reveal.getTotalSlides()")
    overflowing, unheaded, long, seen = [], [], [], 0
    while True:
        height, width, text = page.evaluate(
            "(s => [s.scrollHeight, s.scrollWidth, s.innerText])(Reveal.getCurrentSlide())"
        )
        assert text.strip() or page.evaluate("!!Reveal.getCurrentSlide().querySelector('img')")
        heading, rows = page.evaluate(
            """(s => [!!s.querySelector('h1, h2, h3, h4'), Math.max(0, ...[...s.querySelectorAll(
            'table tbody')].map(b => b.rows.length))])(Reveal.getCurrentSlide())"""
        )
        unheaded += [] if heading else [page.url.partition("#")[2]]
        long += [page.url.partition("#")[2]] if rows > slides.ROWS + 1 else []  # and how many more
        if height > 720 or width > 1280:
            overflowing.append((page.url.partition("#")[2], height, width, text[:40]))
        seen += 1
        if page.evaluate("Reveal.isLastSlide()"):
            break
        page.evaluate("Reveal.next()")
    page.close()
    assert not overflowing
    assert not unheaded
    assert not long
    assert seen == count > 10
    assert not errors
    assert not [url for url in asked if not re.match("file:|data:", url)]
