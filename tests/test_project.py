"""What a fresh machine installs: environment.yml, constraints and pyproject say the same."""

import re
from pathlib import Path
from typing import Literal

import pydantic
import pytest
import yaml

import frugal
from frugal import data

ROOT = Path(__file__).parents[1]
PROJECT = data.tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text()


def names(requirements):
    return {re.split(r"[\[<>=;~! ]", r)[0].lower().replace("_", "-") for r in requirements}


def test_environment_is_python_and_pip_from_conda_forge_and_the_rest_is_this_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert {re.split(r"[<>=]", d)[0] for d in conda} == {"python", "pip"}
    python = next(d for d in conda if d.startswith("python")).removeprefix("python")
    assert python.startswith(PROJECT["requires-python"])
    constraint, project = pip["pip"]
    assert constraint == "--constraint constraints.txt"
    extras = re.fullmatch(r"--editable \.\[(.+)\]", project).group(1).split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])


def test_every_requirement_is_pinned_where_it_was_tested():
    pinned = names(line for line in CONSTRAINTS.splitlines() if "==" in line)
    wanted = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["dev"])
    assert wanted - pinned <= {"tomli", "types-tqdm"}
    assert "torch==2.13.0" in CONSTRAINTS


def test_lower_bounds_hold_for_the_pins():
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", CONSTRAINTS.replace("_", "-"), re.MULTILINE))
    for requirement in PROJECT["dependencies"]:
        name, _, bound = requirement.partition(">=")
        least, _, above = bound.partition(",<")
        if name in pins and bound:
            least, pin = (tuple(map(int, v.split("."))) for v in (least, pins[name]))
            assert least <= pin, requirement
            assert not above or pin < tuple(map(int, above.split("."))), requirement


@pytest.mark.parametrize("preset", ["smoke", "laptop", "colab", "server"])
def test_presets_differ_in_values_alone(preset):
    table = data.toml("presets.toml")
    assert table[preset].keys() == table["laptop"].keys()
    for name in ("recipe", "latency", "capstone"):
        assert table[preset][name].keys() == table["laptop"][name].keys()
    for name, value in table["laptop"].items():
        assert type(table[preset][name]) is type(value), name


def test_calculators_and_figures_need_no_torch():
    import subprocess
    import sys

    rooms = (
        "frugal.costs, frugal.papers, frugal.cli, frugal_course.figures, frugal_course.explorers"
    )
    code = f"import {rooms}, sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_is_said_once_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert frugal.__version__ == PROJECT["version"] == citation["version"] == newest[1]


class Person(pydantic.BaseModel, extra="forbid"):
    family: str = pydantic.Field(alias="family-names")
    given: str = pydantic.Field(alias="given-names")


class Entity(pydantic.BaseModel, extra="forbid"):
    name: str


class Reference(pydantic.BaseModel, extra="forbid"):
    """What `CITATION.cff` says of a paper, as the Citation File Format 1.2.0 has it."""

    type: Literal["conference-paper"]
    title: str
    authors: list[Person]
    collection: str = pydantic.Field(alias="collection-title")
    year: int
    url: pydantic.HttpUrl


class Citation(pydantic.BaseModel, extra="forbid"):
    version_: Literal["1.2.0"] = pydantic.Field(alias="cff-version")
    message: str
    title: str
    type: Literal["software"]
    authors: list[Entity]
    version: str
    license: Literal["Apache-2.0"]
    abstract: str
    repository: pydantic.HttpUrl | None = pydantic.Field(None, alias="repository-code")
    url: pydantic.HttpUrl | None = None
    keywords: list[str]
    references: list[Reference] = pydantic.Field(min_length=3)


def test_the_citation_is_one():
    Citation.model_validate(yaml.safe_load((ROOT / "CITATION.cff").read_text()))


def test_the_hooks_run_the_linter_that_is_pinned():
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert f"ruff=={hooks['rev'].removeprefix('v')}\n" in CONSTRAINTS
    assert all("jupyter" in hook["types_or"] for hook in hooks["hooks"])


ONLY = {  # what marks the one place of an idea, and where it is
    r"l_ff ⊙ γ\(W_1 x\)$": "frugal/peft/ia3.py",
    r"/task\.json": "frugal/tasks/sources.py",
    r"np\.quantile|^Z = ": "frugal/stats.py",
    r"^class Store": "frugal/engine/runs.py",
    r"\.suptitle\(": "frugal_course/figures/style.py",
    r'rows\("prices\.csv"\)': "frugal/costs/prices.py",
    r"nn\.Linear\(encoder\.": "frugal/encoders/classifier.py",
    r"past_key_values|from transformers\.(?!utils import logging$)": "frugal/internals.py",
}


@pytest.mark.parametrize("mark", ONLY)
def test_an_idea_has_one_home(mark):
    files = (ROOT / "lib").rglob("*.py")
    found = [f for f in files if re.search(mark, f.read_text(encoding="utf-8"), re.MULTILINE)]
    assert [f.relative_to(ROOT / "lib").as_posix() for f in found] == [ONLY[mark]]


def test_the_readme_leads_to_places_that_are_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## For developers") : readme.index("## Citing")]
    table = re.findall(r"^\| .* \| \[(\S+)\]\((\S+)\) \|$", section, re.MULTILINE)
    assert len(table) == 7
    for name, path in table:
        assert name == path
        assert (ROOT / path).is_file()
    rooms = re.findall(r"^  ([a-z]+)/ ", section, re.MULTILINE)
    there = {p.name for p in (ROOT / "lib" / "frugal").iterdir() if (p / "__init__.py").exists()}
    assert there <= set(rooms)
    reading = section[section.index("Three ways") : section.index("CONTRIBUTING")]
    for path in re.findall(r"`([\w/]+\.py)`", reading):
        assert list((ROOT / "lib").rglob(path)), path
