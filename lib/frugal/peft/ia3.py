"""(IA)³: three vectors a layer that rescale what attention and feed-forward compute.

Source: Liu et al., NeurIPS 2022, §3.3:

    softmax(Q (l_k ⊙ K)ᵀ / √d_k) (l_v ⊙ V)        every self- and cross-attention
    (l_ff ⊙ γ(W_1 x)) W_2                         every feed-forward

`scale_ff` multiplies the *input* of the down projection. For a gated feed-forward that is the same
function as scaling the output of `wi_1`, as the released code does; and it is right for T5 v1.0
too, where that code finds no `wi_1`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from frugal.peft.surgery import Layer, Projection, ones


def parameters(layers: Sequence[Layer]) -> dict[str, nn.Parameter]:
    """Vectors of ones for every place of `layers`, by name.

    Names are `<attention>.scale_k`, `<attention>.scale_v` (out features of k, v: all heads
    together) and `<feed-forward>.scale_ff` (d_ff,).
    """
    return {
        name: ones(p.in_features if on_input else p.out_features, p.module.weight)
        for name, p, on_input in places(layers)
    }


def hook(layers: Sequence[Layer], parameters: dict[str, nn.Parameter]) -> list[RemovableHandle]:
    """Make the projections multiply by their vectors, until the handles are removed."""
    return [
        p.module.register_forward_pre_hook(_scale_input(parameters[name]))
        if on_input
        else p.module.register_forward_hook(_scale_output(parameters[name], p))
        for name, p, on_input in places(layers)
    ]


def places(layers: Sequence[Layer]) -> list[tuple[str, Projection, bool]]:
    """Name of each vector, the projection it belongs to, and whether it scales its input."""
    found = []
    for layer in layers:
        for attention in layer.attentions:
            found.append((f"{attention.name}.scale_k", attention.k, False))
            found.append((f"{attention.name}.scale_v", attention.v, False))
        found.append((f"{layer.feed_forward.name}.scale_ff", layer.feed_forward.down, True))
    return found


def _scale_output(scale: Tensor, projection: Projection) -> Callable[..., Tensor]:
    def hook(module: Any, args: Any, output: Tensor) -> Tensor:
        factor = scale.to(output.dtype)
        if not projection.fused:
            return output * factor  # l_k ⊙ K, l_v ⊙ V
        before, after = projection.outputs.start, output.shape[-1] - projection.outputs.stop
        return output * nn.functional.pad(factor, (before, after), value=1.0)

    return hook


def _scale_input(scale: Tensor) -> Callable[..., Tensor]:
    def hook(module: Any, args: tuple[Tensor, ...]) -> Tensor:
        return args[0] * scale.to(args[0].dtype)  # l_ff ⊙ γ(W_1 x)

    return hook


@torch.no_grad()
def fold(layers: Sequence[Layer], parameters: dict[str, nn.Parameter]) -> None:
    """Multiply the vectors into the weights: l ⊙ (W x + b) = (l ⊙ W) x + l ⊙ b, in place."""
    for name, projection, on_input in places(layers):
        scale = parameters[name].to(projection.module.weight.dtype)
        if on_input:
            projection.weight().mul_(scale[None, :])
        else:
            projection.weight().mul_(scale[:, None])
            if (bias := projection.bias()) is not None:
                bias.mul_(scale)
