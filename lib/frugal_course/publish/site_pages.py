"""The pages of the site that stand nowhere else: front, explorers, audit, our Table 1, lists."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from frugal import stats
from frugal.errors import FrugalError
from frugal.fewshot import table1_record
from frugal.papers import audit
from frugal_course.calculators import CALCULATORS
from frugal_course.figures import table1, tables
from frugal_course.publish import site_explorers

CHAPTERS = "notebooks/0"
CARD = "data/checkpoints/nano-t0/README.md"
LISTS = {
    "exercises": "To try on paper, or in a notebook: each check says what is missing, never the "
    "answer. A sheet a chapter.",
    "solutions": "One way to solve each exercise, and what the check says of it.",
}
SIDE = {  # of every page, behind the chapters
    "Explorers": [f"explorers/{name}.md" for name in CALCULATORS],
    "Practice": [f"notebooks/{kind}/index.md" for kind in LISTS],
    "Seminar": ["slides.md", "notebooks/README.md", "notebooks/DECK.md"],
    "Numbers": ["audit.md", "table1.md"],
    "Library": ["manual.md", "api.md", "CONTRIBUTING.md", "CHANGELOG.md", CARD],
    "한국어": ["README.ko.md", "notebooks/GUIDE.ko.md", "notebooks/GLOSSARY.ko.md"],
}
API = """# Reference

Every public function of both packages, from their docstrings, with shapes, units and sources.

```{raw} html
<ul><li><a href="api/frugal.html">frugal</a>: what computes</li>
<li><a href="api/frugal_course.html">frugal_course</a>: what a person looks at</li></ul>
```
"""
_ABSTRACT = re.compile(r"\*\*한국어 요약\.\*\*\s*(.+?)(?:\n\n|\Z)", re.DOTALL)


def written(readme: str, korean: str, notebooks: Mapping[str, Any]) -> dict[str, str]:
    """Pages in Markdown by the path of their file, from both READMEs and the notebooks by path."""
    chapters = [name for name in notebooks if name.startswith(CHAPTERS)]
    return {
        "index.md": front(readme, chapters),
        "manual.md": manual(readme),
        "README.ko.md": korean + abstracts({name: notebooks[name] for name in chapters}),
        "audit.md": audited(),
        "table1.md": recorded(),
        "api.md": API,
        **{f"explorers/{name}.md": site_explorers.text(name) for name in CALCULATORS},
        "slides.md": slides(chapters, notebooks),
        **{f"notebooks/{kind}/index.md": listed(kind, notebooks) for kind in LISTS},
    }


def front(readme: str, chapters: Sequence[str]) -> str:
    """Question, findings, figures and papers, as the README has them, and the way to the rest."""
    top = _between(readme, "**What is the cheapest", "```sh")
    learned = _between(readme, "## The notebooks", "`make lab` opens")
    papers = _between(readme, "The papers:", "## Installing")
    run = _between(readme, "```sh", "## The notebooks")
    moving = "\n".join(
        f"- **[{CALCULATORS[name].title}](explorers/{name}.md).** {told}"
        for name, (_, told, _) in site_explorers.TOLD.items()
    )
    return f"""# Frugal

[한국어](README.ko.md)

**What is the cheapest{top}

## Move it yourself

These compute in your browser, with the library's own functions; nothing is installed, nothing
is sent.

{moving}

{learned}

Each has [exercises](notebooks/exercises) and [solutions](notebooks/solutions), and
[slides](slides.md); there is a [plan of two seminar sessions](notebooks/README.md) and a
[Korean glossary](notebooks/GLOSSARY.ko.md).

## The papers

{papers.removeprefix("The papers:")}

Every number of theirs that can be recomputed is in [the audit](audit.md); what was measured for a
Table 1 of our own, with intervals, in [this table](table1.md).

## On your machine

{run}

[The manual](manual.md) says what else there is, for your own task and data too.

{_tree("Chapters", chapters)}
{"".join(_tree(caption, names) for caption, names in SIDE.items())}
"""


def manual(readme: str) -> str:
    """What the README says of installing and running."""
    return "# Manual\n\n" + _between(readme, "## Installing", None)


def abstracts(chapters: Mapping[str, Any]) -> str:
    """The Korean abstract of each chapter (nbformat, by path), as a section."""
    parts = ["\n\n## 각 장의 요약\n"]
    for name, notebook in chapters.items():
        title = _title(notebook)
        found = _ABSTRACT.search(notebook.cells[0].source)
        if found is None:
            raise FrugalError(f"{name}: no Korean abstract under its title")
        parts.append(f"### [{title}]({name})\n\n{found[1]}\n")
    return "\n".join(parts)


def audited() -> str:
    """Every number of the audit, to search and to sort."""
    found = audit.frame()
    counts = audit.summary(audit.run())
    says = {f.id: f.says for f in audit.findings(audit.run())}
    rows = [
        [
            tables.PAPERS[row.paper],
            row.where,
            row.printed,
            row.recomputed,
            tables.VERDICTS[row.verdict][0],
            row.note or says.get(row.finding, ""),
        ]
        for row in found.itertuples()
    ]
    columns = ["paper", "where", "printed", "recomputed", "verdict", "note"]
    return f"""# The audit

