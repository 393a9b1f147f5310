"""Servers and a browser for the tests of what moves: Debian's Chromium, driven by Playwright."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SHOTS = Path(__file__).parents[2] / "reports" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                reason = "no Chromium here; Debian: apt-get install chromium fonts-dejavu-core"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # a busy machine draws slowly
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(chromium):
    """One page for a module's tests; whatever is thrown in it fails them."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    yield page
    page.close()
    assert not thrown


@pytest.fixture
def shot(page):
    """shot(name) keeps what the page shows, to be looked at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return lambda name: page.screenshot(path=SHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """serve(module, *arguments, **environment): starts a Jupyter server that ends with the module's
    tests, and returns its address once it answers."""
    with contextlib.ExitStack() as running:

        def start(*arguments, **environment):
            folder = tmp_path_factory.mktemp("server")
            port = free_port()
            log = running.enter_context((folder / "log.txt").open("w+"))
            kinds = ("JUPYTER_CONFIG", "JUPYTERLAB_SETTINGS", "JUPYTERLAB_WORKSPACES")
            own = {f"{kind}_DIR": str(folder / kind) for kind in kinds}
            server = subprocess.Popen(
                [sys.executable, "-m", *arguments, "--no-browser", f"--port={port}"],
                env=os.environ | own | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            running.callback(server.wait)
            running.callback(server.terminate)
            for _ in range(240):
                if server.poll() is not None:
                    break
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", port), timeout=5),
                ):
                    return f"http://127.0.0.1:{port}"
                time.sleep(0.25)
            log.seek(0)
            raise AssertionError(f"{arguments} does not answer: {log.read()}")

        yield start


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
