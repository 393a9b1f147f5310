"""A bar is drawn where somebody looks, and nowhere else."""

import io
import sys
import time

import pytest
from jupyter_client.manager import start_new_kernel

from frugal.engine import stderr

WORK = """
import time
from frugal.engine import stderr
for _ in stderr.each(range(3), "runs"):
    time.sleep(0.6)
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def seen(monkeypatch):
    """Puts a stream in the place of stderr."""

    def put(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return put


def test_a_terminal_sees_how_far_the_work_is_and_then_nothing_of_it(seen):
    terminal = seen(Terminal())
    with stderr.bar(4, "steps", stage="S1") as shown:
        shown(2)
        time.sleep(1.1)  # what is done at once needs no bar
        shown(3)
    text = terminal.getvalue()
    assert "S1" in text
    assert "3/4" in text
    assert text.rstrip("\r").endswith(" ")  # it is wiped away


def test_within_work_that_has_a_bar_there_is_no_other(seen):
    terminal = seen(Terminal())
    for _ in stderr.each(range(2), "runs"):
        with stderr.bar(7, "steps") as shown:
            time.sleep(1.1)
            shown(5)
    assert "runs" in terminal.getvalue()
    assert "steps" not in terminal.getvalue()
    assert stderr._shown.get() is False


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_log_sees_nothing(seen, stream):
    seen(stream)
    assert list(stderr.each(range(3), "runs")) == [0, 1, 2]
    assert stream is None or stream.getvalue() == ""


def test_of_several_processes_none_but_the_first_draws(seen, monkeypatch):
    terminal = seen(Terminal())
    monkeypatch.setattr("frugal.engine.processes.number", lambda: 1)
    for _ in stderr.each(range(2), "runs"):
        time.sleep(0.6)
    assert terminal.getvalue() == ""


def test_a_person_in_a_notebook_sees_it_and_papermill_and_nbconvert_do_not():
    manager, client = start_new_kernel()
    try:
        for person in (True, False):  # who executes a notebook says that nobody can be asked
            printed = []
            client.execute_interactive(
                WORK, allow_stdin=person, timeout=60, output_hook=printed.append
            )
            text = "".join(m["content"].get("text", "") for m in printed)
            assert ("runs" in text) == person, text
            assert person or not any(m["msg_type"] == "stream" for m in printed)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
