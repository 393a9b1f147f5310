"""What stands outside the notebooks: the front page, the guide, the Korean texts."""

import itertools
import re
from pathlib import Path

import nbformat
import pytest

from frugal import stats
from frugal.budgets import compare
from frugal.costs import Scenario, arch, methods
from frugal.fewshot import table1_plan, table1_record
from frugal.papers import audit, tables
from frugal.spaces import design
from frugal_course import exercises

ROOT = Path(__file__).parents[2]
README, KOREAN = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ko.md")
)
GUIDE, GLOSSARY, DECK = (
    (ROOT / "notebooks" / name).read_text(encoding="utf-8")
    for name in ("README.md", "GLOSSARY.ko.md", "DECK.md")
)


def paid() -> list[int]:
    """Queries after which T-Few has paid for itself, by what is prompted."""
    t0 = arch.get("t0-11b")
    big = {o.name: o for o in Scenario(arch=t0, icl_arch=arch.get("gpt3-175b")).compare()}
    own = {o.name: o for o in Scenario(arch=t0, icl_arch=arch.get("t5-v1_1-xxl")).compare()}
    tuned = big["t-few"]
    return [tuned.overtakes(o) for o in (big["icl"], big["icl-cached"], own["icl"])]


def averages() -> tuple[str, float]:
    printed = next(
        r["printed"]
        for r in tables.records("tfew_table1")
        if (r["row"], r["column"]) == ("T0", "accuracy")
    )
    return printed, tables.wide("tfew_table9_main").loc["T0"].mean()


@pytest.mark.parametrize("page", [README, KOREAN], ids=["en", "ko"])
def test_three_findings_follow_from_the_data(page):
    first = page.partition("<!-- figure -->")[0] or page
    first = " ".join(first.partition("```")[0].split())
    assert paid() == [19, 739, 616]
    assert all(f"{count}" in first for count in paid())
    printed, mean = averages()
    assert printed.rstrip("%") in first
    assert f"{mean:.1f}" in first
    checked = audit.run()
    own = sum(finding.column == "paper" for finding in audit.findings(checked))
    assert str(len(checked)) in first
    assert re.search(rf"\b{own}(?= slips|건)", first)


@pytest.mark.parametrize("page", [README, KOREAN], ids=["en", "ko"])
def test_tfew_against_icl_over_the_recorded_tasks(page):
    first = " ".join(page.partition("```")[0].split())
    each = [*table1_record.differences(table1_record.recorded(), "ia3", "icl-16").values()]
    taken, wider = (stats.average(each, sample=sample) for sample in (False, True))
    ahead, planned = sum(gain.low > 0 for gain in each), len(table1_plan.frozen().tasks)
    if page == README:
        assert f"{taken}" in first
        assert f"{wider.interval}" in first
        assert f"{len(each)} of {planned} tasks" in first or len(each) == planned
        assert f"ahead on {ahead}" in first
    else:
        assert f"{100 * taken.difference:+.0f}점 {taken.interval}" in first
        assert wider.interval in first
        assert f"{planned}개 과제 가운데 {len(each)}개" in first


@pytest.mark.parametrize("page", [README, KOREAN], ids=["en", "ko"])
def test_a_teacher_and_100_labels_against_1000(page):
    first = " ".join(page.partition("```")[0].split())
    mine, own = (compare.recorded(name) for name in ("study_tfew", "study"))
    taught = mine.query("model == '2 layers' and strategy == 'distill' and labels == 100")
    labelled = own.query("model == '2 layers' and strategy == 'annotate' and labels == 1000")
    for runs in (taught, labelled):
        assert f"{runs['accuracy'].mean():.2f}" in first
        assert f"${runs['usd'].mean():.0f}" in first
    found = compare.less(taught, labelled)
    assert found.draws < stats.FEWEST, "there is an interval now: say it"
    assert str(found) in first or f"{found.difference * 100:+.0f}점({found.draws}회" in first


def sessions() -> list[tuple[list[list[str]], str]]:
    """The rows of each session's table, as cells, and its answers."""
    found = []
    for part in GUIDE.split("\n## Session ")[1:]:
        table, _, rest = part.partition("<details>")
        rows = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in table.splitlines()
            if re.match(r"\| \d+ \|", line)
        ]
        found.append((rows, rest.partition("</details>")[0]))
    return found


def test_guide_fills_two_times_90_minutes_and_answers_what_it_asks():
    assert len(sessions()) == 2
    for rows, answers in sessions():
        spans = [tuple(map(int, row[1].split("–"))) for row in rows]
        assert spans[0][0] == 0
        assert spans[-1][1] == 90
        assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
        asked = [int(row[0]) for row in rows]
        assert asked == [int(n) for n in re.findall(r"^(\d+)\. ", answers, re.MULTILINE)]
        assert all("?" in row[4] or "Guess" in row[4] for row in rows)
    assert "not been tried in a room" in GUIDE


