"""Several processes that work on one thing: whose part is whose, and sums over all of them.

`accelerate launch` starts them; every process holds the whole model and takes a part of the
examples. Alone, a process has all of them, and every function here does nothing.
"""

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from frugal.errors import FrugalError

T = TypeVar("T")


def join() -> None:
    """Take part in the group that a launcher set up, if one did; on CUDA, with a device of its own.

    Raises FrugalError where the package that knows how is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise FrugalError(
            "several processes need accelerate: pip install 'frugal-companion[cluster]'"
        ) from error
    PartialState(cpu=not torch.cuda.is_available())


def leave() -> None:
    """Leave the group, so that no process ends while another still waits for it."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def number() -> int:
    """This process's own number; the one with 0 writes files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def part(items: Sequence[T]) -> Sequence[T]:
    """This process's part of `items`: consecutive, about as many as any other's, maybe none."""
    at = [len(items) * i // count() for i in (number(), number() + 1)]
    return items[at[0] : at[1]]


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its sum over all processes, in one exchange, in fp32 at least."""
    if count() == 1:
        return
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    flat = torch.cat([t.detach().flatten().to(dtype) for t in tensors])
    dist.all_reduce(flat)
    with torch.no_grad():
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))


def gather(mine: T) -> list[T]:
    """What each process has, in their order; the same list in all of them."""
    if count() == 1:
        return [mine]
    found: list[Any] = [None] * count()
    dist.all_gather_object(found, mine)
    return found
