"""Where text comes from: named tasks, their sources and templates, a user's own file.

from frugal import tasks
task = tasks.load("movie-reviews")        # or a .jsonl, .csv or .tsv file
shots, scored = task.draw(4, seed=0), task.test(200)
"""

from frugal.tasks.task import (
    SEEDS,
    Definition,
    Task,
    Use,
    content,
    defined,
    definitions,
    from_file,
    is_file,
    load,
    mixture,
    pair,
)
from frugal.tasks.templates import Example, Template

__all__ = [
    "SEEDS",
    "Definition",
    "Example",
    "Task",
    "Template",
    "Use",
    "content",
    "defined",
    "definitions",
    "from_file",
    "is_file",
    "load",
    "mixture",
    "pair",
]
