"""Shared: a small causal LM, and a guard that keeps plain tests off the network and the cache."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, at its import

import pytest

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
