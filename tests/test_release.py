"""The workflows, what the package index shows, and the environments that others make."""

import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def steps(workflow):
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda f: f.stem)
def test_a_workflow_has_the_least_permissions_and_runs_make_targets(workflow):
    found = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert found["permissions"] == {}
    for job in found["jobs"].values():
        assert job["permissions"]
        assert "contents: write" not in str(job)
    for step in steps(workflow):
        if "uses" in step:
            assert re.search(r"@(v\d+|release/v\d+|[0-9a-f]{40})$", step["uses"])
        for target in re.findall(r"^make (\w+)", step.get("run", ""), re.MULTILINE):
            assert (
                re.search(rf"^(\w+ )*{target}( \w+)*:", MAKEFILE, re.MULTILINE) or target == "site"
            )
        assert "${{" not in step.get("run", "")  # what others wrote is no part of a command


@pytest.fixture
def page(monkeypatch):
    plugin = types.ModuleType("hatchling.metadata.plugin.interface")
    plugin.MetadataHookInterface = object
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    spec = importlib.util.spec_from_file_location("index_page", ROOT / "tools" / "index_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("repo", "tag"), [("", ""), ("owner/name", "v1")])
def test_links_of_the_readme_hold_on_the_package_index(page, repo, tag):
    text = page.page((ROOT / "README.md").read_text(encoding="utf-8"), repo, tag)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert all(link.startswith(("https://", "#")) for link in links), links
    assert bool(repo) == (f"https://github.com/{repo}/blob/{tag}/notebooks/02_ia3.ipynb" in links)
    assert bool(repo) == bool(page.places(repo, tag))


def test_binder_and_the_dev_container_make_what_setup_makes():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert "make setup" in container["postCreateCommand"]
    assert "--constraint ../constraints.txt" in (ROOT / "binder" / "requirements.txt").read_text()
