"""The state of a training on disk, so that one that was killed goes on to the same bits."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugal.engine import digests, files, processes
from frugal.errors import FrugalError

BEFORE = {"precision": "float32"}  # of what says nothing of it
DIGEST = "sha256"  # in a file's metadata: of its tensors, and of what else is there


class Checkpoint:
    """One file that holds all a training needs to go on: parameters, optimiser state, losses.

    of: what the training is a function of (recipe, data, …), as text; a file of another is refused,
        and so is one that is damaged: whoever removes it begins anew
    """

    def __init__(self, file: Path, of: Mapping[str, str]) -> None:
        self.file, self.of = file, dict(of)
        with self._mending():
            file.parent.mkdir(parents=True, exist_ok=True)
        if not processes.number():
            files.sweep(file.parent)

    def keep(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        loss: list[float],
        seconds: float,
    ) -> None:
        """Write the state beside the old one, then put it in its place: a kill loses no state.

        Of several processes the first writes; all of them read, so the folder must be shared.
        Raises FrugalError where the disk is full; the old state is then still there.
        """
        if processes.number():
            return
        tensors = {f"parameter/{name}": p.detach() for name, p in parameters.items()}
        for i, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": value for key, value in entries.items()}
        tensors["loss"] = torch.tensor(loss, dtype=torch.float64)
        tensors["seconds"] = torch.tensor(seconds, dtype=torch.float64)
        with self._mending():
            write(self.file, tensors, self.of)

    def restore(
        self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> tuple[list[float], float]:
        """Take up the state on disk, if there is one: losses of the steps done, seconds they took.

        Raises FrugalError for a file that cannot be read or is not what was written, and for one
        of another training; nothing of it is then taken up.
        """
        if not self.file.is_file():
            return [], 0.0
        try:
            tensors, of = read(self.file)
        except ValueError as error:
            raise self._unusable(f"not a readable checkpoint ({error})") from error
        for what, mine in self.of.items():
            if (there := of.get(what, BEFORE.get(what, ""))) != mine:
                how = (
                    f"its {what} is {there}, here {mine}"
                    if what in BEFORE
                    else f"its {what} differ"
                )
                raise FrugalError(
                    f"{self.file}: this checkpoint is of another training ({how}); "
                    "name another folder or remove it"
                )
        own = {name.removeprefix("parameter/") for name in tensors if name.startswith("parameter/")}
        if (
            own != set(parameters)
            or not {"loss", "seconds"} <= set(tensors)
            or any(tensors[f"parameter/{n}"].shape != p.shape for n, p in parameters.items())
        ):
            raise self._unusable("this checkpoint holds other tensors than this training has")
        state: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"parameter/{name}"])
        for key, value in tensors.items():
            if key.startswith("optimizer/"):
                _, i, entry = key.split("/")
                state.setdefault(int(i), {})[entry] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return [float(value) for value in tensors["loss"]], float(tensors["seconds"])

    def _unusable(self, why: str) -> FrugalError:
        return FrugalError(f"{self.file}: {why}; remove it to begin this training anew")

    def _mending(self) -> "files.Mending":
        return files.mending(
            self.file.parent,
            full="the last state of the training is kept. Make room and start it again",
            denied="name another folder",
        )


def write(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors and text about them, with a digest of both; whole or not at all."""
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with files.staged(file) as fresh:
        save_file(plain, fresh, metadata={**about, DIGEST: digest(plain, about)})


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write` wrote; ValueError where it is not that any more."""
    try:
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata() or {}
        tensors = load_file(file)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    if DIGEST not in about:
        raise ValueError("it has no digest, so it may be damaged")
    if about[DIGEST] != digest(tensors, about):
        raise ValueError("it is damaged: not what was written")
    return tensors, about


def about(file: Path) -> dict[str, str]:
    """What a checkpoint says of itself; nothing where there is none that can be read."""
    try:
        return read(file)[1]
    except ValueError:
        return {}


def digest(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Of tensors, with their names, types and shapes, and of the metadata `about` them."""
    said = [f"{k}\n{len(text)} {text}\n" for k, text in sorted(about.items()) if k != DIGEST]
    held = (
        part
        for name, value in sorted(tensors.items())
        for part in (f"{name}\n{value.dtype} {tuple(value.shape)}\n", digests.raw(value))
    )
    return digests.stream([*said, *held])
