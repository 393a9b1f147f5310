"""What a command was asked to write: refused before the work, kept after it, never half there."""

import errno
import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from frugal.cli.output import Outputs, emit
from frugal.engine import backbones, files, outputs
from frugal.errors import FrugalError

LINES = [
    {"prompt": f"{word} {i}:", "choices": [" a", " b"], "label": i % 2}
    for i, word in enumerate(["one", "two", "three"] * 3)
]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


@pytest.fixture
def no_work(monkeypatch):
    """The work itself fails the test."""

    def starts(*_, **__):
        raise AssertionError("the work started")

    monkeypatch.setattr(backbones, "load", starts)


RANK = ("rank", "--backbone", "tiny-causal")
TFEW = ("tfew", "--backbone", "tiny-causal", "--steps", 2, "--shots", 4)


@pytest.mark.parametrize(
    ("command", "option", "where", "message"),
    [
        (RANK, "--scores", "folder", "is a folder; a file is needed"),
        (RANK, "--scores", "no/x", "--scores: there is no folder"),
        (RANK, "--scores", "file/x", "--scores: there is no folder"),
        (RANK, "--scores", "x" * 256, "name too long"),
        (RANK, "--scores", "연" * 86, "name too long"),
        (RANK, "--scores", "x/" * 5000, "name too long"),
        (RANK, "--scores", "own.jsonl", "would overwrite"),
        (RANK, "--scores", "link", "would overwrite"),
        (RANK, "--scores", "/proc/x", "--scores: /proc/x cannot be written"),
        (TFEW, "--save", "file", "is a file; a folder is needed"),
        (TFEW, "--save", "file/a/b", "--save: there is no folder"),
        (TFEW, "--save", "a/" + "x" * 256, "name too long"),
        (TFEW, "--save", "/proc/a/b", "--save: /proc/a/b cannot be written"),
        (TFEW, "--predictions", "folder", "is a folder; a file is needed"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    frugal, own, tmp_path, monkeypatch, no_work, command, option, where, message
):
    if where.startswith("/proc") and not Path("/proc").is_dir():
        pytest.skip("no /proc here, where nobody can write")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(own)
    before = own.read_bytes()
    name, *more = command
    status, out, err = frugal(name, own, *more, option, where)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err.replace("File name", "name")
    assert own.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder", "link", "own.jsonl"]


def test_a_model_or_an_adapter_is_not_overwritten(frugal, own, tmp_path, no_work):
    """Neither by a file that takes the place of a part of it, nor by an adapter saved into it."""
    folder = tmp_path / "model"
    folder.mkdir()
    parts = [folder / name for name in ("config.json", "model.safetensors")]
    for part in parts:
        part.write_text("kept")
    for argv in (
        ("rank", own, "--backbone", folder, "--scores", parts[1]),
        ("rank", own, "--backbone", "tiny-causal", "--adapter", folder, "--scores", parts[1]),
        ("tfew", own, "--backbone", folder, "--scores", parts[1]),
        ("tfew", own, "--backbone", folder, "--save", folder),
        ("vectors", own, "--backbone", folder, "--save", folder),
    ):
        status, out, err = frugal(*argv)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"would overwrite part of {folder}" in err
    for name in ("config.json", "adapter_config.json", "frugal_adapter.json"):
        other = tmp_path / name.partition(".")[0]
        other.mkdir()
        (other / name).write_text("kept")
        for argv in (("tfew", own), ("vectors", own)):
            status, out, err = frugal(*argv, "--backbone", "tiny-causal", "--save", other)
            assert (status, out) == (2, "")
            assert f"--save: {other} holds another's {name}" in err
        assert [p.name for p in other.iterdir()] == [name]
    assert [p.read_text() for p in parts] == ["kept", "kept"]


def test_a_full_or_read_only_folder_is_refused_before_the_work(own, tmp_path, monkeypatch):
    def full(*_, **__):
        raise FULL

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    for named, folders in (({"--out": tmp_path / "x"}, {}), ({}, {"--out": tmp_path / "a" / "b"})):
        with pytest.raises(FrugalError, match=r"--out: .* cannot be written: No space left"):
            Outputs(named, folders)


def test_two_options_for_one_file_are_refused(tmp_path):
    with pytest.raises(FrugalError, match=r"--b: .*/x would overwrite what --a writes"):
        Outputs({"--a": tmp_path / "x", "--b": tmp_path / "." / "x"})


@pytest.mark.parametrize("fault", [FULL, PermissionError(errno.EROFS, "Read-only file system")])
def test_scores_that_cannot_be_written_after_the_work_are_kept(
    frugal, own, tmp_path, monkeypatch, fault
):
    """The place fails while the work is done; the result is printed, and the scores are named."""
    scores = tmp_path / "out" / "scores.jsonl"
    scores.parent.mkdir()
    whole = tmp_path / "whole.jsonl"
    assert frugal(RANK[0], own, *RANK[1:], "--scores", whole)[0] == 0

    def fails(path):
        raise fault

    monkeypatch.setattr(outputs, "staged", fails)
    status, out, err = frugal(RANK[0], own, *RANK[1:], "--scores", scores, "--json")
    assert status == 2
    assert json.loads(out)["examples"] == len(LINES)
    assert err.count("\n") == 1
    assert fault.strerror in err
    (kept,) = scores.parent.glob("frugal-kept-*/scores.jsonl")
    assert str(kept) in err
    assert kept.read_text() == whole.read_text()
    assert not scores.exists()


def test_an_adapter_that_cannot_be_saved_is_kept(frugal, own, tmp_path, monkeypatch):
    real = outputs.staged

    def fails(path):
        if path.name == "adapter":
            raise FULL
        return real(path)

    monkeypatch.setattr(outputs, "staged", fails)
    argv = (TFEW[0], own, *TFEW[1:], "--save", tmp_path / "adapter", "--json")
    status, out, err = frugal(*argv)
    assert status == 2
    result = json.loads(out)
    assert result["adapter"] in err
    assert result["adapter"] != str(tmp_path / "adapter")
    again = frugal(RANK[0], own, *RANK[1:], "--adapter", result["adapter"], "--json")
    assert again[0] == 0
    assert json.loads(again[1])["method"] == "ia3"


def test_what_fits_nowhere_is_said_and_the_result_is_printed(tmp_path, capsys):
    asked = Outputs({"--out": tmp_path / "x.txt"})

    def save(path):
        raise FULL

    assert asked.write("--out", save) is None
    with pytest.raises(
        FrugalError, match=r"--out: .*x\.txt cannot be written: No space left.*lost"
    ):
        emit({"a": 1}, True, asked)
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    assert list(tmp_path.iterdir()) == []


def test_a_bug_while_writing_is_no_full_disk(tmp_path):
    def save(path):
        raise KeyError("x")

    with pytest.raises(KeyError):
        Outputs({"--out": tmp_path / "x"}).write("--out", save)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("old")
    file.chmod(0o640)

    def breaks(path):
        path.write_text("ne")
        raise FULL

    with pytest.raises(OSError, match="No space"), files.staged(file) as fresh:
        breaks(fresh)
    assert file.read_text() == "old"
    files.write(file, "new")
    assert file.read_text() == "new\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_links_and_pipes_stay_what_they_are(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    link.symlink_to(real)
    outputs.look("--out", link)
    files.write(link, "x")
    assert link.is_symlink()
    assert real.read_text() == "x\n"
    if hasattr(os, "mkfifo"):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        assert outputs.special(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        outputs.look("--out", pipe)
        files.write(pipe, "y")
        assert os.read(reader, 10) == b"y\n"
        os.close(reader)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
    files.write(Path(os.devnull), "z")
    assert not Path(os.devnull).is_file()


def test_a_long_name_is_kept_under_a_shorter_one(tmp_path):
    kept = outputs.elsewhere("연" * 85, lambda path: path.write_text("x"), tmp_path)
    assert kept is not None
    assert kept.read_text() == "x"
    assert kept.parent.parent == tmp_path


@pytest.mark.parametrize("stream", [1, 2])
def test_where_the_command_prints_is_no_place_for_a_file(tmp_path, monkeypatch, stream):
    """`--scores out.json > out.json`, or /dev/stdout: each would overwrite the other."""
    file = tmp_path / "out.json"
    kept = os.dup(stream)
    with file.open("w") as out:
        os.dup2(out.fileno(), stream)
        try:
            with pytest.raises(FrugalError, match="is where this command prints"):
                Outputs({"--scores": file})
        finally:
            os.dup2(kept, stream)
            os.close(kept)
    Outputs({"--scores": file})
    Outputs({"--scores": Path(os.devnull)})
