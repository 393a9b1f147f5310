"""Several processes on one training, started as the README says, against one process."""

import json
import os
import socket
import subprocess
import sys

import pytest
import shared_work
import torch
from safetensors.torch import load_file

from frugal import data, tasks
from frugal.engine import backbones, processes
from frugal.fewshot import choices, evaluate


@pytest.mark.cluster
def test_two_processes_give_what_one_gives(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    shared_work.work(one)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    launch += ["--config_file", str(data.ROOT / "accelerate.yaml")]
    launch += ["--num_processes", "2", "--main_process_port", str(port)]
    command = [*launch, shared_work.__file__, str(two)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (alone, whole), *both = (
        json.loads(path.read_text()) for path in (one / "0.json", two / "0.json", two / "1.json")
    )
    assert alone == 1
    for count, seen in both:
        assert count == 2
        for size, found in seen.items():
            expected = whole[size]
            for exact in ("tokens", "accuracy", "examples", "one", "predictions"):
                assert found[exact] == expected[exact], exact
            for near in ("loss", "logp"):
                torch.testing.assert_close(
                    torch.tensor(found[near]), torch.tensor(expected[near]), atol=1e-5, rtol=1e-6
                )
    for size in (1, 5):
        reference = load_file(one / f"{size}-0.safetensors")
        assert max(float((v - 1).abs().max()) for v in reference.values()) > 1e-2
        for number in (0, 1):
            mine = load_file(two / f"{size}-{number}.safetensors")
            for name, vector in reference.items():
                torch.testing.assert_close(mine[name], vector, atol=1e-6, rtol=0)
        assert (two / f"run{size}" / "training.safetensors").is_file()


def test_alone_nothing_is_shared():
    processes.join()
    tensors = [torch.ones(3), torch.ones((), dtype=torch.float64)]
    processes.add_up(tensors)
    assert tensors[0].tolist() == [1.0, 1.0, 1.0]
    assert (processes.count(), processes.number()) == (1, 0)
    assert processes.part([1, 2, 3]) == [1, 2, 3]
    assert processes.gather("mine") == ["mine"]
    processes.leave()


def test_parts_are_consecutive_and_cover_everything(monkeypatch):
    items = list(range(7))
    monkeypatch.setattr(processes, "count", lambda: 3)
    parts = []
    for number in range(3):
        monkeypatch.setattr(processes, "number", lambda number=number: number)
        parts.append(processes.part(items))
    assert [item for part in parts for item in part] == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_scores_of_parts_join_to_the_scores_of_all():
    backbone, examples = backbones.load("tiny-causal"), tasks.load("counting").test(7)
    whole = choices.score(backbone, examples)
    found = evaluate.joined([choices.score(backbone, examples[a:b]) for a, b in ((0, 3), (3, 7))])
    torch.testing.assert_close(found.token_logp, whole.token_logp, atol=1e-5, rtol=0)
    for name in ("choice", "example", "correct"):
        assert torch.equal(getattr(found, name), getattr(whole, name)), name
    assert found.examples == 7
