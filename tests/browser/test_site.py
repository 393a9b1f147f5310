"""The site as a reader has it: static files, the network cut, explorers that compute there."""

import contextlib
import functools
import http.server
import json
import os
import re
import statistics
import threading
from pathlib import Path
from urllib.parse import unquote, urlencode, urlsplit

import pytest
from playwright.sync_api import expect

from frugal_course import explorers
from frugal_course.calculators import CALCULATORS
from frugal_course.calculators import page as calculated

ROOT = Path(__file__).parents[2]
SITE, AXE = ROOT / "site", ROOT / "node_modules" / "axe-core" / "axe.min.js"
PAGES = sorted(f.relative_to(SITE).as_posix() for f in SITE.rglob("*.html"))
OURS = [name for name in PAGES if not name.startswith(("api/", "slides/"))]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
CALLS = {
    "icl-cost": explorers.icl_cost,
    "ia3": explorers.ia3,
    "loss": explorers.loss,
    "design-space": explorers.design_space,
    "budget": explorers.budget,
}

pytestmark = pytest.mark.skipif(
    not (SITE / "index.html").exists() or not AXE.exists(),
    reason="no site/ and node_modules/ here: make site (it takes npm)",
)


@pytest.fixture(scope="module")
def address():
    """Where the site is served, by a server of static files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def tab(chromium, address):
    """tab(**options): a page that reaches nothing but the site; whatever is wrong in it fails."""
    wrong = []
    with contextlib.ExitStack() as opened:

        def start(**options):
            context = opened.enter_context(contextlib.closing(chromium.new_context(**options)))
            context.route(lambda url: not url.startswith(f"{address}/"), refused)
            page = context.new_page()
            page.on("pageerror", lambda error: wrong.append((page.url, str(error))))
            page.on("console", lambda m: m.type == "error" and wrong.append((page.url, m.text)))
            return page

        def refused(route):
            wrong.append(("outside", route.request.url))
            route.abort()

        yield start
    assert not wrong


def test_what_links_lead_to_is_there():
    texts = {name: (SITE / name).read_text(encoding="utf-8") for name in PAGES}
    ids = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in texts.items()}
    lost = []
    for name, text in texts.items():
        text = re.sub(r"<script\b.*?</script>|<pre\b.*?</pre>", "", text, flags=re.DOTALL)
        for target in re.findall(r'<[^>]+?\b(?:href|src)="([^"]*)"', text):
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            file = (SITE / name).parent / unquote(parts.path) if parts.path else SITE / name
            led = file.resolve().relative_to(SITE).as_posix()
            if not file.exists() or (
                parts.fragment and led in OURS and unquote(parts.fragment) not in ids[led]
            ):
                lost.append((name, target))
    assert not lost


def test_nothing_is_loaded_from_elsewhere_and_it_is_small():
    loads = re.compile(r"<(?:script|link|img|iframe|source|video)\b[^>]*?(?:https?:)?//[^>]*>")
    found = [
        (name, tag)
        for name in PAGES
        for tag in loads.findall((SITE / name).read_text(encoding="utf-8"))
        if re.search(r"(?:src|href)=[\"'](?:https?:)?//", tag)
    ]
    for sheet in SITE.rglob("*.css"):
        found += re.findall(r"url\([\"']?(?:https?:)?//[^)]*\)", sheet.read_text(encoding="utf-8"))
    assert not found
    assert sum(f.stat().st_size for f in SITE.rglob("*") if f.is_file()) < 60e6


def unreadable(page, rules):
    """What axe finds serious on a page: where, which rule, the first element."""
    page.add_script_tag(path=AXE)
    quick = {"resultTypes": ["violations"], "selectors": False, "preload": False, "rules": rules}
    found = page.evaluate("asked => axe.run(asked)", quick)
    return [
        (page.url, v["id"], v["nodes"][0]["html"][:120], len(v["nodes"]))
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def test_every_page_opens_and_can_be_read_by_all(tab, address):
    page, found, wide = tab(), [], []
    for name in OURS:
        page.set_viewport_size(SIZES["desktop"])
        page.goto(f"{address}/{name}")
        found += unreadable(page, {})
        page.set_viewport_size(SIZES["phone"])
        found += unreadable(page, {"color-contrast": {"enabled": False}})  # it has no width
        if page.evaluate("document.documentElement.scrollWidth") > SIZES["phone"]["width"]:
            wide.append(name)
    assert not found
    assert not wide


def test_in_the_dark_letters_can_be_read(tab, address):
    page, found = tab(color_scheme="dark"), []
    for name in ("index", "explorers/design-space", "notebooks/01_icl_cost_arithmetic"):
        page.goto(f"{address}/{name}.html")
        found += unreadable(page, {})
    assert not found


def test_reference_and_slides_open(tab, address):
    page = tab()
    for name in sorted(set(PAGES) - set(OURS)):
        page.goto(f"{address}/{name}")
        assert page.title()


@pytest.mark.parametrize("name", CALCULATORS)
def test_every_control_moves_the_librarys_numbers(tab, address, name):
    page = tab(viewport=SIZES["desktop"], reduced_motion="reduce")
    page.goto(f"{address}/explorers/{name}.html")
    form, said = page.locator("form.explorer"), page.locator(".sentence")
    mirror = CALLS[name]()
    expect(said).to_have_text(mirror.view.sentence)
    took = []
    for argument, control in mirror.controls.items():
        sentence = mirror.view.sentence
        field = form.locator(f"[name={argument}]")
        label = form.locator(f"label[for={argument}]")
        assert label.inner_text() == control.description
        field.focus()
        if hasattr(control, "options"):
            index = (control.index + 1) % len(control.options)
            field.select_option(index=index)
            control.index = index
        elif isinstance(control.value, bool):
            field.press("Space")
            control.value = not control.value
        elif field.get_attribute("type") == "number":
            field.fill(str(control.value + control.step))
            control.value += control.step
        else:
            up = control.value + control.step <= control.max
            field.press("ArrowRight" if up else "ArrowLeft")
            control.value += control.step if up else -control.step
        shown = len(took) + 1
        expect(form).to_have_attribute("data-shown", str(shown))
        took.append(float(form.get_attribute("data-took")))
        if "alert" in mirror._words.value:  # refused: the page says the same, and both go back
            continue
        assert mirror.view.sentence != sentence, argument
        expect(said).to_have_text(mirror.view.sentence)
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # a busy machine gives us a part
    assert took[0] < 8000 * busy
    assert statistics.median(took[1:]) < 50 * busy
    state = {k: v for k, v in mirror.parameters().items() if v != CALLS[name]().parameters()[k]}
    assert set(state) == set(dict(re.findall(r"(\w+)=([^&]*)", urlsplit(page.url).fragment)))


def test_an_address_holds_a_state_and_a_refusal_is_said(tab, address):
    page = tab(viewport=SIZES["phone"])
    said = page.locator(".sentence")
    state = {"shots": 16, "cached": True, "icl_arch": "gpt3-13b"}
    words = urlencode({k: str(v).lower() if v is True else v for k, v in state.items()})
    page.goto(f"{address}/explorers/icl-cost.html#{words}")
    expect(said).to_have_text(explorers.icl_cost(**state).view.sentence)
    assert page.locator("[name=shots]").input_value() == "16"
    page.evaluate("location.hash = 'icl_arch=t0-3b&cached=true'")
    expect(said).to_have_text("cached: t0-3b (encoder-decoder) has no prefix that could be cached")
    page.get_by_role("button", name="Start again").click()
    expect(said).to_have_text(explorers.icl_cost().view.sentence)
    page.evaluate("location.hash = 'shotz=3'")
    expect(said).to_have_text("unknown control 'shotz'; did you mean 'shots'?")
    assert page.locator("svg.narrow").is_visible()
    assert not page.locator("svg.wide").is_visible()


def test_without_javascript_the_start_stands_there(tab, address):
    page = tab(java_script_enabled=False)
    page.goto(f"{address}/explorers/loss.html")
    found = json.loads(calculated.answered("loss", {}))
    assert page.locator(".sentence").inner_text() == found["sentence"]
    assert page.locator("svg.wide").is_visible()
    assert page.locator(".numbers tbody tr").count() == 3
    assert not page.locator(".controls").is_visible()


def test_the_audit_is_searched_and_sorted(tab, address):
    page = tab()
    page.goto(f"{address}/audit.html")
    rows = page.locator("table.sortable tbody tr")
    whole = rows.count()
    page.get_by_role("searchbox", name="Search", exact=True).last.fill("table 1 gpt-3 13b")
    shown = [row for row in rows.all() if row.is_visible()]
    assert 0 < len(shown) < whole
    assert all("GPT-3 13B" in row.inner_text() for row in shown)
    page.get_by_role("searchbox", name="Search", exact=True).last.fill("")
    page.get_by_role("button", name="verdict").click()
    verdicts = rows.locator("td:nth-child(5)").all_inner_texts()
    assert verdicts == sorted(verdicts) or verdicts == sorted(verdicts, key=str.casefold)
    assert page.locator("th[aria-sort=ascending]").count() == 1