{counts["checked"]} numbers that the three papers print were recomputed: {counts["reproduced"]}
come out, {counts["rounded"]} with rounding, {counts["failed"]} do not. What a seminar learns most
from stands first; [chapter 1](notebooks/01_icl_cost_arithmetic.ipynb) tells whose the slips are.

{raw(table(columns, rows, "Printed and recomputed"))}
"""


def recorded() -> str:
    """Our own Table 1: each way on each task with its interval, and the differences."""
    rows = table1_record.recorded()
    each = [
        [
            task,
            table1.way(way),
            *_accuracy(table1_record.hits(rows, task, way)),
            f"{own['flops_per_query'].mean():.3g}",
        ]
        for (task, way), own in rows.groupby(["task", "way"])
    ]
    pairs = [
        [
            f"{table1.way(row.ours)} less {table1.way(row.theirs)}",
            f"{row.tasks} of {row.planned}",
            row.difference,
            row.sample or "–",
            f"{row.flops:.3g}",
        ]
        for row in table1_record.over_tasks(rows).itertuples()
    ]
    of_each = ["task", "way", "accuracy", "95 % interval", "draws", "texts", "FLOPs a query"]
    of_pairs = [
        "difference", "tasks", "these tasks, points", "tasks like them, points", "FLOPs, ratio",
    ]  # fmt: skip
    precision = ", ".join(sorted(set(rows["precision"])))
    return f"""# A Table 1 of our own

T-Few and its rivals with SmolLM2-135M, on tasks that were named before any was scored
([data/table1.toml](data/table1.toml), frozen weights in {precision}); the rows are those of
[data/results/table1.csv](data/results/table1.csv). An interval holds draws of labels and texts.

## What is above what

{raw(table(of_pairs, pairs, "Differences, mean over tasks"))}

## Every way on every task

{raw(table(of_each, each, "Accuracy by task and way"))}
"""


def _accuracy(hits: Any) -> list[str]:
    found = stats.compare(hits[0] if len(hits) == 1 else hits, 0.0)
    ends = "–" if found.low is None else f"{found.low:.2f} to {found.high:.2f}"
    return [f"{found.difference:.2f}", ends, str(max(found.draws, 1)), str(found.texts)]


def slides(chapters: Sequence[str], notebooks: Mapping[str, Any]) -> str:
    """Where the slides of each chapter are."""
    links = "\n".join(
        f'<li><a href="slides/{name.rpartition("/")[2].removesuffix(".ipynb")}.slides.html">'
        f"{html.escape(_title(notebooks[name]))}</a></li>"
        for name in chapters
    )
    return f"""# Slides

A page a finding, made of the same notebooks. Arrow keys turn pages; `s` opens the speaker's notes.

{raw(f"<ul>{links}</ul>")}
"""


def listed(kind: str, notebooks: Mapping[str, Any]) -> str:
    """The list of the notebooks in `kind`, a key of LISTS."""
    own = [name.rpartition("/")[2] for name in notebooks if f"/{kind}/" in name]
    return f"# {kind.capitalize()}\n\n{LISTS[kind]}\n\n" + _tree("", own, ":maxdepth: 1")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """HTML of a table that a reader can search and sort; cells are text."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide"><table class="sortable"><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def raw(markup: str) -> str:
    """HTML for a page in Markdown."""
    return f"```{{raw}} html\n{markup}\n```"


def _tree(caption: str, names: Sequence[str], look: str = ":hidden:") -> str:
    lines = [look, *([f":caption: {caption}"] if caption else []), "", *names]
    return "\n".join(["```{toctree}", *lines, "```", ""])


def _title(notebook: Any) -> str:
    return str(notebook.cells[0].source.partition("\n")[0].lstrip("# "))


def _between(text: str, first: str, last: str | None) -> str:
    """From `first`, which is left out unless a heading or a block, up to `last` or the end."""
    at = text.find(first)
    end = len(text) if last is None else text.find(last, at + len(first))
    if at < 0 or end < 0:
        raise FrugalError(f"README.md: the site needs its part from {first!r} to {last!r}")
    keeps = first.startswith(("#", "`"))
    return text[at if keeps else at + len(first) : end].rstrip()
