"""What a user asked to be written: looked at before the work, and kept after it, come what may.

A disk can fill and a folder can go while the work is done. The result is then written to another
place, which is said, instead of being lost.
"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from frugal.engine.files import staged
from frugal.errors import FrugalError, reason

Save = Callable[[Path], object]  # writes a file, or fills a folder, at that path
LONGEST = 255  # bytes of a name, in every file system in use


def look(what: str, path: Path, folder: bool = False) -> None:
    """Raise FrugalError, which begins with `what`, for what is known to be in the way of `path`.

    folder: it is to be a folder, which is made with those above it; else a file in one there is
    """
    try:
        if path.exists() and path.is_dir() != folder:
            found, wanted = ("file", "folder") if folder else ("folder", "file")
            raise FrugalError(f"{what}: {path} is a {found}; a {wanted} is needed")
        if path.exists() and _printed_to(path):
            raise FrugalError(f"{what}: {path} is where this command prints; name another file")
        if special(path):
            return
        if any(len(os.fsencode(part)) > LONGEST for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        place = Path(os.path.realpath(path))
        place = place if place.is_dir() else place.parent
        while folder and not place.exists():
            place = place.parent
        if not place.is_dir():
            raise FrugalError(f"{what}: there is no folder {place if folder else path.parent}")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        raise FrugalError(f"{what}: {path} cannot be written: {reason(error)}") from error


def special(path: Path) -> bool:
    """Whether it is a pipe, a terminal or /dev/null: written to, never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _printed_to(path: Path) -> bool:
    """Whether it is our stdout or stderr under another name: each would overwrite the other."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(stream), path.stat()):
                return not path.samefile(os.devnull)
    return False


def keep(path: Path, save: Save) -> tuple[Path | None, str]:
    """Have `save` write `path`, or another place: where it lies, and what went wrong, or "".

    A file appears whole or not at all.
    """
    try:
        with staged(path) as fresh:
            save(fresh)
    except Exception as error:  # what a full disk makes of safetensors or pandas is no OSError
        kept = elsewhere(path.name, save, path.parent)
        if kept is None and not isinstance(error, OSError):
            raise
        where = f"it is in {kept}" if kept else "nor anywhere else, so it is lost"
        return kept, f"{path} cannot be written: {reason(error)}; {where}"
    return path, ""


def elsewhere(name: str, save: Save, *first: Path) -> Path | None:
    """Where `save` could write after all: in the folders `first`, or in another one."""
    for place in (*first, None, os.path.expanduser("~")):  # None: where temporary files are made
        folder = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="frugal-kept-", dir=place))
            save(folder / name[-60:])
            return folder / name[-60:]
        except Exception:  # as in `keep`; the next place may be better
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
    return None
