"""tools/environment.py: what it says before it makes anything, and what it makes anew."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The module, in a folder of its own; its list `calls` has the commands that it ran."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT, module.calls = tmp_path, []
    monkeypatch.setattr(module, "cpu_wheels", lambda: "")
    monkeypatch.setattr(module, "uv_environment", dict)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setattr(module.shutil, "which", {"uv": "uv"}.get)

    def call(command, **_):
        module.calls.append(command)
        if "venv" in command:
            python = tmp_path / ".venv" / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.symlink_to(sys.executable)
        return module.failing in command

    module.failing = None
    monkeypatch.setattr(module.subprocess, "call", call)
    return module


def test_it_is_made_once_and_again_when_the_pins_change(made, capsys):
    made.main()
    creating, installing = made.calls
    assert creating[:2] == ["uv", "venv"]
    assert "--constraint" in installing
    assert installing[-2:] == [f"{made.ROOT}[dev]", "torch"]
    assert "in a minute" in capsys.readouterr().out
    made.main()
    assert (len(made.calls), capsys.readouterr().out) == (2, "")
    made.main("setup", "docs")
    assert made.calls[2][-2] == f"{made.ROOT}[dev,docs]"
    made.main()  # what was asked for once stays
    assert len(made.calls) == 3
    made.PINS += "more==1\n"
    made.main()
    assert made.calls[3][-2] == f"{made.ROOT}[dev,docs]"
    assert len(made.calls) == 4


@pytest.mark.parametrize("damage", ["gone", "fails", "old"])
def test_a_broken_or_old_folder_is_made_anew(made, damage, capsys):
    made.main()
    python = made.ROOT / ".venv" / "bin" / "python"
    if damage == "old":
        made.LEAST = (3, 99)
        with pytest.raises(SystemExit):  # so is the Python that runs this
            made.main()
        return
    python.unlink()
    if damage == "fails":
        python.write_text("#!/bin/sh\nexit 1\n")
        python.chmod(0o755)
    made.main()
    assert [command[1] for command in made.calls] == ["venv", "pip"] * 2
    assert "made anew" in capsys.readouterr().out


def test_where_uv_fails_or_is_not_there_pip_does_it(made, monkeypatch, capsys):
    made.failing = "--index-strategy"
    made.main()
    assert "uv could not" in capsys.readouterr().out
    assert made.calls[-1][1:4] == ["-m", "pip", "install"]
    assert json.loads((made.ROOT / ".venv" / "ready").read_text())["extras"] == ["dev"]
    monkeypatch.setattr(made.shutil, "which", lambda name: None)
    made.PINS = ""
    made.failing = "pip"
    with pytest.raises(SystemExit) as stopped:
        made.main()
    assert stopped.value.code == 2
    assert not (made.ROOT / ".venv" / "ready").exists()
    with pytest.raises(SystemExit):
        made.main("oldest")
    assert "only uv can" in capsys.readouterr().err


def test_bounds_are_tried_without_the_pins(made):
    for kind in ("oldest", "newest"):
        made.calls.clear()
        python = made.ROOT / f".venv-{kind}" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        made.main(kind)
        (command,) = made.calls
        assert "--constraint" not in command
        assert ("lowest-direct" in command) == (kind == "oldest")
        if sys.platform == "linux":  # without CPU wheels torch stays at what was tested
            assert command[-1] == "torch==2.13.0"


@pytest.mark.parametrize("bounds", [((3, 8), (3, 9)), ((3, 98), (3, 99))])
def test_another_python_is_refused_in_words(made, bounds, capsys):
    made.LEAST, made.ABOVE = bounds
    with pytest.raises(SystemExit) as stopped:
        made.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert f"3.{bounds[0][1]} to 3.{bounds[1][1] - 1}, and {sys.executable} is 3." in said
    assert not made.calls


def test_it_reads_on_pythons_that_are_too_old():
    import ast

    ast.parse((ROOT / "tools" / "environment.py").read_text(), feature_version=(3, 6))


def test_uv_looks_where_pip_is_told_to(tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://a/simple\nfind-links =\n  /x\n  /y\n")
    code = "import environment, json; print(json.dumps(environment.uv_environment()))"
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    settings |= {"PIP_CONFIG_FILE": str(config), "PYTHONPATH": str(ROOT / "tools")}
    told = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True
    )
    found = json.loads(told.stdout)
    assert found["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert found["UV_FIND_LINKS"] == "/x /y"
