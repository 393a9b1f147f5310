"""An index password is in no message and in no file, whatever goes wrong and whoever words it."""

import contextlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from frugal.engine import artifacts, index
from frugal.errors import FrugalError

FILE = "pkg-1.0-py3-none-any.whl"


@pytest.fixture
def server():
    """Lists one file, and answers everything else with the status that its path starts with."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.headers.get("Authorization"))
            status = int(self.path.split("/")[1])
            body = b"no"
            if status == 200 and self.path.endswith("/pkg/"):
                body = f'<a href="/500/{FILE}#sha256=0">{FILE}</a>'.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.asked = asked
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


SECRETS = ["hunter2", "p%40ss%2Fword", "tok-en.42"]


@pytest.fixture(params=SECRETS, ids=["plain", "quoted", "token"])
def told(request, server, monkeypatch):
    """told(status): an Index whose address has a password; told.hidden(text): it is not there."""

    def of(status):
        host = f"127.0.0.1:{server.server_port}/{status}/simple"
        user = request.param if request.param.startswith("tok") else f"me:{request.param}"
        mine = {"index-url": f"http://{user}@{host}", "extra-index-url": f"http://{user}@{host}/b"}
        monkeypatch.setattr(index, "settings", lambda: mine)
        return contextlib.closing(index.Index())

    def hidden(text):
        for secret in (request.param, request.param.replace("%40", "@").replace("%2F", "/")):
            assert secret not in text

    of.hidden = hidden
    return of


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_an_index_that_refuses_is_named_without_its_password(told, server, status):
    with told(status) as source, pytest.raises(FrugalError, match="not found in") as error:
        source.find("pkg", "1.0", FILE)
    told.hidden(str(error.value))
    assert f"127.0.0.1:{server.server_port}" in str(error.value)
    assert any(server.asked)  # it was used


def test_a_download_that_breaks_off_has_no_password(told):
    with told(200) as source:
        url = source.find("pkg", "1.0", FILE)
        with pytest.raises(Exception, match="500") as error, source.stream(url, start=0):
            pass
    told.hidden(f"{error.value!s}{error.value!r}{error.value.args}")


def test_an_error_of_the_writer_stays_what_it_is(told):
    """The body of `with source.stream` may fail too, as on a full disk."""
    with told(200) as source:
        url = f"{source.urls[0]}/pkg/"
        with pytest.raises(OSError, match="full") as error, source.stream(url, start=0):
            raise OSError(28, "full")
    assert error.value.errno == 28


def test_nothing_is_stored(told, monkeypatch):
    monkeypatch.setattr(artifacts._RETRY, "stop", artifacts.stop_after_attempt(1))
    pin = artifacts.Artifact(
        project="pkg", version="1.0", file=FILE, sha256="0", bytes=9, members={"a": "0"},
        licence="", citation="",
    )  # fmt: skip
    monkeypatch.setattr(artifacts, "pinned", lambda: {"pkg": pin})
    with told(200), pytest.raises(FrugalError, match="broke off") as error:
        artifacts.get("pkg")
    told.hidden(str(error.value))
    for file in (p for p in artifacts.home().rglob("*") if p.is_file()):
        told.hidden(file.read_text(errors="replace") + os.fsdecode(file))


def test_a_setting_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setattr(index, "settings", lambda: {"timeout": "soon"})
    with pytest.raises(FrugalError, match="pip's setting timeout is 'soon'"):
        index.Index()
