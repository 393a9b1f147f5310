"""The course's commands, which `frugal` finds through the entry-point group `frugal.commands`."""

import typer

from frugal_course.cli import publish, run


def register(app: typer.Typer) -> None:
    """Add them to the app."""
    app.add_typer(publish.app, name="notebooks")
    app.command("run", cls=run.WithParameters)(run.run)
    app.command("walk")(run.walk)
    app.command("claims")(run.claims)
    app.command("site")(publish.site)
