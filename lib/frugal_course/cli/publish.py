"""`frugal notebooks`: notebooks made ready for Colab and for a talk, slides, exercises."""

from pathlib import Path
from typing import Annotated

import typer

from frugal.cli.options import Json
from frugal.cli.output import emit
from frugal.engine.files import staged

app = typer.Typer(help="Notebooks made ready for Colab and talks; slides; exercises.")
Files = Annotated[list[Path], typer.Argument(metavar="NOTEBOOK…")]


@app.command()
def prepare(files: Files, as_json: Json = False) -> None:
    """Put the first cell, badge and slide tags into notebooks, in place; outputs stay."""
    from frugal_course.notebooks import prepare as ready

    ready.prepare(files, ready.publication())
    emit({"prepared": [str(file) for file in files]}, as_json)


@app.command()
def badges(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME")],
    tag: Annotated[str, typer.Argument(help="What readers open and Colab installs.")],
    files: Files,
    readme: Annotated[Path, typer.Option(help="Where the badges go too.")] = Path("README.md"),
    citation: Annotated[Path, typer.Option(help="Where the repository is named.")] = Path(
        "CITATION.cff"
    ),
    as_json: Json = False,
) -> None:
    """Say where the companion is published: notebooks, README, citation, the package's page."""
    from frugal_course.notebooks import prepare as ready

    ready.publish(repo, tag, files, readme, citation)
    emit({"repo": repo, "tag": tag, "badges": len(files)}, as_json)


@app.command()
def front(
    notebook: Annotated[Path, typer.Argument(help="An executed notebook.")],
    heading: Annotated[str, typer.Argument(help="Words of the heading above the picture.")],
    picture: Annotated[Path, typer.Argument(help="PNG to write.")],
    readme: Annotated[Path, typer.Option(help="Where the picture and its sentence go.")] = Path(
        "README.md"
    ),
    mark: Annotated[str, typer.Option(help="Lines it goes between: <!-- MARK -->.")] = "figure",
    as_json: Json = False,
) -> None:
    """Take a picture out of a notebook, and put it on the front page with its sentence."""
    from frugal_course.notebooks import prepare as ready
    from frugal_course.notebooks import reading

    found = reading.read(notebook)
    png, sentence = ready.front(found, heading)
    with staged(picture) as fresh:
        fresh.write_bytes(png)
    text = " ".join(sentence.split())
    ready.mark(readme, mark, f"![{heading}]({picture})\n\n*{text}*\n")
    emit({"picture": str(picture), "sentence": text}, as_json)


@app.command()
def slides(
    files: Files,
    out: Annotated[Path, typer.Option(help="Folder of the slides.")] = Path("reports/slides"),
    korean: Annotated[bool, typer.Option("--korean", help="Korean titles and notes.")] = False,
    as_json: Json = False,
) -> None:
    """Slides of notebooks, which need no network: one HTML file each, reveal.js beside them."""
    from frugal_course.publish import slides as talk

    emit({"slides": [str(file) for file in talk.export(files, out, korean=korean)]}, as_json)


@app.command()
def contact(
    files: Files,
    out: Annotated[Path, typer.Option(help="HTML to write.")] = Path("reports/contact.html"),
    as_json: Json = False,
) -> None:
    """All figures of executed notebooks on one page, with their sentences."""
    from frugal_course.notebooks import reading
    from frugal_course.publish.contact import sheet

    page = sheet({file.name: reading.read(file) for file in files})
    out.parent.mkdir(parents=True, exist_ok=True)
    with staged(out) as fresh:
        fresh.write_text(page, encoding="utf-8")
    emit({"out": str(out), "figures": page.count("<figure>")}, as_json)


@app.command()
def exercises(
    folder: Annotated[Path, typer.Argument(help="The folder of the notebooks.")],
    as_json: Json = False,
) -> None:
    """Generate exercises/ and solutions/ in FOLDER from their source, `frugal_course.exercises`."""
    from frugal_course.exercises import sheets

    emit({"written": [str(file) for file in sheets.generate(folder)]}, as_json)


def site(
    root: Annotated[Path, typer.Argument(help="A checkout of Frugal.")] = Path("."),
    out: Annotated[Path, typer.Option(help="Folder to make anew.")] = Path("site"),
    as_json: Json = False,
) -> None:
    """The companion as static files that ask nothing of the network; it takes the extra docs."""
    from frugal_course.publish.site import build

    emit({"out": str(out), "pages": build(root, out)}, as_json)
