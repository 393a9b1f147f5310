"""Shared: the command line as a script calls it."""

import sys

import pytest

from frugal import cli


@pytest.fixture
def frugal(monkeypatch, capsys):
    """Run a command; exit status, stdout, stderr."""

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["frugal", *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call
