"""Bad usage of the command line is one line on stderr and status 2, whoever notices it."""

import sys

import pytest

from frugal import cli


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Missing command"),
        (["no-such-command"], "No such command 'no-such-command'"),
        (["--no-such-option"], "No such option: --no-such-option"),
    ],
)
def test_usage_errors_are_one_line(argv, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["frugal", *argv])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("frugal: ")
    assert message in error
    assert error.count("\n") == 1
