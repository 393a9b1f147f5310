"""Shared: a small causal LM, and a guard that keeps plain tests off the network and the cache."""

import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, at its import

import pytest

from frugal import cli
from frugal.engine import backbones


@pytest.fixture
def tiny():
    """A fresh tiny causal LM."""
    return backbones.load("tiny-causal", device="cpu")


@pytest.fixture(autouse=True)
def _own_cache(request, tmp_path, monkeypatch):
    """Tests write into a cache of their own; those marked `real` use the user's."""
    monkeypatch.delenv("FRUGAL_PRESET", raising=False)
    if not request.node.get_closest_marker("real"):
        monkeypatch.setenv("FRUGAL_HOME", str(tmp_path / "home"))


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
