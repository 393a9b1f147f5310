"""Every explorer in a real browser: each control moved by the keyboard, the right numbers shown."""

from pathlib import Path

import ipywidgets as widgets
import pytest
from playwright.sync_api import expect

from frugal_course import explorers

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "dashboard.ipynb"
LOCAL = "--Voila.tornado_settings={'allow_remote_access': False}"  # as in the Makefile
ALL = {
    "icl-cost": explorers.icl_cost,
    "ia3": explorers.ia3,
    "loss": explorers.loss,
    "design-space": explorers.design_space,
    "budget": explorers.budget,
}
# What a control is set to, where the next option or step is not what a test of all controls wants.
TO = {
    ("icl-cost", "icl_arch"): "gpt3-13b",
    ("icl-cost", "arch"): "t0-3b",
    ("ia3", "vector"): "l_ff",
}


@pytest.fixture(scope="module")
def dashboard(serve, page):
    """The page of `make dashboard`, and a mirror of each explorer, moved with the page's."""
    page.goto(serve("voila", str(NOTEBOOK), "--Voila.ip=127.0.0.1", LOCAL))
    for name in ALL:
        expect(page.locator(f".explorer-{name} img")).to_be_visible()
    return {name: explorer() for name, explorer in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_each_control_moves_the_numbers(dashboard, page, shot, name):
    mirror = dashboard[name]
    said, picture = page.locator(f".explorer-{name} p"), page.locator(f".explorer-{name} img")
    expect(said).to_have_text(mirror.view.sentence)
    for argument, control in mirror.controls.items():
        sentence, drawn = mirror.view.sentence, picture.get_attribute("src")
        before = mirror.picture
        move(page, name, argument, control)
        assert mirror.view.sentence != sentence, argument
        expect(said).to_have_text(mirror.view.sentence)
        if mirror.picture != before:  # prices are not in every picture
            expect(picture).not_to_have_attribute("src", drawn)
    assert picture.evaluate("image => image.naturalWidth") > 500
    top = "part => window.scrollTo(0, part.getBoundingClientRect().top + scrollY - 60)"
    page.locator(f".explorer-{name}").first.evaluate(top)
    shot(name)


def test_what_is_refused_is_said_and_can_be_mended(dashboard, page, shot):
    mirror, said = dashboard["icl-cost"], page.locator(".explorer-icl-cost p")
    cached, model = mirror.controls["cached"], mirror.controls["icl_arch"]
    if not cached.value:
        move(page, "icl-cost", "cached", cached)
    move(page, "icl-cost", "icl_arch", model, to="t0-3b")
    expect(said).to_have_text("cached: t0-3b (encoder-decoder) has no prefix that could be cached")
    said.scroll_into_view_if_needed()
    shot("refused")
    move(page, "icl-cost", "cached", cached)
    expect(said).to_have_text(mirror.view.sentence)


def move(page, name, argument, control, to=None):
    """Move a control of the page by the keyboard, and its mirror here."""
    own = page.locator(f".explorer-{name} .widget-inline-hbox").filter(
        has=page.get_by_text(control.description, exact=True)
    )
    match control:
        case widgets.Dropdown():
            wanted = to or TO.get((name, argument))
            values = [value for _, value in control._options_full]
            last = (control.index + 1) % len(values)
            index = values.index(wanted) if wanted else last
            own.locator("select").select_option(index=index)
            control.index = index
        case widgets.IntSlider() | widgets.FloatSlider():
            up = control.value + control.step <= control.max
            own.locator(".noUi-handle").press("ArrowRight" if up else "ArrowLeft")
            control.value += control.step if up else -control.step
        case widgets.Checkbox():
            own.locator("input").press("Space")
            control.value = not control.value
        case _:
            own.locator("input").fill(str(control.value + control.step))
            own.locator("input").press("Enter")
            control.value += control.step
