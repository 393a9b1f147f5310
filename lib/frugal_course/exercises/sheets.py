"""The notebooks of the exercises: blanks for learners, and solutions with what is said of them."""

from pathlib import Path
from typing import Any

import nbformat

from frugal_course import exercises
from frugal_course.exercises.exercise import Exercise
from frugal_course.notebooks import prepare, reading

INTRODUCTION = """\
Write the body of each function, run its cell, and read what the check says: where an answer is
wrong, it says what is missing, never the answer. ●○○ is a matter of writing down, ●●● of thinking:
the last exercise is a run that you design, the one before it asks what a table bears. Most cases
are the papers' own numbers. The [solutions](../{other}/{file}) come from the same source as this
notebook, `frugal_course.exercises`."""
SOLVED = """\
One way to solve each of the [exercises](../{other}/{file}), from the same source, and what the
check says of it."""


def generate(folder: Path) -> list[Path]:
    """Write `exercises/` and `solutions/` of every chapter below `folder`; the files written."""
    written = []
    for kind in ("exercises", "solutions"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in exercises.CHAPTERS:
            path = folder / kind / _file(number)
            nbformat.write(notebook(number, solved=kind == "solutions"), path)
            written.append(path)
    return written


def notebook(number: int, *, solved: bool) -> Any:
    """The notebook (nbformat) of a chapter's exercises, or of their solutions."""
    v4, chapter = nbformat.v4, exercises.chapter(number)
    kind, other = ("solutions", "exercises")[:: 1 if solved else -1]
    found = exercises.of_chapter(number)
    minutes = sum(e.minutes for e in found)
    introduction = (SOLVED if solved else INTRODUCTION).format(other=other, file=_file(number))
    title = f"# {kind.capitalize()} {number} · {chapter.TITLE}"
    head = f"{title}\n\n{introduction}\n\n{len(found)} exercises, about {minutes} minutes."
    gap = "\n" if chapter.IMPORTS.splitlines()[-1].startswith("from frugal ") else "\n\n"
    imports = f"{chapter.IMPORTS}{gap}from frugal_course import exercises"
    cells = [
        v4.new_markdown_cell(f"{head}\n\n**한국어 요약.** {chapter.KOREAN}", id="title"),
        v4.new_code_cell(imports, id="setup"),
    ]
    for place, exercise in enumerate(found, start=1):
        heading = f"## {number}.{place} · {exercise.title}"
        effort = f"{exercise.stars} · {exercise.minutes} minutes"
        text = "\n\n".join([heading, effort, exercise.text])
        cells.append(v4.new_markdown_cell(text, id=f"text-{place}"))
        cells.append(_cell(exercise, place, solved))
    made = v4.new_notebook(cells=cells, metadata={"kernelspec": dict(reading.KERNEL)})
    if solved:
        for count, cell in enumerate((c for c in cells if c.cell_type == "code"), start=1):
            cell.execution_count = count
    where = prepare.publication()
    prepare.bootstrap(made, where)
    prepare.badge(made, where, f"notebooks/{kind}/{_file(number)}")
    return made


def _cell(exercise: Exercise, place: int, solved: bool) -> Any:
    """The code cell: the function, and its check; with what the check says where it is solved."""
    code = exercise.source() if solved else exercise.blank()
    source = f'{code}\n\n\nexercises.check("{exercise.name}", {exercise.name})'
    cell = nbformat.v4.new_code_cell(source, id=f"code-{place}")
    if solved:
        said = {"text/plain": repr(exercise.check(exercise.solution))}
        cell.outputs = [nbformat.v4.new_output("execute_result", said)]
        cell.metadata["tags"] = ["nbval-check-output"]
    return cell


def _file(number: int) -> str:
    return f"{number:02d}_{exercises.CHAPTERS[number].partition('_')[2]}.ipynb"
