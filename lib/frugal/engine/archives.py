"""Take named members out of a wheel or sdist, without running anything in it."""

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from frugal.errors import FrugalError

_Opener = Callable[[str], IO[bytes]]


def extract(path: Path, name: str, inner: str | None, members: Iterable[str], folder: Path) -> None:
    """Write `members` of the archive at `path` below `folder`, under their own paths.

    name:  the archive's file name, which says its kind
    inner: a member that is an archive itself and holds `members`

    Raises FrugalError for an archive that cannot be read, a member that is not there or is not a
    plain file, and one whose path would leave the folder.
    """
    if inner:
        nested = folder / "nested"
        extract(path, name, None, [inner], nested)
        extract(nested / inner, inner, None, members, folder)
        shutil.rmtree(nested)
        return
    try:
        if name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(path) as archive:
                _write(lambda m: archive.open(m), name, members, folder)
        else:
            with tarfile.open(path) as tar:

                def plain(member: str) -> IO[bytes]:
                    info = tar.getmember(member)
                    file = tar.extractfile(info) if info.isfile() else None
                    if file is None:  # a link could name any file of this machine
                        raise FrugalError(f"{name}: member {member} is not a plain file")
                    return file

                _write(plain, name, members, folder)
    except KeyError as error:
        raise FrugalError(f"{name}: {error.args[0]}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FrugalError(f"{name}: not a readable archive ({error})") from error


def _write(opened: _Opener, name: str, members: Iterable[str], folder: Path) -> None:
    for member in members:
        place = PurePosixPath(member)
        if place.is_absolute() or ".." in place.parts or "\\" in member or ":" in member:
            raise FrugalError(f"{name}: member {member!r} would leave the target folder")
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened(member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
