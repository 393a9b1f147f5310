"""Where errors end: one line on stderr, whoever notices, and the status that says whose it is."""

import errno
import io
import json
import os
import subprocess
import sys

import pytest
import typer

import frugal as package
from frugal import cli
from frugal.cli import output
from frugal.errors import FrugalError, without_passwords

QUERY = ["costs", "query", "--arch", "t0-3b", "--json"]


@pytest.fixture
def failing(monkeypatch, frugal):
    """Run a command that raises the given error."""

    def call(error, *argv):
        def fails():
            raise error

        app = typer.Typer(add_completion=False)
        app.callback()(cli._root)
        app.command("fail")(fails)
        command = typer.main.get_command(app)
        monkeypatch.setattr(cli, "_command", lambda: command)
        return frugal("fail", *argv)

    return call


def shell(line, **environment):
    """The command as a process of its own, started by a shell."""
    return subprocess.run(
        line.replace("frugal", f"{sys.executable} -m frugal", 1),
        shell=True,
        capture_output=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["no-such-command"], "No such command 'no-such-command'"),
        (["--no-such-option"], "--no-such-option"),
        (["papers", "table", "caf\udce9"], r"the argument 'caf\udce9' is not UTF-8 text"),
        (["papers", "table", "a\0b"], r"the argument 'a\x00b' has a NUL in it"),
        (["papers", "table", "\x1b[31m"], r"\x1b[31m"),
        (["papers", "table", "x\ny"], "unknown"),
        (["tfew", "counting", "--templates", "al"], "'al'; did you mean 'all'"),
    ],
)
def test_usage_errors_are_one_line(frugal, argv, message):
    status, out, err = frugal(*argv)
    assert (status, out) == (2, "")
    assert err.startswith("frugal: ")
    assert message in err
    assert err.count("\n") == 1
    assert err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (FrugalError("two\nlines"), 2, "two lines"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"),
            2,
            "a.txt: No such",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"b"), 2, "b: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device"),
        (OSError(errno.EXDEV, "Cross-device link", "a", None, "b"), 2, "a -> b: Cross-device"),
        (OSError("some library's"), 2, "some library's"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "its reader went away"),
        (OverflowError("int too large"), 2, "a number is too large: int too large"),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "out of memory"),
        (RecursionError("maximum"), 2, "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), 2, "not UTF-8"),
        (typer.BadParameter("not that"), 2, "not that"),
        (typer.Abort(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyError("x"), 1, "a bug of ours: KeyError: 'x' (frugal/cli/__init__.py:"),
        (RuntimeError("no"), 1, "a bug of ours: RuntimeError: no"),
        (AssertionError(), 1, "a bug of ours: AssertionError"),
    ],
)
def test_every_error_ends_in_one_line(failing, error, status, message):
    found, out, err = failing(error)
    assert (found, out) == (status, "")
    assert err.startswith("frugal: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_bug_says_where_it_is_and_how_to_report_it(frugal, monkeypatch):
    monkeypatch.setattr("frugal.papers.audit.run", lambda paper: {}["x"])
    status, out, err = frugal("papers", "audit")
    assert (status, out) == (1, "")
    assert "KeyError: 'x' (frugal/cli/papers.py:" in err
    assert "report it" in err
    assert "--debug" in err


@pytest.mark.parametrize("at", [0, 2])
def test_debug_shows_the_traceback_without_passwords(frugal, monkeypatch, at):
    def fails(paper):
        raise FrugalError("https://me:secret@host/simple does not answer")

    monkeypatch.setattr("frugal.papers.audit.run", fails)
    argv = ["papers", "audit"]
    status, out, err = frugal(*argv)
    assert (status, out, err) == (2, "", "frugal: https://***@host/simple does not answer\n")
    argv.insert(at, "--debug")
    status, out, err = frugal(*argv)
    assert (status, out) == (2, "")
    assert "Traceback" in err
    assert "secret" not in err
    assert err.splitlines()[-1].startswith("frugal: ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://u:p@h/x and http://token@h", "see https://***@h/x and http://***@h"),
        ("https://h/a@b", "https://h/a@b"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_addresses_lose_who_they_belong_to(text, shown):
    assert without_passwords(text) == shown


def test_help_and_version_are_no_errors(frugal):
    assert frugal("--version") == (0, f"frugal {package.__version__}\n", "")
    status, out, err = frugal("costs", "--help")
    assert (status, err) == (0, "")
    assert "FLOPs" in out
    status, out, err = frugal()
    assert (status, err) == (0, "")
    assert "Usage: frugal" in out
    status, out, err = frugal("run", "--help")
    assert "-p" in out
    assert "NAME VALUE" in out


@pytest.mark.parametrize("command", ["rank", "tfew"])
def test_a_file_that_is_not_there_is_noticed_before_anything_heavy(command):
    code = (
        "import sys; from frugal.cli import main; sys.argv = ['frugal', *sys.argv[1:]]\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules, 'torch was imported first'"
    )
    argv = [sys.executable, "-c", code, command, "tickts.jsonl", "--backbone", "tiny-causal"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "tickts.jsonl" in done.stderr


def test_a_home_folder_that_the_shell_left_is_found(frugal, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "store").mkdir()
    status, _, err = frugal("spaces", "status", "--store=~/store")
    assert status == 2
    assert str(tmp_path / "store") in err


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_named_before_anything_is_printed(capsys, value):
    for as_json in (True, False):
        with pytest.raises(FrugalError, match=r"runs\[1\].loss is (nan|inf), which is no result"):
            output.emit({"a": 1, "runs": [{"loss": 1.0}, {"loss": value}]}, as_json)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_letter_can_be_printed(monkeypatch, encoding):
    """A terminal of few letters; a JSON object keeps its text all the same."""
    for as_json in (True, False):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", stream)
        output.emit({"text": "연구 × \udce9"}, as_json)
        if as_json:
            assert json.loads(raw.getvalue()) == {"text": "연구 × \udce9"}
        else:
            assert raw.getvalue().startswith(b"text: ")


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes the streams")
def test_closed_streams_and_a_terminal_of_few_letters():
    """What only real processes show."""
    korean = shell("frugal claims 연구", PYTHONIOENCODING="ascii", LC_ALL="C", HOME="")
    assert korean.returncode == 2
    assert korean.stderr == b"frugal: \\uc5f0\\uad6c: no executed notebook here\n"
    closed = shell(f"frugal {' '.join(QUERY)} >&-")
    assert (closed.returncode, closed.stderr.count(b"\n")) == (2, 1)
    assert b"stdout is closed" in closed.stderr
    silent = shell("frugal papers table x 2>&-")
    assert (silent.returncode, silent.stdout) == (2, b"")  # not turned to stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is played by /dev/full")
def test_a_result_that_cannot_be_printed_is_kept(tmp_path):
    done = shell(f"frugal {' '.join(QUERY)} > /dev/full", TMPDIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    (kept,) = tmp_path.glob("frugal-kept-*/result.txt")
    assert str(kept) in done.stderr.decode()
    assert json.loads(kept.read_text())["flops"] > 0


def test_a_reader_that_went_away_is_one_line(monkeypatch):
    class Gone(io.StringIO):
        def flush(self):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(FrugalError, match="its reader went away"):
        output.show("x")


@pytest.mark.skipif(os.name != "posix", reason="no other system lets a folder in use go")
def test_a_folder_that_is_gone(frugal, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for argv in (["claims"], ["run", "x.ipynb"], ["spaces", "status"], ["rank", "x.jsonl"]):
        status, out, err = frugal(*argv)
        assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_shell_completes_commands_and_options():
    words = {"COMP_WORDS": "frugal pap", "COMP_CWORD": "1", "_FRUGAL_COMPLETE": "complete_bash"}
    done = shell("frugal", **words)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"papers\n", b"")
