"""Files and folders that appear whole or not at all, whoever is killed and wherever it is full.

What is not whole yet lies beside its place under a name that says which process makes it, so that
the next one to come can tell what a dead process left behind.
"""

import contextlib
import errno
import json
import math
import os
import platform
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frugal.errors import FrugalError

_HOST = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname() or platform.node()) or "host"
DAY = 24 * 3600.0  # after which what a process of another machine left is taken for forgotten


def write(file: Path, text: str) -> None:
    """Make `file` say `text`, whose last line ends, or leave it as it was if the disk is full."""
    with staged(file) as fresh:
        fresh.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")


def read_json(file: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises ValueError for bytes that are not UTF-8, for what `loads` refuses, and for no object.
    """
    found = loads(file.read_text(encoding="utf-8-sig"))
    if not isinstance(found, dict):
        raise ValueError("it holds no JSON object")
    return found


def loads(text: str) -> Any:
    """What JSON says that can be written again, and then says the same to whoever reads it.

    Raises ValueError for NaN, a number that no float or no 64 bits hold, half of a surrogate pair,
    more levels than can be read, and what is no JSON at all.
    """
    try:
        found = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
        if "\\ud" in text.lower():  # the only way to half a pair in text that was UTF-8
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text[:30]} is no number that is read here")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _whole(text: str) -> int:
    return int(text) if len(text) <= 20 and int(text).bit_length() <= 64 else _no_number(text)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes `path` when the block ends without error.

    Its last part is the same. A link stays one: what it leads to is replaced. What is no file (a
    pipe, a terminal, /dev/null, a folder that is there) is written to as it is.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        yield target
        return
    with _beside(target) as fresh:
        yield fresh
        if fresh.is_file():
            with fresh.open("rb") as written:  # its bytes reach the disk before its name does
                os.fsync(written.fileno())
        if target.exists():
            shutil.copymode(target, fresh)
        os.replace(fresh, target)


@contextlib.contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `folder` when the block ends without an error."""
    with _beside(folder) as fresh:
        fresh.mkdir()
        yield fresh
        for left in reversed(range(3)):  # others may do the same, where locks lock nothing
            with contextlib.suppress(FileNotFoundError):  # there is none, or another was faster
                os.rename(folder, fresh.with_name(f"old {left}"))
            try:
                fresh.rename(folder)
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not left:
                    raise


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A path in a folder of this process, on the disk of `target`; the folder is gone after.

    So is what dead processes left there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    mark = f".frugal~{_HOST}~{os.getpid()}~"
    place = Path(tempfile.mkdtemp(prefix=mark, dir=target.parent))
    try:
        yield place / target.name
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sweep(place: Path) -> None:
    """Remove the files and folders in `place` that dead processes were making."""
    with contextlib.suppress(OSError):
        for left in place.glob(".*~*~*~*"):
            *_, host, process, _ = left.name.split("~")
            if _abandoned(left, host, process):
                if left.is_dir() and not left.is_symlink():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)


def _abandoned(left: Path, host: str, process: str) -> bool:
    """Whether nobody works on it any more; of another machine's process only its age can tell."""
    if host != _HOST or not process.isdecimal():
        return time.time() - left.stat().st_mtime > DAY
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it lives, as somebody else's
        return False
    return False


Mending = contextlib.AbstractContextManager[None]


@contextlib.contextmanager
def mending(folder: Path, full: str, denied: str) -> Iterator[None]:
    """One line about a disk that is full or a folder that cannot be written.

    full, denied: what was kept and what to do
    """
    try:
        yield
    except Exception as error:
        number = _errno(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            raise FrugalError(f"{folder}: the disk is full; {full}") from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise FrugalError(
                f"{folder}: cannot be written ({os.strerror(number)}); {denied}"
            ) from error
        raise


def _errno(error: Exception) -> int:
    """The operating system's number of an error, 0 of another; safetensors has it in its text."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else 0
