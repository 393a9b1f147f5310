"""Shared: a small causal LM, and a guard that keeps plain tests off the network and the cache."""

import contextlib
import gc
import itertools
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, at its import

import pytest

from frugal.engine import backbones

with contextlib.suppress(ModuleNotFoundError):  # it needs more than most tests do
    from frugal import cli  # noqa: F401

sys.modules["rfc3987_syntax"] = None  # jsonschema does without; its import takes seconds
gc.disable()  # while a million objects are imported


def pytest_collection_finish():
    """What is imported stays, and need not be looked at each time that something is let go."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def tiny():
    """A fresh tiny causal LM."""
    return backbones.load("tiny-causal", device="cpu")


@pytest.fixture(scope="session")
def _homes(tmp_path_factory):
    """Places for caches, one after the other; none is there before something is written into it."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_cache(request, _homes, monkeypatch):
    """Tests write into a cache of their own; those marked `real` use the user's.

    No test survives the loss of power, so that nothing waits for the disk.
    """
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.delenv("FRUGAL_PRESET", raising=False)
    if not request.node.get_closest_marker("real"):
        monkeypatch.setenv("FRUGAL_HOME", str(next(_homes)))


@pytest.fixture
def frugal(monkeypatch, capsys):
    """Run a command; exit status, stdout, stderr."""

    from frugal import cli

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["frugal", *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return call
