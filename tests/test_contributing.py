"""CONTRIBUTING.md, followed to the letter in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECTIONS = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]
BLOCK = re.compile(r"^```(\w+) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What the last command of each section prints, in part.
PRINTED = {
    "A method": "ia3-ff",
    "A task": "letters",
    "A backbone": "tiny-gpt2",
    "A figure": "Figure(",
    "An exercise": "✓",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy with all of the examples in it, and a `frugal` and a `python` that run it."""
    place = tmp_path_factory.mktemp("tree")
    for name in ("lib", "data", "notebooks"):
        shutil.copytree(ROOT / name, place / name)
    shutil.copy(ROOT / "pyproject.toml", place)
    (place / "bin").mkdir()
    for name, arguments in (("frugal", "-m frugal "), ("python", "")):
        script = place / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        script.chmod(0o755)
    for section in SECTIONS:
        for kind, path, body in BLOCK.findall(section):
            if kind == "diff":
                edit(place / path, body)
            elif path:
                assert not (place / path).exists()
                (place / path).write_text(body)
    return place


def edit(file, diff):
    text = file.read_text()
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", diff, re.MULTILINE):
        was, now = (re.sub(r"^.", "", lines, flags=re.MULTILINE) for lines in (old, new))
        assert text.count(was) == 1, f"{file}: {was}"
        text = text.replace(was, now)
    file.write_text(text)


def test_every_kind_has_an_example():
    assert len(SECTIONS) == len(PRINTED)


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.splitlines()[0])
def test_an_example_works_as_it_is_printed(tree, section):
    blocks = BLOCK.findall(section)
    assert sum(body.count("\n") for *_, body in blocks) <= 30
    (commands,) = [body for kind, _, body in blocks if kind == "sh"]
    path = f"{tree / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(tree / "lib"), "PATH": path}
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=tree, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (printed,) = [text for title, text in PRINTED.items() if section.startswith(title)]
    assert printed in done.stdout


@pytest.mark.slow
def test_the_examples_pass_the_linter(tree):
    command = [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", "lib"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