def test_guide_names_slides_of_the_deck_and_sections_that_are_there():
    for rows, _ in sessions():
        for row in rows:
            for slide in re.findall(r"\*([^*]+)\*", row[3]):
                assert slide in DECK, slide
    headings = {
        path.name[:2]: "\n".join(
            cell.source
            for cell in nbformat.read(path, as_version=4).cells
            if cell.cell_type == "markdown"
        )
        for path in (ROOT / "notebooks").glob("0*.ipynb")
    }
    named = re.findall(r"(0[1-6]), sections? ([\d, toand]+)", GUIDE)
    assert len(named) > 15
    for notebook, text in named:
        for section in re.findall(r"\d+", text):
            assert re.search(rf"^## {section} · ", headings[notebook], re.MULTILINE), (
                notebook,
                text,
            )
    asked = "".join(re.findall(r"xercises? ([\d., and]+)", GUIDE))
    places = re.findall(r"(\d)\.(\d)", asked)
    assert len(places) > 10
    assert all(int(place) <= len(exercises.of_chapter(int(chapter))) for chapter, place in places)


def test_guide_says_the_numbers_that_are_computed():
    paper = Scenario(arch=arch.get("gpt3-175b")), Scenario(arch=arch.get("t0-11b"), shots=0)
    ratio = paper[0].query_flops() / paper[1].query_flops()
    assert f"{ratio:,.0f} times" in GUIDE
    assert f"{methods.trainable(arch.get('t0-11b'), 'ia3'):,}" in GUIDE
    assert f"**{len(list(design.groupings('spindle', 24)))}** (04" in GUIDE
    checked = audit.run()
    columns = [finding.column for finding in audit.findings(checked)]
    assert f"by {len(columns)} findings: {columns.count('paper')} are the papers'" in GUIDE
    assert f"Of {len(checked)} numbers {audit.summary(checked)['failed']} do not" in GUIDE
    assert all(f"after {count}" in GUIDE for count in paid())


def headings(page: str) -> int:
    return len(re.findall(r"^##+ ", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE))


def test_korean_front_page_has_all_sections_commands_and_links():
    assert headings(KOREAN) == headings(README)
    for command in re.findall(r"^(?:frugal|make) [a-z0-9]+(?: [a-z0-9]+)?", README, re.MULTILINE):
        assert command in KOREAN, command
    links = [set(re.findall(r"\]\(([^)#]+)", page)) for page in (README, KOREAN)]
    assert links[0] - links[1] <= {"README.ko.md", "CITATION.cff"}
    assert links[1] - links[0] <= {"README.md", "notebooks/GUIDE.ko.md"}
    assert all((ROOT / link).exists() for link in links[1] if not link.startswith("http"))
    assert "습니다" not in KOREAN + GLOSSARY


def test_korean_caption_has_the_figures_own_intervals():
    """Another run of notebook 03 changes the English one by itself, this one by hand."""
    caption = README.partition("<!-- figure -->")[2].partition("<!-- /figure -->")[0]
    mine = KOREAN.partition("(data/results/figure3.png)")[2].partition("```")[0]
    found = re.findall(r"\[[-+]\d.*?\]", caption)
    assert found
    assert all(interval in mine for interval in found)


TERMS = """token prompt label shot zero-shot few-shot many-shot in-context choice rank packed
calibrated unlikelihood length-normalized logits nat fine-tuning backbone adapter
Compacter FISH SAID LoRA prefix BitFit merge hook mixed-task FLOPs MFU cache prefill
decode latency int8 break-even serving design S4 spindle allocation greedy halving
shrinkage teacher student temperature annotation unlabelled pseudo-label frontier crossing
draw interval paired power Bonferroni resample reproduced unverified median chance seed
attention projection grouped-query gated meta SetFit linear active margin finding"""


def test_korean_guide_is_the_whole_guide():
    guide = (ROOT / "notebooks" / "GUIDE.ko.md").read_text(encoding="utf-8")
    assert headings(guide) == headings(GUIDE)
    english, korean = (
        re.findall(r"^\| \d+ \| (\d+–\d+) \|", text, re.M) for text in (GUIDE, guide)
    )
    assert english == korean
    for pattern in (r"\*[^*|]*Table \d[^*|]*\*", r"\d\.\d(?=[,.; )])"):
        assert set(re.findall(pattern, guide)) <= set(re.findall(pattern, GUIDE)), pattern
    for number in ("1,273", "1,081,344", "589,824", "739", "616", "0.63", "68.2", "149"):
        assert number in guide, number
    answers = [len(re.findall(r"^\d\. ", part, re.M)) for part in guide.split("<details>")[1:]]
    assert answers == [8, 8]
    assert "강의실에서 해 보지 않았다" in guide


def test_glossary_has_every_term_of_the_notebooks_in_both_languages_a_line_each():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in GLOSSARY.splitlines()
        if line.startswith("| ") and not line.startswith("| English")
    ]
    assert len(rows) > 90
    assert all(len(row) == 4 and all(row) for row in rows)
    english = [row[0] for row in rows]
    assert len(set(english)) == len(english)
    known = " ".join(english)
    assert not [term for term in TERMS.split() if term not in known]
    assert all(re.search("[가-힣]", row[2]) for row in rows)


def test_korean_uses_the_terms_of_the_field():
    sources = [ROOT / "README.ko.md", *(ROOT / "notebooks").glob("*.ko.md")]
    sources += (ROOT / "lib" / "frugal_course" / "exercises").glob("*.py")
    wrong = "잡음 ?범위|증류 대 주석|접어 넣|가리지 않은|눈앞에서|정말 최선일|의사 라벨|신뢰 ?구간"
    for path in sources:
        assert not re.search(wrong, path.read_text(encoding="utf-8")), path
