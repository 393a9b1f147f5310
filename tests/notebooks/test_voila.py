"""`make dashboard` answers this machine alone, not a page whose name was made to lead to it."""

import contextlib
import http.client
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def command():
    """What `make dashboard` runs, without installing anything."""
    lines = (ROOT / "Makefile").read_text().split("dashboard: setup\n")[1].replace("\\\n", "")
    program, *arguments = shlex.split(lines.splitlines()[0])
    assert program == "$(BIN)/voila"
    return [sys.executable, "-m", "voila", *arguments]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    number = free_port()
    arguments = [f"--port={number}" if a.startswith("--port=") else a for a in command()]
    log = tmp_path_factory.mktemp("voila") / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            [*arguments, "--no-browser"], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(240):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", number), timeout=5).close()
                    break
                assert server.poll() is None, log.read_text()
                time.sleep(0.25)
            yield number
        finally:
            server.terminate()
            server.wait()


def answer(port, host, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status


KERNEL = "/api/kernels/00000000-0000-0000-0000-000000000000"


@pytest.mark.cluster
@pytest.mark.parametrize("path", ["/", KERNEL, f"{KERNEL}/channels"])
def test_another_name_is_refused(port, path):
    assert answer(port, "evil.example", path) == 403
    assert answer(port, f"evil.example:{port}", path) == 403


@pytest.mark.cluster
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machines_names_are_let_in(port, host):
    assert answer(port, f"{host}:{port}", KERNEL) == 404  # asked, and there is none


def test_it_listens_on_this_machine_alone():
    assert "--Voila.ip=127.0.0.1" in command()
