"""Each kernel against its plain reference, on the machine that it is about to run on."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from frugal.kernels import frozen_vocab, ia3_gated, int8, int8_products

EXACT = 1e-5  # of the largest value: sums of float32 in another order


class Check(NamedTuple):
    """error: largest difference, as a share of the reference's largest value"""

    name: str
    error: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.error <= self.bound  # not so where it is NaN


def run(device: str | torch.device) -> list[Check]:
    """All of them, forward and backward, on made-up numbers of odd shapes; in halves on a GPU too.

    What raises counts as infinitely wrong.
    """
    found = []
    halves = {torch.bfloat16: 2e-2} if torch.device(device).type == "cuda" else {}
    for dtype, bound in ({torch.float32: EXACT} | halves).items():
        for name, both in _cases(torch.device(device), dtype):
            try:
                error = _apart(*both())
            except Exception:  # a driver, a compiler: whatever fails, the kernel does not serve
                error = float("inf")
            found.append(Check(f"{name}, {str(dtype).removeprefix('torch.')}", error, bound))
    return found


def _apart(one: Tensor, other: Tensor) -> float:
    one, other = one.double(), other.double()
    return float((one - other).abs().max() / other.abs().max())


def _cases(
    device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[str, Callable[[], tuple[Tensor, Tensor]]]]:
    """What a kernel gives and what its reference does, by name."""
    generator = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    x, w = some(37, 72), some(50, 72).float()
    joined = int8.Joined([w], None).to(device)
    yield "int8", lambda: (joined(x, 0), int8_products.reference(x, joined.weights).to(dtype))
    g = some(37, 50)

    def int8_gradient() -> tuple[Tensor, Tensor]:
        (found,) = torch.autograd.grad(joined(x.requires_grad_(), 0), x, g)
        return found, int8_products.gradient_reference(g, joined.weights).to(dtype)

    yield "int8 gradient", int8_gradient

    h, words = some(4999, 24), some(301, 24)  # so many places that the words are two blocks
    target, row = (torch.randint(n, (6000,), generator=generator).to(device) for n in (301, 4999))
    yield from _forward_and_gradient(
        "frozen_vocab",
        lambda t: frozen_vocab.token_logp(t, words, target, row),
        lambda t: frozen_vocab.reference(t, words, target, row),
        h,
    )
    if device.type != "cuda":  # there the reference is all there is of the next one
        return
    up, vectors, tasks = some(3, 19, 136), some(4, 136), torch.tensor([2, 0, 2], device=device)
    for activation in ia3_gated.ACTIVATIONS:
        yield from _forward_and_gradient(
            f"ia3_gated {activation}",
            partial(_gated, ia3_gated.gated, up, vectors, tasks, activation),
            partial(_gated, ia3_gated.reference, up, vectors, tasks, activation),
            some(3, 19, 136),
        )


def _gated(
    form: Callable[..., Tensor],
    up: Tensor,
    vectors: Tensor,
    tasks: Tensor,
    activation: str,
    gate: Tensor,
) -> Tensor:
    return form(gate, up, vectors, tasks, activation)


def _forward_and_gradient(
    name: str, kernel: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor], of: Tensor
) -> Iterator[tuple[str, Callable[[], tuple[Tensor, Tensor]]]]:
    yield name, lambda: (kernel(of), reference(of))

    def both() -> tuple[Tensor, Tensor]:
        found: list[Tensor] = []
        for function in (kernel, reference):
            own = of.detach().requires_grad_()
            found += torch.autograd.grad(function(own).square().sum(), own)
        return found[0], found[1]

    yield f"{name} gradient", both
