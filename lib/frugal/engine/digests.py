"""What tells one input from another: digests of files, folders, values and backbones.

A name is no input, its content is: whatever a stored result depends on is in its key by one of
these, so that an edited file or another model under the same name is another run.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugal import data
from frugal.errors import FrugalError, reason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer
    from torch import Tensor

SETTLED = 2.0  # seconds: a file that changed later than so long ago may change under its old times
_known: dict[str, tuple[tuple[int, ...], str]] = {}  # of settled files, by path


def of(*values: Any) -> str:
    """sha256, in hex, of what JSON can hold; the order of keys does not matter."""
    return text(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False))


def stream(parts: "Iterable[str | Buffer]") -> str:
    """sha256, in hex, of texts (as UTF-8) and bytes, one after the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()


def text(text: str) -> str:
    """sha256, in hex, of a text."""
    return stream([text])


def raw(tensor: "Tensor") -> Any:
    """The bytes of a tensor, whatever its type and wherever it lies."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def weights(named: "Iterable[tuple[str, Tensor]]") -> str:
    """Of tensors and their names: what tells one model, or one start of a training, from another.

    named: as `named_parameters` gives them
    """
    return stream(part for name, value in named for part in (name, raw(value)))


def stamp(path: Path) -> list[int]:
    """What changes with every write to a file: its size, its times, and which file it is."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def settled(path: Path) -> bool:
    """Whether its times tell the next write from the last one."""
    return time.time() - max(path.stat().st_mtime, path.stat().st_ctime) > SETTLED


def file(path: Path) -> str:
    """sha256 of a file, in hex. Large files that nobody wrote to are not read twice."""
    before = tuple(stamp(path))
    kept = _known.get(key := os.path.abspath(path))
    if kept and kept[0] == before:
        return kept[1]
    quiet, found = settled(path), read(path)
    if quiet and tuple(stamp(path)) == before:
        _known[key] = (before, found)
    return found


def read(path: Path) -> str:
    """sha256 of a file, in hex; every byte is read."""
    with path.open("rb") as opened:
        return stream(iter(lambda: opened.read(1 << 20), b""))


def folder(path: Path) -> str:
    """Of all files below a folder, by their names in it; hidden ones do not count."""
    below = {p.relative_to(path): p for p in sorted(path.rglob("*")) if p.is_file()}
    seen = {name: p for name, p in below.items() if not any(x.startswith(".") for x in name.parts)}
    return of({name.as_posix(): file(p) for name, p in seen.items()})


def pin(name: str, ending: str = "") -> str:
    """Of a pinned artifact, or its member of that ending: what it must be, here or not."""
    from frugal.engine import artifacts

    entry = artifacts.pinned()[name]
    return of(entry.sha256, {m: sha for m, sha in entry.members.items() if m.endswith(ending)})


def backbone(name: str) -> str:
    """Of the weights, sizes and tokenizer that `backbones.load` would find under a name.

    Raises FrugalError for a hub id that the hub does not give.
    """
    from frugal.engine import backbones, nano, tiny

    if name in tiny.MODELS:
        return f"built in: {name}"
    if name == "nano-t0":
        return of(folder(data.ROOT / "checkpoints" / name), pin(nano.BASE))
    if name in backbones.PINNED:
        return pin(name)
    if Path(name).is_dir():
        found = folder(Path(name))
        return of(found, pin(nano.BASE)) if (Path(name) / nano.WEIGHTS).is_file() else found
    return _commit(name)


def _commit(name: str) -> str:
    """The commit of a hub repository that loading it takes."""
    from huggingface_hub import hf_hub_download

    try:
        found = Path(hf_hub_download(name, "config.json"))
    except Exception as error:  # each layer of the client raises a kind of its own
        raise FrugalError(
            f"cannot tell what backbone {name!r} holds: no such folder, and the Hugging Face hub "
            f"did not give it ({reason(error)})"
        ) from error
    return f"hub commit {found.parent.name}"
