"""The package index that pip is configured for: where a file is, and its bytes."""

import ast
import contextlib
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from unearth import PackageFinder
from unearth.fetchers import PyPIClient
from unearth.link import Link

from frugal.errors import FrugalError, without_passwords

_DEFAULT = "https://pypi.org/simple/"


def settings() -> dict[str, str]:
    """pip's own settings, as `pip config list` merges them: files first, then PIP_* variables."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    ranked: list[tuple[int, str, str]] = []
    for line in listed.splitlines():
        scope, _, rest = line.partition(".")
        key, found, value = rest.partition("=")
        if found and scope in ("global", "download", "install"):
            with contextlib.suppress(ValueError, SyntaxError):
                ranked.append((0 if scope == "global" else 1, key, str(ast.literal_eval(value))))
    merged = {key: value for _, key, value in sorted(ranked)}
    for name, value in os.environ.items():
        if name.startswith("PIP_"):
            merged[name[4:].lower().replace("_", "-")] = value
    return merged


def _trust(authorities: str | None, client: str | None) -> ssl.SSLContext:
    """Whom to believe, pip's `cert` (a file or a folder), and who we are, its `client-cert`."""
    setting, path = "cert", authorities
    try:
        folder = authorities is not None and os.path.isdir(authorities)
        trust = ssl.create_default_context(
            cafile=None if folder else authorities, capath=authorities if folder else None
        )
        setting, path = "client-cert", client
        if client is not None:
            trust.load_cert_chain(client)
    except OSError as error:  # ssl.SSLError is one
        raise FrugalError(f"pip's setting {setting} names {path}: {error}") from error
    return trust


def _secrets(addresses: Iterable[str]) -> list[str]:
    """What no message may hold of the addresses: passwords, and names that are tokens."""
    found: set[str] = set()
    for address in addresses:
        user, _, host = urlsplit(address).netloc.rpartition("@")
        if host and user:
            name, _, password = user.partition(":")
            found |= {secret for raw in {password or name} for secret in (raw, unquote(raw))}
    return sorted(found, key=len, reverse=True)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise FrugalError(f"pip's setting timeout is {text!r}, which is no number") from error


class Index:
    """The indexes and folders that pip would look into, in one.

    Their passwords are in no error that it raises.
    """

    def __init__(self) -> None:
        mine = settings()

        def listed(key: str) -> list[str]:
            return mine.get(key, "").split()

        off = mine.get("no-index", "").lower() in ("1", "true", "yes", "on")
        self.urls = [] if off else [mine.get("index-url", _DEFAULT), *listed("extra-index-url")]
        self.folders = listed("find-links")
        options: dict[str, Any] = {"trusted_hosts": listed("trusted-host")}
        if "cert" in mine or "client-cert" in mine:
            options["verify"] = _trust(mine.get("cert"), mine.get("client-cert"))
        if "proxy" in mine:
            options["proxy"] = mine["proxy"]
        self.secrets = _secrets([*self.urls, *self.folders, mine.get("proxy", "")])
        self.client = PyPIClient(
            timeout=_seconds(mine.get("default-timeout", mine.get("timeout", "15"))),
            follow_redirects=True,
            **options,
        )
        # It adds PyPI where it is given nothing, so a --no-index without folders finds nothing.
        self.finder = PackageFinder(
            session=self.client,
            index_urls=self.urls,
            find_links=self.folders,
            trusted_hosts=options["trusted_hosts"],
            ignore_compatibility=True,
        )
        if not self.urls and not self.folders:
            self.finder.sources.clear()

    def find(self, project: str, version: str, file: str) -> str:
        """The address of `file`. Raises FrugalError where no index has it, or none answers."""
        with _warnings() as heard:
            try:
                matches = self.finder.find_matches(
                    f"{project}=={version}", allow_yanked=True, allow_prereleases=True
                )
                for package in matches:
                    if package.link.filename == file:
                        return str(package.link.url_without_fragment)
                reason = "; ".join(heard) or "none of them has it"
            except Exception as error:  # the client's errors share no class across its versions
                reason = f"{type(error).__name__}: {error}"
        places = ", ".join(Link(place).redacted for place in [*self.urls, *self.folders])
        places = places or "any index: pip is told --no-index"
        raise FrugalError(
            f"{file}: not found in {self._hidden(places)} ({self._hidden(reason)}). "
            "Is the network there? pip's own index settings are used"
        )

    def _hidden(self, text: str) -> str:
        """`text` without passwords."""
        text = without_passwords(text)
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    @contextlib.contextmanager
    def stream(self, url: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Bytes of `url` from `start` on: where they really start (0: all of it), and chunks."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            with self.client.get_stream(url, headers=headers) as response:
                if response.status_code != 416:
                    response.raise_for_status()
                    began = start if response.status_code == 206 else 0
                    yield began, iter(response.iter_bytes(1 << 20))
                    return
        except Exception as error:  # the client's errors share no class, and have the address
            error.args = tuple(self._hidden(a) if isinstance(a, str) else a for a in error.args)
            raise
        with self.stream(url, start=0) as everything:  # what was kept is longer than the file
            yield everything

    def close(self) -> None:
        """Close the connections that are still open."""
        self.client.close()


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the finder warns of while it looks, such as an index that does not answer."""
    heard: list[str] = []

    class Listen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    logger, handler = logging.getLogger("unearth"), Listen(logging.WARNING)
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
