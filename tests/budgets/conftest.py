"""Examples to label, and a server that answers in every way that a test asks for."""

import chat_server
import pytest

from frugal import tasks
from frugal.budgets.endpoint import Endpoint
from frugal.budgets.replies import KEY


@pytest.fixture
def examples():
    return tasks.load("counting").draw(20, 0)


@pytest.fixture
def endpoint(monkeypatch):
    """Start a server with faults and lies; the source that asks it, and its meter."""
    monkeypatch.setenv(KEY, chat_server.KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    open_servers = []

    def start(faults=(), lies=(), **options):
        context = chat_server.serving(faults, **dict(lies))
        url, meter = context.__enter__()
        open_servers.append(context)
        return Endpoint("tiny", base_url=url, **{**chat_server.PRICE, **options}), meter

    yield start
    for context in open_servers:
        context.__exit__(None, None, None)
