"""What breaks under a process at its n-th touch of the disk: no room left, an error, its end.

`install` puts itself between Python and the files below one folder: writes, fsync, renames, and the
files that safetensors writes by itself. A touch that fails has written half of its bytes.
"""

import builtins
import errno
import io
import os
import signal
from pathlib import Path

KINDS = ("full", "error", "kill", "interrupt")


class Breaking:
    """Counts touches; at number `at` it does what `kind` says. kind "": it only counts.

    full:      no space left, from that write on
    error:     one input/output error, of a write, an fsync or a rename
    kill:      the process is gone in the middle of it
    interrupt: as if somebody pressed Ctrl-C
    """

    def __init__(self, kind, at, root, journal):
        self.kind, self.at, self.root = kind, at, os.path.realpath(root)
        self.journal, self.count = journal, 0

    def here(self, path):
        if isinstance(path, int):
            return False
        found = os.path.realpath(os.fspath(path))
        found = found if isinstance(found, str) else os.fsdecode(found)
        return found.startswith(self.root + os.sep)

    def touch(self, half=lambda: None, grows=True):
        """One touch of the disk; `half` does half of it. grows: whether it needs room."""
        self.count += 1
        if self.journal is not None:
            os.pwrite(self.journal, b"%12d" % self.count, 0)
        late = self.kind == "full" and self.count > self.at and grows
        if self.count != self.at and not late:
            return
        if self.kind == "full":
            if not grows:
                self.at += 1  # a rename needs no room: the next touch is the one
                return
            half()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.kind == "error":
            half()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self.kind == "kill":
            half()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)


def install(breaking):
    """Put `breaking` under everything that this process writes below its folder."""
    real_open, real_fsync = io.open, os.fsync

    class Raw(io.FileIO):
        def write(self, data):
            view = bytes(data)
            breaking.touch(lambda: io.FileIO.write(self, view[: len(view) // 2]))
            return super().write(view)

    def opened(
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        plain = not set(mode) & set("wax+") or opener is not None or not breaking.here(file)
        if plain:
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(file, "".join(c for c in mode if c in "rwax+"))
        if buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        return io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)

    def fsync(fd):
        breaking.touch()
        return real_fsync(fd)

    def renaming(real):
        def rename(source, target, **more):
            if breaking.here(target):
                breaking.touch(grows=False)
            return real(source, target, **more)

        return rename

    io.open = builtins.open = opened
    os.fsync = fsync
    os.replace, os.rename = renaming(os.replace), renaming(os.rename)
    _under_safetensors(breaking)


def _under_safetensors(breaking):
    """Its files are written by Rust: half of one is the first half of the finished bytes."""
    import safetensors.torch

    real = safetensors.torch.serialize_file

    def serialize_file(tensors, filename, metadata=None):
        def half():
            real(tensors, filename, metadata=metadata)
            os.truncate(filename, Path(filename).stat().st_size // 2)

        if breaking.here(filename):
            try:
                breaking.touch(half)
            except OSError as error:
                raise safetensors.SafetensorError(f"I/O error: {error.strerror}") from error
        return real(tensors, filename, metadata=metadata)

    safetensors.torch.serialize_file = serialize_file


def without_locks():
    """As on a network file system whose `flock` succeeds and locks nothing."""
    import fcntl

    fcntl.flock = lambda *_: None
    fcntl.lockf = lambda *_: None
