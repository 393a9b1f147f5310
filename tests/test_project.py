"""What a fresh machine installs: environment.yml, constraints and pyproject say the same."""

import re
from pathlib import Path

import pytest
import yaml

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
