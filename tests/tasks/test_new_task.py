"""A new task is an entry of `data/tasks/*.toml`, and nothing else."""

import json

import pytest
from datasets import Dataset

from frugal import data, tasks
from frugal.tasks import sources

ENTRY = """
[weather]
source = { hub = "somebody/weather", train = "train", test = "test" }
label = "sky"
labels = ["clear", "grey"]
shots = 4
recipe = { steps = 2 }
[[weather.templates]]
prompt = "{report}\\nToday is"
choices = [" sunny", " cloudy"]
[[weather.templates]]
prompt = "Take an umbrella? {report}\\nAnswer:"
choices = [" no", " yes"]
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The project's data with the entry in a file of its own, and a copy of what it names."""
    (tmp_path / "data/tasks").mkdir(parents=True)
    for path in [*data.ROOT.iterdir(), *(data.ROOT / "tasks").iterdir()]:
        if path.name != "tasks":
            (tmp_path / "data" / path.relative_to(data.ROOT)).symlink_to(path)
    (tmp_path / "data/tasks/weather.toml").write_text(ENTRY)
    for split in ("train", "test"):
        folder = sources.local() / "somebody/weather/default" / split
        folder.mkdir(parents=True)
        Dataset.from_list(
            [{"report": f"{split} {i}", "sky": ("grey", "clear")[i % 2]} for i in range(12)]
        ).to_parquet(folder / "0000.parquet")
    monkeypatch.setattr(data, "ROOT", tmp_path / "data")
    tasks.definitions.cache_clear()
    yield
    tasks.definitions.cache_clear()


def test_an_entry_makes_a_task_that_every_command_takes(added, frugal):
    task = tasks.load("weather")
    assert (task.drawable, task.test_size, task.shots, task.chance) == (12, 12, 4, 0.5)
    assert [(e.prompt, e.choices[e.label]) for e in task.test(2)] == [
        ("test 0\nToday is", " cloudy"),
        ("test 1\nToday is", " sunny"),
    ]
    assert task.test(1, template=1)[0].prompt == "Take an umbrella? test 0\nAnswer:"
    common = ["weather", "--backbone", "tiny-causal", "--shots", 4, "--limit", 6, "--json"]
    for command in ("rank", "tfew"):
        code, out, _ = frugal(command, *common)
        found = json.loads(out)
        assert code == 0
        assert (found["task"], found["examples"], found["shots"]) == ("weather", 6, 4)
    assert found["steps"] == 2  # the entry's recipe


def test_its_name_is_offered_where_another_is_mistyped(added, frugal):
    code, _, said = frugal("rank", "wether", "--backbone", "tiny-causal")
    assert code == 2
    assert "did you mean 'weather'" in said
