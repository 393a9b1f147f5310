"""The state of a training on disk, so that one that was killed goes on to the same bits."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from frugal.engine import processes
from frugal.errors import FrugalError


class Checkpoint:
    """One file that holds all a training needs to go on: parameters, optimiser state, losses.

    of: what the training is a function of (recipe, data, …), as text; a file of another is refused
    """

    def __init__(self, file: Path, of: Mapping[str, str]) -> None:
        self.file, self.of = file, dict(of)
        file.parent.mkdir(parents=True, exist_ok=True)

    def keep(
        self,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        loss: list[float],
        seconds: float,
    ) -> None:
        """Write the state beside the old one, then put it in its place: a kill loses no state.

        Of several processes the first writes; all of them read, so the folder must be shared.
        """
        if processes.number():
            return
        tensors = {f"parameter/{name}": p.detach() for name, p in parameters.items()}
        for i, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{i}/{key}": value for key, value in entries.items()}
        tensors["loss"] = torch.tensor(loss, dtype=torch.float64)
        tensors["seconds"] = torch.tensor(seconds, dtype=torch.float64)
        fresh = self.file.with_suffix(".new")
        save_file({k: v.contiguous() for k, v in tensors.items()}, fresh, metadata=self.of)
        os.replace(fresh, self.file)

    def restore(
        self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
    ) -> tuple[list[float], float]:
        """Take up the state on disk, if there is one: losses of the steps done, seconds they took.

        Raises FrugalError for a file that cannot be read, and for one of another training.
        """
        if not self.file.is_file():
            return [], 0.0
        try:
            with safe_open(self.file, framework="pt") as file:
                of = file.metadata() or {}
            tensors = load_file(self.file)
        except SafetensorError as error:
            raise FrugalError(f"{self.file}: not a readable checkpoint ({error})") from error
        for what, mine in self.of.items():
            if of.get(what, "") != mine:
                raise FrugalError(
                    f"{self.file}: this checkpoint is of another training (its {what} differ); "
                    "name another folder or remove it"
                )
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
