"""The faults themselves: half of a write, a full disk that stays full, and a run after each."""

import errno
import io
import os
import signal
import sys
from pathlib import Path

import breaking
import faults
import jobs
import pytest
import safetensors.torch
import torch


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Files below a folder, with a fault under them until the test is over."""
    for module, name in (
        (io, "open"),
        (sys.modules["builtins"], "open"),
        (os, "fsync"),
        (os, "replace"),
        (os, "rename"),
        (safetensors.torch, "serialize_file"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))  # what `install` puts is undone
    (tmp_path / "in").mkdir()

    def put(kind, at):
        found = breaking.Breaking(kind, at, tmp_path / "in", None)
        breaking.install(found)
        return found, tmp_path / "in"

    return put


def test_a_full_disk_keeps_half_of_a_write_and_stays_full(broken, tmp_path):
    found, folder = broken("full", 2)
    (folder / "a").write_text("whole")
    with pytest.raises(OSError, match="No space left") as error:
        (folder / "b").write_bytes(b"12345678")
    assert error.value.errno == errno.ENOSPC
    assert (folder / "b").read_bytes()[:4] == b"1234"
    os.replace(folder / "a", folder / "c")  # needs no room
    with pytest.raises(OSError, match="No space left"):
        (folder / "d").write_text("x")
    (tmp_path / "outside").write_text("another disk")
    assert (folder / "c").read_text() == "whole"
    assert found.count == 5  # the second file is tried again when it is closed


def test_an_error_comes_once_and_a_rename_can_have_it(broken):
    found, folder = broken("error", 2)
    (folder / "a").write_text("x")
    with pytest.raises(OSError, match="Input/output error"):
        os.replace(folder / "a", folder / "b")
    os.replace(folder / "a", folder / "b")
    with (folder / "c").open("a+") as file:
        file.write("appended\n")
        file.flush()
        os.fsync(file.fileno())
    assert (folder / "c").read_text() == "appended\n"
    assert found.count == 5


def test_a_kill_comes_in_the_middle_of_a_write(broken, monkeypatch):
    _, folder = broken("kill", 1)
    seen = []
    monkeypatch.setattr(os, "kill", lambda *of: seen.append((of, (folder / "a").read_bytes())))
    (folder / "a").write_bytes(b"12345678")
    assert seen == [((os.getpid(), signal.SIGKILL), b"1234")]


def test_files_of_safetensors_are_cut_too(broken):
    _, folder = broken("full", 1)
    with pytest.raises(safetensors.SafetensorError, match="No space left"):
        safetensors.torch.save_file({"x": torch.ones(100)}, folder / "x.safetensors")
    with pytest.raises(safetensors.SafetensorError):
        safetensors.torch.load((folder / "x.safetensors").read_bytes())


def careless(urls):
    """Takes a file that is there for a finished one, and writes it in place."""
    file = Path("table.json")
    if not file.exists():
        with file.open("w") as out:
            for number in range(20):
                out.write(f"{number}\n")
                out.flush()


def careful(urls):
    """Writes beside, then renames; an error is one line and status 2."""
    try:
        with open("fresh.json", "w") as out:
            for number in range(20):
                out.write(f"{number}\n")
                out.flush()
        os.replace("fresh.json", "table.json")
    except OSError as error:
        print(f"frugal: {error}", file=sys.stderr)
        sys.exit(2)


def trials(work, place, kind):
    """What is found where `work` meets a fault at its touches 1 and 12."""
    job = jobs.Job("one", work, lambda folder: (folder / "table.json").read_text())
    whole = faults.undisturbed(job, place / "whole")
    assert whole[1].touches >= 20
    found = []
    for at in (1, 12):
        found += faults.trial(job, kind, place / f"{kind}-{at}", whole, at, 0.0)
    return found


def test_a_command_that_takes_half_a_file_for_done_is_found(tmp_path):
    assert any("another result" in text for text in trials(careless, tmp_path / "a", "kill"))
    assert any("traceback: " in text for text in trials(careless, tmp_path / "b", "full"))
    found = trials(careful, tmp_path / "c", "interrupt")
    assert any("interrupted, exit status 1" in text for text in found)


@pytest.mark.parametrize("kind", ["full", "error", "kill", "kill from outside"])
def test_a_command_that_renames_goes_on(tmp_path, kind):
    assert trials(careful, tmp_path / "a", kind) == []


def test_results_are_compared_without_what_was_measured():
    one = {"accuracy": 0.5, "seconds": 1.0, "runs": [{"score": 1, "host": "a"}]}
    assert jobs.same(one) == {"accuracy": 0.5, "runs": [{"score": 1}]}
    assert "runs.0.score" in faults.differs({"runs": [{"score": 1}]}, {"runs": [{"score": 2}]})
    assert {job.name for job in jobs.JOBS} >= {"tfew --save", "spaces search", "budgets label"}
