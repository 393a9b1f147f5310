"""A store of runs, and a file in which they note that they were computed."""

import pytest

from frugal.engine.runs import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal"
    path.touch()
    return path
