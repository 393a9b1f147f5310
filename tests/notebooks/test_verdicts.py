"""What notebooks and READMEs say of a difference: never two things, and in one word.

`stats.Difference.of` writes a verdict as "OURS less THEIRS, WHERE: +15 points [+9, +21]"; several
of one kind share the words before the colon: "OURS less THEIRS, WHERE: N = 1 +5 points [+1, +9]; …"
"""

import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGES = [ROOT / "README.md", ROOT / "README.ko.md", ROOT / "notebooks" / "README.md"]
PAGES += [ROOT / "notebooks" / "GLOSSARY.ko.md", *sorted(ROOT.glob("data/**/README.md"))]
TURNED = str.maketrans("+-", "-+")
THESE = "for these labels"
SIZE = re.compile(
    r"(?P<size>[+-]\d+(?:\.\d+)?) points?"
    r"(?: \[(?P<low>[+-][\d.]+), (?P<high>[+-][\d.]+)\]| \(\d+ draws?; an interval needs \d\))"
)


class Verdict(NamedTuple):
    """of: what is compared, and where; size, low, high: points, as they are printed"""

    of: frozenset
    size: float
    low: float | None
    high: float | None

    @property
    def sign(self):
        """1 or -1 where the interval leaves out 0; 0 where it does not; None without one."""
        if self.low is None:
            return None
        return (self.low > 0) - (self.high < 0)


def verdicts(text):
    """Those of a text that say what is compared."""
    found, end, header = [], 0, None
    for match in SIZE.finditer(text):
        before = re.split(r"\. |\n|\|", text[end : match.start()])
        if len(before) > 1:
            header = None  # another sentence
        before, end = before[-1].rpartition("; ")[2], match.end()
        if " less " in before:
            ours, _, rest = before.partition(" less ")
            where, colon, label = rest.rpartition(": ")
            header = (re.split(r", |: |\(", ours)[-1].strip(), *where.split(", "))
            header = header if colon else None  # a row of a table
        else:
            label = before
        if header:
            names = {f"{'+-'[i]}{name}" for i, name in enumerate(header[:2])}
            parts = {part for part in (*header[2:], *label.strip(" ;:").split(", ")) if part}
            low, high = (float(x) if x else None for x in match.group("low", "high"))
            found.append(Verdict(frozenset(names | parts), float(match["size"]), low, high))
    return found


def contradictions(every):
    """Pairs of one comparison that differ; or of one sign and its opposite, if for some labels."""
    kept, bad = {}, []
    for verdict in every:
        turned = frozenset(p[0].translate(TURNED) + p[1:] for p in verdict.of)
        if turned in kept:
            low, high = (None if x is None else -x for x in (verdict.high, verdict.low))
            verdict = Verdict(turned, -verdict.size, low, high)
        first = kept.setdefault(verdict.of, verdict)
        if first != verdict:
            bad.append((first, verdict))
        of_any = kept.get(verdict.of - {THESE})
        if first == verdict and of_any and (of_any.sign or 0) * (verdict.sign or 0) < 0:
            bad.append((of_any, verdict))
    return bad


def said(file):
    """All that a file says: a page, or the text, the outputs and the claims of a notebook."""
    if file.suffix == ".md":
        return [file.read_text(encoding="utf-8")]
    texts = []
    for cell in nbformat.read(file, as_version=4).cells:
        if cell.cell_type == "markdown":
            texts.append(cell.source)
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            data = output.get("data", {})
            claims = [value for kind, value in data.items() if "claims" in kind]
            texts += [row["measured here"] for rows in claims for row in rows]
            texts += [] if claims else [str(data.get("text/plain", ""))]
    return texts


def test_no_two_places_state_different_verdicts_on_one_comparison():
    every = [v for file in (*NOTEBOOKS, *PAGES) for text in said(file) for v in verdicts(text)]
    assert every
    assert contradictions(every) == []


def test_verdicts_are_read_as_they_are_written():
    first, second = verdicts(
        "32 labels (20 steps): T-Few less 16-shot ICL, movie-reviews: +15 points [+9, +21]. It is "
        "+3 points [+1, +5]. Here, T-Few less ICL: +1 point (2 draws; an interval needs 3)"
    )
    assert first == (frozenset({"+T-Few", "-16-shot ICL", "movie-reviews"}), 15, 9, 21)
    assert second == (frozenset({"+T-Few", "-ICL"}), 1, None, None)
    of = {"+Distilled", "-labels", "recorded"}
    listed = verdicts(
        "Distilled less labels, recorded: N = 100, s4 +5 points [-1, +9]; N = 1,000 +4 points "
        "[+2, +6]; and LLM less labels, s4: -4 points [-7, -1]"
    )
    assert [v.of for v in listed] == [
        of | {"N = 100", "s4"},
        of | {"N = 1,000"},
        {"+and LLM", "-labels", "s4"},
    ]
    assert [v.sign for v in listed] == [0, 1, -1]
    assert verdicts("0  A less B   14   +9 points [+5, +13]   +9 points [+3, +15]") == []


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("A less B, t: +5 points [+1, +9]\nA less B, t: +5 points [+1, +9]", 0),
        ("A less B, t: +5 points [+1, +9]\nA less B, u: +5 points [-1, +9]", 0),
        ("A less B, t: +5 points [+1, +9]\nA less B, t: +5 points [-1, +9]", 1),
        ("A less B, t: +5 points [+1, +9]\nB less A, t: -5 points [-9, -1]", 0),
        ("A less B, t: +5 points [+1, +9]\nB less A, t: +5 points [+1, +9]", 1),
        ("A less B, t: +5 points [+1, +9]\nA less B, t, for these labels: +2 points [-1, +5]", 0),
        ("A less B, t: +5 points [+1, +9]\nA less B, t, for these labels: -4 points [-7, -1]", 1),
    ],
)
def test_contradictions_are_found(text, bad):
    assert len(contradictions(verdicts(text))) == bad


OLD = re.compile(
    r"\bnois(e|y)\b|잡음|really best|best with a chance|정말 최선일 확률"
    r"|stats\.(gap|paired|bootstrap|interval)\b|two standard errors",
    re.IGNORECASE,
)


def test_the_words_of_before_are_gone():
    """Of sources: outputs are made of them."""
    texts = {str(file): file.read_text(encoding="utf-8") for file in PAGES}
    texts |= {str(file): file.read_text(encoding="utf-8") for file in ROOT.glob("lib/**/*.py")}
    for file in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        cells = nbformat.read(file, as_version=4).cells
        texts[str(file)] = "\n".join(cell.source for cell in cells)
    found = {name: match[0] for name, text in texts.items() if (match := OLD.search(text))}
    assert found == {}
