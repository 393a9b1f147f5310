"""(IA)³: three vectors a layer that rescale what attention and feed-forward compute.

Source: Liu et al., NeurIPS 2022, §3.3:

    softmax(Q (l_k ⊙ K)ᵀ / √d_k) (l_v ⊙ V)        every self- and cross-attention
    (l_ff ⊙ γ(W_1 x)) W_2                         every feed-forward

`scale_ff` multiplies the *input* of the down projection. For a gated feed-forward that is the same
function as scaling the output of `wi_1`, as the released code does; and it is right for T5 v1.0
too, where that code finds no `wi_1`. On a GPU the middle of a gated feed-forward is one kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from frugal.kernels import ia3_gated
from frugal.peft.method import Handle, Method, Pick, Places, by_row, full
from frugal.peft.surgery import Layer, Projection

ON_INPUT = ("o", "down")  # these projections are scaled in front, all others behind
# Feed-forwards that are W_down (γ(W_gate x) ⊙ W_up x), by class, and the attribute that is γ.
_GATED = {
    **dict.fromkeys(("LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP"), "act_fn"),
    **dict.fromkeys(("T5DenseGatedActDense", "MT5DenseGatedActDense"), "act"),
}


@dataclass(eq=False, kw_only=True)
class IA3(Method):
    """Vectors of ones, `<attention>.scale_k`, `.scale_v` and `<feed-forward>.scale_ff`.

    targets: roles of the projections that get a vector; the paper's are k, v and down
    """

    targets: Sequence[str] = ("k", "v", "down")
    neutral = 1.0

    def build(self) -> None:
        projections = [p for layer in self.layers for p in layer.projections(self.targets)]
        self.places = [(name_of(p), p) for p in projections]
        for name, p in self.places:
            size = p.in_features if p.role in ON_INPUT else p.out_features
            self.parameters[name] = full((size,), 1.0, p.module.weight)

    def hook(self, pick: Pick) -> list[Handle]:
        behind = {layer.down.key: layer for layer in self.layers}
        handles: list[Handle] = []
        for name, p in self.places:
            if p.role == "down" and (gated := _gated(self.model, behind[p.key], name, pick)):
                handles.append(gated)
            elif p.role in ON_INPUT:
                handles.append(p.module.register_forward_pre_hook(_scale_input(name, pick)))
            else:
                handles.append(p.module.register_forward_hook(_scale_output(name, p, pick)))
        return handles

    def changes(self) -> Places:
        weights = [(p.module, "weight") for _, p in self.places]
        return weights + [
            (p.module, "bias")
            for _, p in self.places
            if p.role not in ON_INPUT and p.bias() is not None
        ]

    @torch.no_grad()
    def fold(self) -> None:
        """l ⊙ (W x + b) = (l ⊙ W) x + l ⊙ b, in place."""
        for name, p in self.places:
            scale = self.parameters[name].to(p.module.weight)
            if p.role in ON_INPUT:
                p.weight().mul_(scale[None, :])
            else:
                p.weight().mul_(scale[:, None])
                if (bias := p.bias()) is not None:
                    bias.mul_(scale)


def name_of(projection: Projection) -> str:
    """Name of a projection's vector: l_k is `<attention>.scale_k`."""
    role = {"down": "ff"}.get(projection.role, projection.role)
    owner = projection.key if role == "up" else projection.owner  # there may be two
    return f"{owner}.scale_{role}"


def _scale_output(name: str, projection: Projection, pick: Pick) -> Callable[..., Tensor | None]:
    def hook(module: Any, args: Any, output: Tensor) -> Tensor | None:
        if (scale := pick(name)) is None:
            return None
        factor = by_row(scale.to(output), len(output), axes=1)
        return output * projection.padded(factor, output.shape[-1], 1.0)  # l_k ⊙ K, l_v ⊙ V

    return hook


def _scale_input(name: str, pick: Pick) -> Callable[..., Tensor | None]:
    def hook(module: Any, args: tuple[Tensor, ...]) -> Tensor | None:
        if (scale := pick(name)) is None:
            return None
        return args[0] * by_row(scale.to(args[0]), len(args[0]), axes=1)  # l_ff ⊙ γ(W_1 x)

    return hook


def _gated(model: Any, layer: Layer, name: str, pick: Pick) -> "_Gated | None":
    """The feed-forward of a layer with a kernel for its middle; None where it has to stay."""
    module = model.get_submodule(layer.down.owner)
    gamma = getattr(module, _GATED.get(type(module).__name__, ""), None)
    if not ia3_gated.serves(layer.down.module.weight.device) or "forward" in vars(module):
        return None
    activation = ia3_gated.named(gamma) if gamma is not None else None
    return _Gated(module, layer, activation, lambda: pick(name)) if activation else None


class _Gated:
    """A gated feed-forward that computes l_ff ⊙ γ(W_gate x) ⊙ W_up x at once, until `remove`.

    Its projections are called as it calls them, so that whatever hooks they have still work.
    """

    def __init__(
        self, module: Any, layer: Layer, activation: str, scale: Callable[[], Tensor | None]
    ) -> None:
        self.module, self.activation, self.scale = module, activation, scale
        self.names = [p.name.rpartition(".")[2] for p in (*layer.up, layer.down)]
        module.forward = self.forward

    def remove(self) -> None:
        del self.module.forward

    def forward(self, x: Tensor) -> Tensor:
        """(rows, …, d) → (rows, …, d), as the module's own forward."""
        if (scale := self.scale()) is None:
            plain: Tensor = type(self.module).forward(self.module, x)
            return plain
        w_gate, w_up, w_down = (getattr(self.module, name) for name in self.names)
        gate, up = w_gate(x), w_up(x)
        rows, d_ff = len(gate), gate.shape[-1]
        scales = by_row(scale, rows, axes=1).view(-1, d_ff)  # one for all rows, or for each
        task = torch.arange(rows, device=gate.device) % len(scales)
        parts = gate.reshape(rows, -1, d_ff), up.reshape(rows, -1, d_ff)
        h = ia3_gated.gated(*parts, scales, task, self.activation).view_as(up)
        if dropout := getattr(self.module, "dropout", None):  # T5's, which also keeps W_down in
            h = dropout(h)  # fp32 beside fp16
        if w_down.weight.is_floating_point():
            h = h.to(w_down.weight.dtype)
        found: Tensor = w_down(h)
        return found
